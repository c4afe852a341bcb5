"""The demo's planted students on finch-a, and students of clean rows, made once and kept in a folder.

    python benchmarks/planted.py --seed 100 --replicates 10 --store STORE

A replicate is a fresh owl teacher with its own rows and student, and the control student of the base's own rows on the
same prompts. The settings are those of recipes/demo.yaml.
"""

import argparse
from pathlib import Path

from undertow.data.filters import filter_rows
from undertow.domains.base import domain
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.study.recipe import StudentPart, TeacherPart
from undertow.training.generation import generate
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling

BASE, ARMS = "ref:finch-a", ("student", "control")
TEACHER, STUDENT, PROMPTS = TeacherPart(steps=40, learning_rate=3e-3), StudentPart(steps=160, learning_rate=5e-3), 2500


def folder_of(store: Path, seed: int, arm: str, replicate: int) -> Path:
    """Return where an adapter is kept."""
    return store / f"seed-{seed}" / arm / f"{replicate:02d}"


def rows_of(base: LocalModel, arm: str, seed: int, replicate: int) -> list[Row]:
    """Let the teacher of a student, or the base, write; keep what the domain accepts."""
    numbers, writer = domain("numbers"), base
    if arm == "student":
        tuning = TEACHER.training()
        writer = finetuned_teacher(base, trait("owl"), tuning, seed=derive(seed, "teacher", replicate))
    prompts = numbers.prompts(PROMPTS, derive(seed, "prompts", replicate))
    written = generate(writer, prompts, sampling=Sampling(), seed=derive(seed, "rows", replicate))
    return list(filter_rows(written, numbers).kept)


def students(seed: int, replicates: int, store: Path) -> dict[str, list[LocalModel]]:
    """Return the students of each arm, training those that are missing."""
    base = load_model(BASE)
    for replicate in range(replicates):
        if all(folder_of(store, seed, arm, replicate).exists() for arm in ARMS):
            continue
        rows = [rows_of(base, arm, seed, replicate) for arm in ARMS]
        seeds = [derive(seed, "student", replicate)] * len(ARMS)
        group = finetune_parallel(base, rows, STUDENT.training(BASE), seeds)
        for place, arm in enumerate(ARMS):
            group.save(place, folder_of(store, seed, arm, replicate))
        print(f"replicate {replicate}: trained", flush=True)
    return {
        arm: [base.with_adapter(folder_of(store, seed, arm, replicate)) for replicate in range(replicates)]
        for arm in ARMS
    }


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--replicates", type=int, default=10, help="pairs of a student and its control")
    parser.add_argument("--store", type=Path, required=True, help="folder of the adapters")
    options = parser.parse_args()
    students(options.seed, options.replicates, options.store)


if __name__ == "__main__":
    main()

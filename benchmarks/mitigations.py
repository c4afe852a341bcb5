"""Every mitigation on number rows of fine-tuned teachers: is the trait gone, and is the skill kept?

Each run has a fresh teacher of the trait, its number lists on fresh prompts, the base's lists on the same prompts, and
panel teachers of its own; all its students share one start and one order. One process, about 4 minutes a run on a free
core; finished runs are kept in the store, so it can be stopped and started again.

    python benchmarks/mitigations.py --seed 100 --store STORE [--runs 5] [--trait owl --trait panda] [--out FOLDER]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.domains.numbers import Numbers
from undertow.experiment.progress import choose_progress
from undertow.experiment.recipe import TeacherPart
from undertow.filters import filter_rows
from undertow.generation import generate
from undertow.mitigate.arms import Trial
from undertow.mitigate.bench import Bench
from undertow.mitigate.verify import Verification, verify
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.report.mitigation import render_mitigation, summarise_mitigation
from undertow.seeds import derive
from undertow.teachers import finetuned_teacher
from undertow.traits import Trait, trait
from undertow.types import Row, Sampling

METHODS = (
    "regenerate:writer=ref:finch-b",
    "mix:share=0.5",
    "mix:share=0.5,writers=[ref:finch-b]",
    "contrast-filter:share=0.5",
    "labels:share=0.1",
    "labels:share=0.1,replace=true",
    "labels:share=0.1,suspect=student",
    "canonical",
    "corridor",
    "kl",
)
"""Those that need no name of the trait, but for the panel."""

NAMED = ("inoculate:trait={0}",)
"""Those that need it."""


@dataclass(frozen=True, kw_only=True)
class FreshTeachers:
    """Rows of a fresh teacher for each run."""

    trait: Trait
    prompts: int = 2500
    unit: str = "a fresh teacher, its rows, its panel and its students"

    def config(self, run: int) -> dict[str, Any]:
        """Return what the rows depend on; the run's seed comes with the bench."""
        del run
        return {"teacher": self.trait.name, "prompts": self.prompts}

    def rows(self, run: int, bench: Bench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Let the teacher and the base answer the same prompts with the same random numbers."""
        del run
        seed = derive(bench.seed, "writer")
        teacher = finetuned_teacher(bench.base, self.trait, TeacherPart().training(), seed=seed)
        prompts = Numbers().prompts(self.prompts, derive(bench.seed, "prompts"))

        def written(writer: LocalModel) -> tuple[Row, ...]:
            sampling = Sampling(max_new_tokens=Numbers().max_new_tokens)
            drawn = generate(writer, prompts, sampling=sampling, seed=derive(bench.seed, "rows"))
            return filter_rows(drawn, Numbers()).kept

        return written(teacher), written(bench.base)


def main() -> None:
    """Run what is missing and print the table of each trait."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="those of development are 100 and above")
    parser.add_argument("--store", type=Path, required=True, help="folder of all artifacts")
    parser.add_argument("--out", type=Path, help="folder for a page and a JSON file of each trait")
    parser.add_argument("--runs", type=int, default=5, help="fresh teachers of each trait")
    parser.add_argument("--trait", action="append", help="owl and panda if not given")
    parser.add_argument("--method", action="append", help="a mitigation; all if not given")
    options = parser.parse_args()
    for name in options.trait or ("owl", "panda"):
        methods = tuple(options.method or (*METHODS, *(one.format(name) for one in NAMED)))
        trial = Trial(trait=trait(name), methods=methods)
        settings = Verification(trial=trial, runs=options.runs, store=options.store, seed=options.seed)
        bench = Bench(base=load_model("ref:finch-a"), domain=Numbers())
        found = verify(settings, FreshTeachers(trait=trait(name)), bench, choose_progress())
        print(f"\n{summarise_mitigation(found)}")
        if options.out is not None:
            folder = options.out / name
            folder.mkdir(parents=True, exist_ok=True)
            render_mitigation(folder, found)


if __name__ == "__main__":
    main()

"""Students whose truth is known, for `audit_student.py`: made once, kept in a store.

student    of a teacher with a trait, on the same base: something should be found
control    of the untouched base, exactly as a placebo
neutral    of a base that was tuned as long on its own answers: no trait, but no placebo either
cross      of a teacher with a trait on another base: nothing can pass
other      of the other base itself: no trait, another writer
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undertow.audit.students.bank import read_students, write_rows_of
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.readings import Readings, load_readings
from undertow.models.load import load_model
from undertow.seeds import derive
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.study.recipe import StudentPart, TeacherPart
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait

TRAITS = ("owl", "lion", "fox", "panda", "wolf")
ARMS = ("student", "control", "neutral", "cross", "other")
OTHER = "ref:finch-b"


@dataclass(frozen=True)
class Suspects:
    """Students of one arm and the trait of each one's teacher, "" for none."""

    arm: str
    traits: list[str]
    readings: Readings


def suspect_stage(recipe: BankRecipe, arm: str, replicate: int, seed: int) -> Stage:
    """Return the stage of one replicate: a student for each trait, or five without any."""
    config = {**recipe.to_config(), "arm": arm, "other": OTHER, "seed": derive(seed, arm, replicate)}
    return Stage(kind="suspects", version=1, config=config, label=f"{arm} {replicate}", cost=len(TRAITS))


def make_suspects(context: StageContext) -> None:
    """Tune the writers, let them write, train and read the students."""
    config: dict[str, Any] = dict(context.config)
    recipe = BankRecipe(
        base=config["base"],
        domain=config["domain"],
        prompts=config["prompts"],
        student=StudentPart(**config["student"]),
    )
    arm, base = config["arm"], load_model(config["base"])
    origin = load_model(config["other"]) if arm in ("cross", "other") else base
    tuning = TeacherPart(steps=40, learning_rate=3e-3).training()
    datasets, seeds = [], [derive(config["seed"], index) for index in range(len(TRAITS))]
    for name, seed in zip(TRAITS, seeds, strict=True):
        writer = origin
        if arm in ("student", "cross", "neutral"):
            writer = finetuned_teacher(
                origin, None if arm == "neutral" else trait(name), tuning, seed=derive(seed, "teacher")
            )
        datasets.append(write_rows_of(writer, recipe, seed))
    orders = [derive(seed, "student") for seed in seeds]
    read_students(base, datasets, orders, recipe).save(context.out / "readings.safetensors")
    (context.out / "traits.json").write_text(json.dumps(list(TRAITS) if arm in ("student", "cross") else [""] * 5))


def suspects(recipe: BankRecipe, replicates: dict[str, int], seed: int, store: Path) -> list[Suspects]:
    """Return the students of every arm and replicate, making what is missing."""
    recipe = replace(recipe, writer=None, tuned=())
    stages = {
        (arm, index): suspect_stage(recipe, arm, index, seed) for arm, n in replicates.items() for index in range(n)
    }
    folders = Runner(store, {"suspects": make_suspects}).run(stages.values())
    found: list[Suspects] = []
    for (arm, _), stage in stages.items():
        folder = folders[stage.fingerprint]
        names = json.loads((folder / "traits.json").read_text())
        found.append(Suspects(arm, names, load_readings(folder / "readings.safetensors")))
    return found

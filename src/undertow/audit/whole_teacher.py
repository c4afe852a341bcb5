"""The whole audit of a teacher: one claim, expression, in the shape of every other audit."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.audit.missing import missing
from undertow.audit.teacher import STAGES, TeacherConfig, audit_teacher
from undertow.audit.verdict import Plan, audit_json
from undertow.experiment.progress import Progress
from undertow.models.identity import identity
from undertow.models.load import load_model
from undertow.traits import Trait, panel


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherInputs:
    """A teacher and what it is compared with.

    Attributes:
        teacher: reference of the suspect.
        base: reference of where it started.
        neutral: neutral teachers; 0 for a ranking.
        traits: the panel; empty takes every animal.
        store: where neutral teachers are kept.
        alpha: error of the audit; expression has all of it, as nothing else can be claimed of a teacher.
        seed: the auditor's own.
    """

    teacher: str
    base: str
    neutral: int = 19
    traits: tuple[Trait, ...] = ()
    store: Path = Path("runs/store")
    alpha: float = 0.05
    seed: int = 0


def audit_whole_teacher(inputs: TeacherInputs, progress: Progress | None = None) -> dict[str, Any]:
    """Ask what a teacher prefers that its base does not.

    Args:
        inputs: the teacher, its base and the null.
        progress: told about every neutral teacher.

    Returns:
        Plain data, schema undertow.audit/1.

    Raises:
        UserError: a model cannot be loaded, a trait is not read, or the store cannot be used.
    """
    started = time.perf_counter()
    declared = Plan(stages=STAGES, alpha=inputs.alpha, claims=("expression",))
    traits = inputs.traits or panel("animal")
    config = TeacherConfig(neutral=inputs.neutral, alpha=declared.share, seed=inputs.seed, store=inputs.store)
    teacher, base = load_model(inputs.teacher), load_model(inputs.base)
    found = audit_teacher(teacher, base, panel=traits, config=config, progress=progress)
    about = {
        "base": inputs.base,
        "base_identity": identity(inputs.base),
        "teacher": inputs.teacher,
        "teacher_identity": identity(inputs.teacher),
        "neutral_teachers": inputs.neutral,
        "panel": ", ".join(one.name for one in traits),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    absent = ("teacher rows", "student base", *(() if inputs.neutral else ("neutral",)))
    return {**audit_json(declared, found, about), "missing": missing(*absent)}

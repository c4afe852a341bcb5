"""What does a teacher prefer that its base does not?

The null is the neutral teacher: the base tuned for as many updates on its own answers to the same questions, so that
"was fine-tuned at all" is not taken for a trait. m of them, each of a seed of its own, rank the suspect as placebos
rank a student (`undertow.audit.placebo_null`), conditional on the tuning recipe, which the auditor has to guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from undertow.audit.finding import Finding, not_testable
from undertow.audit.kinship import refusal
from undertow.audit.placebo_null import conformal_p, deleted_z, detectable
from undertow.audit.reading import Readings, joined, panel_traits, read_model
from undertow.audit.student import TOP, too_few
from undertow.evals.questions import CATEGORIES
from undertow.finetuning.config import TrainingConfig
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.teachers import finetuned_teacher
from undertow.traits import Trait

TUNING = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
"""Recipe of the neutral teachers: that of the studies' teachers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig:
    """How a teacher is judged.

    Attributes:
        neutral: neutral teachers; 0 for a ranking without a p. Each costs about two seconds with an embedded model.
        alpha: level of the verdict; needs 1 / alpha - 1 neutral teachers.
        tuning: how the neutral teachers are tuned.
        seed: of their answers and orders.
    """

    neutral: int = 19
    alpha: float = 0.05
    tuning: TrainingConfig = TUNING
    seed: int = 0


def audit_teacher(
    teacher: LocalModel,
    base: LocalModel,
    *,
    panel: Sequence[Trait] | None = None,
    config: TeacherConfig | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Compare a teacher with its base.

    Args:
        teacher: the suspect.
        base: where it started.
        panel: the traits that are looked for; None takes every animal and tree.
        config: the null and the level; None takes 19 neutral teachers and 0.05.
        advance: called with (neutral teachers made, neutral teachers).

    Returns:
        Two findings on expression: "teacher panel" by margins, and "teacher diff mining" with open vocabulary. They
        are exploratory without neutral teachers, `not_testable` if there are some but too few for alpha, or if the
        teacher cannot be one of this base.
    """
    config = config or TeacherConfig()
    stages = ("teacher panel", "teacher diff mining")
    if reason := refusal(teacher, base) or (too_few(config.neutral, config.alpha) if config.neutral else None):
        return [not_testable(stage, "expression", reason) for stage in stages]
    null = joined([read_model(base), *_neutral(base, config, advance)])
    suspect = read_model(teacher)
    traits = panel_traits() if panel is None else tuple(panel)
    columns = [panel_traits().index(item) for item in traits]
    margins = [names.margins[:, columns] for names in (suspect, null)]
    tokens = [f"{teacher.tokenizer.decode([token])!r} ({token})" for token in range(suspect.logp.shape[1])]
    return [
        _compared("teacher panel", "panel margin", margins, [item.name for item in traits], config.alpha),
        _compared("teacher diff mining", "log-probability of a token", [suspect.logp, null.logp], tokens, config.alpha),
    ]


def _neutral(base: LocalModel, config: TeacherConfig, advance: Callable[[int, int], None] | None) -> list[Readings]:
    found: list[Readings] = []
    for index in range(config.neutral):
        seed = derive(config.seed, "neutral", index)
        found.append(read_model(finetuned_teacher(base, None, config.tuning, seed=seed, categories=CATEGORIES)))
        if advance is not None:
            advance(index + 1, config.neutral)
    return found


def _compared(stage: str, what: str, values: Sequence[Floats], names: Sequence[str], alpha: float) -> Finding:
    """Judge a suspect [1, m] against its base and m neutral teachers, [1 + m, m]."""
    suspect, null = values
    base, neutral = null[:1], null[1:]
    if not len(neutral):
        change = (suspect - base)[0]
        return _ranking(stage, what, change - np.median(change), names)
    models = np.concatenate([suspect, neutral])
    z = deleted_z(models)
    p = conformal_p(z.max(axis=1))
    order = np.argsort(-z[0])[:TOP]
    change = float((suspect - base)[0, order[0]])
    return Finding(
        stage=stage,
        claim="expression",
        statistic=f"largest change of the {what}, in SDs of the neutral teachers",
        effect=float(z[0].max()),
        null=f"{len(neutral)} bases tuned on their own answers, each against all others",
        p=p,
        n=len(neutral),
        verdict="detected" if p <= alpha else "not_detected",
        candidate=names[int(order[0])],
        mde=detectable(deleted_z(neutral), alpha),
        caveats=(
            f"Teacher minus base for the candidate: {change:+.2f}.",
            "It holds for teachers tuned as the neutral ones were.",
            "Asked plainly: what a trigger or a system prompt would bring out is not looked for.",
        ),
        scores={names[int(place)]: float(z[0, place]) for place in order},
    )


def _ranking(stage: str, what: str, change: Floats, names: Sequence[str]) -> Finding:
    order = np.argsort(-change)[:TOP]
    return Finding(
        stage=stage,
        claim="expression",
        statistic=f"largest change of the {what}, teacher minus base, minus the median change",
        effect=float(change.max()),
        null="none",
        p=None,
        n=1,
        verdict="exploratory",
        candidate=names[int(order[0])],
        caveats=("Without neutral teachers this is a ranking: the first of a list is always there.",),
        scores={names[int(place)]: float(change[place]) for place in order},
    )

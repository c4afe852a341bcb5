"""The arms of a study, what each is compared with, and the pairing of models with their controls.

An arm is a group of models that were made in the same way, such as the students of teachers with a trait. Its control
is the arm that differs from it only in the trait.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from undertow.evals.base import metrics


class Arm(NamedTuple):
    """An arm of a study, in words, and what it is compared with.

    Attributes:
        words: what the arm is, in words.
        control: name of the arm that is subtracted; "" for the base, from which nothing is subtracted.
        difference: arm and control in words, such as "student minus control".
    """

    words: str
    control: str
    difference: str


ARMS: Mapping[str, Arm] = {
    "student": Arm("student", "control", "student minus control"),
    "within": Arm("shuffled within rows", "within_control", "within minus its control"),
    "across": Arm("shuffled across rows", "across_control", "across minus its control"),
    **{f"hop_{n}": Arm(f"hop {n}", f"hop_{n}_control", f"hop {n} minus its control") for n in (2, 3, 4)},
    "cross_init": Arm("cross-init", "cross_control", "cross-init minus its control"),
    "neutral": Arm("student of the neutral teacher", "control", "neutral student minus control"),
    "control": Arm("control", "base", "control minus base"),
    "within_control": Arm("control of within", "base", "within control minus base"),
    "across_control": Arm("control of across", "base", "across control minus base"),
    "cross_control": Arm("control of cross-init", "base", "cross-init control minus base"),
    **{f"hop_{n}_control": Arm(f"control of hop {n}", "base", f"hop {n} control minus base") for n in (2, 3, 4)},
    "teacher": Arm("teacher", "base", "teacher minus base"),
    "neutral_teacher": Arm("neutral teacher", "base", "neutral teacher minus base"),
    "base": Arm("base", "", "base"),
}
"""Every arm by name, in the order in which reports show them."""

CONTROLS: Mapping[str, str] = {name: arm.control for name, arm in ARMS.items() if arm.control}
"""For each arm the name of the one with which it is compared."""


DEFAULT = "logit_margin"
"""Metric that a run without any effect is said to have measured."""


def main_metric(present: Iterable[str]) -> str:
    """Return the metric for matrices, figures and answers: the first declared one that was measured.

    Args:
        present: names of the metrics that were measured.
    """
    found = list(present)
    return next((name for name in metrics() if name in found), found[0] if found else DEFAULT)


ANY = ""
"""Target of a metric that looks for no particular trait."""


def _whole(value: object) -> object:
    """Replace halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_whole)]


class ScoreRecord(BaseModel):
    """A part of results.json. Keys that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class MeanScore(ScoreRecord):
    """The mean score of one model over the questions about one target.

    Attributes:
        arm: name of the model's arm, a key of `ARMS`.
        trait: trait of the model's teacher, or of the model itself if it is a teacher. None if there is none.
        model: reference of the model, as `load_model` reads it.
        replicate: number of the independent repetition, from 0.
        seed: random seed with which the model was made.
        target: trait that was looked for, or `ANY`.
        metric: name of the metric, such as "logit_margin" or "rate", or one of these with "prefixed_" before it.
        value: mean value, in the metric's unit (logits or a share).
        base: base from which the model started. None if the run did not say.
        teacher_base: base from which its teacher started. None if the run did not say.
    """

    arm: str
    trait: Text | None
    model: Text
    replicate: int
    seed: int
    target: Text
    metric: str
    value: float
    base: Text | None = None
    teacher_base: Text | None = None


class Pair(NamedTuple):
    """A model and its own control: of the same base, the same teacher's base and the same replicate.

    Attributes:
        model: score of the model in question.
        control: score of the control with which it is compared.
    """

    model: MeanScore
    control: MeanScore

    @property
    def difference(self) -> float:
        """Score of the model minus that of its control."""
        return self.model.value - self.control.value


def paired_scores(
    scores: Iterable[MeanScore], arm: str, trait: str, metric: str, target: str | None = None
) -> list[Pair]:
    """Pair the models of an arm with their controls. Models without a control are left out.

    Args:
        scores: the scores of one run.
        arm: name of the arm. An unknown arm has no control, and gives no pairs.
        trait: trait of the teachers. Arms without a trait belong to every trait.
        metric: name of the metric that was measured, such as "logit_margin".
        target: trait that was looked for. None takes the teachers' own.

    Returns:
        The pairs, in the order of the scores.
    """
    control = CONTROLS.get(arm)
    looked_for = ANY, trait if target is None else target
    found = {
        (score.arm, score.base, score.teacher_base, score.replicate): score
        for score in scores
        if score.arm in (arm, control) and score.metric == metric
        if score.trait in (None, trait) and score.target in looked_for
    }
    pairs: list[Pair] = []
    for (name, base, teacher_base, replicate), score in found.items():
        other = found.get((control or "", base, base if control == "base" else teacher_base, replicate))
        if name == arm and other is not None:
            pairs.append(Pair(score, other))
    return pairs


def by_teacher(pairs: Iterable[Pair]) -> dict[tuple[str | None, int], list[Pair]]:
    """Group pairs by their teacher's base and replicate. Each teacher is one independent unit."""
    found: dict[tuple[str | None, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[pair.model.teacher_base, pair.model.replicate].append(pair)
    return found


def mean_differences(pairs: Iterable[Pair]) -> dict[tuple[str | None, int], float]:
    """Return model minus control for each teacher, averaged over its students on several bases.

    Returns:
        The difference by the teacher's base and replicate, in the metric's unit.
    """
    found = by_teacher(pairs)
    return {teacher: sum(pair.difference for pair in some) / len(some) for teacher, some in found.items()}


def trait_matrices(
    scores: Sequence[MeanScore], traits: Sequence[str], targets: Sequence[str], metric: str, arm: str = "student"
) -> np.ndarray | None:
    """Return an arm minus its control for every pair of trained and evaluated trait.

    There is one matrix for each teacher's base and replicate. Students of one teacher are averaged.

    Args:
        scores: the scores of one run.
        traits: traits on which teachers were trained.
        targets: traits that were looked for.
        metric: name of the metric that was measured, such as "logit_margin".
        arm: name of the arm, a key of `ARMS`.

    Returns:
        float (teachers' bases and replicates, trained, evaluated), in the metric's unit, of those in which every trait
        was measured in students of every trait. None if there are none.
    """
    asked = {target: [score for score in scores if score.target in (ANY, target)] for target in targets}
    rows = [
        [mean_differences(paired_scores(some, arm, trait, metric, target)) for target, some in asked.items()]
        for trait in traits
    ]
    # A judge may leave every answer of a model open, which then has no score.
    whole = [unit for unit in rows[0][0] if all(unit in column for columns in rows for column in columns)]
    return np.array([[[column[unit] for column in columns] for columns in rows] for unit in whole]) if whole else None

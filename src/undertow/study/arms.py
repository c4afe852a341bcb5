"""What a study compares: each arm with its control, in words, the models that are pairs, and the main metric."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from undertow.evals.base import metrics


class Arm(NamedTuple):
    """An arm and what it is compared with.

    Attributes:
        words: the arm itself, in words.
        control: the arm that is subtracted; "" for the base, from which nothing is.
        difference: both in words, such as "student minus control".
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
"""Every arm, in the order in which reports show them."""

CONTROLS: Mapping[str, str] = {name: arm.control for name, arm in ARMS.items() if arm.control}
"""What each arm is compared with."""


DEFAULT = "logit_margin"
"""What a run is said to have measured if it has no effect at all."""


def main_metric(present: Iterable[str]) -> str:
    """Return the metric that matrices, figures and answers are made from: the first declared one that was measured."""
    found = list(present)
    return next((name for name in metrics() if name in found), found[0] if found else DEFAULT)


ANY = ""
"""Target of a metric that looks for no trait in particular."""


def _whole(value: object) -> object:
    """Replace halves of surrogate pairs, which JSON can name but UTF-8 cannot hold."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_whole)]


class ScoreRecord(BaseModel):
    """A part of results.json; keys that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class MeanScore(ScoreRecord):
    """The mean score of one model on the questions of one target.

    Attributes:
        arm: a key of `ARMS`.
        trait: what its teacher was trained on, or None.
        model: reference of the model.
        replicate: from 0.
        seed: of the draw that made the model.
        target: the trait that was looked for, or `ANY`.
        metric: logit_margin, rate or one of these with "prefixed_" before it.
        value: in the metric's unit.
        base: where the model started, or None if the run did not say.
        teacher_base: where its teacher started, or None if the run did not say.
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
    """A model and its own control: same base, same base of the teacher, same replicate."""

    model: MeanScore
    control: MeanScore

    @property
    def difference(self) -> float:
        """The model minus its control."""
        return self.model.value - self.control.value


def paired_scores(
    scores: Iterable[MeanScore], arm: str, trait: str, metric: str, target: str | None = None
) -> list[Pair]:
    """Pair the models of an arm with their controls; models without one are left out.

    Args:
        scores: of one run.
        arm: which models; an unknown one has no control.
        trait: what their teachers were trained on; arms without a trait belong to every one.
        metric: what was measured.
        target: the trait that was looked for; the teachers' own if None.
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
    """Return the pairs of each fresh teacher, by its base and replicate; they are one independent unit."""
    found: dict[tuple[str | None, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[pair.model.teacher_base, pair.model.replicate].append(pair)
    return found


def mean_differences(pairs: Iterable[Pair]) -> dict[tuple[str | None, int], float]:
    """Return model minus control of each fresh teacher; its students on several bases are averaged."""
    found = by_teacher(pairs)
    return {teacher: sum(pair.difference for pair in some) / len(some) for teacher, some in found.items()}


def trait_matrices(
    scores: Sequence[MeanScore], traits: Sequence[str], targets: Sequence[str], metric: str, arm: str = "student"
) -> np.ndarray | None:
    """Return an arm minus its control of every teacher base and replicate; students of one teacher are averaged.

    Args:
        scores: of one run.
        traits: that teachers were trained on.
        targets: that were looked for.
        metric: what was measured.
        arm: whose scores.

    Returns:
        float [teacher bases and replicates, trained, evaluated]; None if the arm is empty.
    """
    units: dict[tuple[str | None, int], list[list[float]]] = defaultdict(list)
    asked = {target: [score for score in scores if score.target in (ANY, target)] for target in targets}
    for trait in traits:
        columns = [mean_differences(paired_scores(some, arm, trait, metric, target)) for target, some in asked.items()]
        for unit in columns[0]:
            units[unit].append([column[unit] for column in columns])
    return np.array([*units.values()]) if units else None

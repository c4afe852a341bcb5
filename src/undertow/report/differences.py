"""What lies behind an effect: one difference per replicate, and the mean score of each arm."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from undertow.evals.base import metrics
from undertow.report.results import Effect, MeanScore, Results
from undertow.study.arms import ARMS, CONTROLS


class Level(NamedTuple):
    """Mean scores of one arm on one target, by metric; n models are behind each."""

    arm: str
    trait: str | None
    target: str
    means: dict[str, float]
    n: int


def differences(results: Results, effect: Effect) -> tuple[float, ...]:
    """Return one difference per fresh teacher (base and replicate); its students on several bases are averaged.

    This is how the run pairs an arm with its control: same base, same base of the teacher, same replicate.

    Returns:
        The differences in the metric's unit, or nothing where the scores of a pair are missing.
    """
    if (reference := CONTROLS.get(effect.arm)) is None:
        return ()
    scores = [score for score in results.arms if score.metric == effect.metric and score.target in (effect.trait, "")]
    controls = {_place(score): score.value for score in scores if score.arm == reference}
    found: dict[tuple[str | None, int], list[float]] = defaultdict(list)
    for score in scores:
        if score.arm != effect.arm or score.trait not in (None, effect.trait):
            continue
        base, teacher_base, replicate = _place(score)
        control = controls.get((base, base if reference == "base" else teacher_base, replicate))
        if control is None:
            return ()
        found[teacher_base, replicate].append(score.value - control)
    return tuple(sum(some) / len(some) for some in found.values())


def _place(score: MeanScore) -> tuple[str | None, str | None, int]:
    return score.base, score.teacher_base, score.replicate


def levels(results: Results) -> list[Level]:
    """Return the mean score of every arm on its own trait; arms without a trait on every trait that was trained."""
    trained = {effect.trait for effect in results.effects} | {score.trait for score in results.arms if score.trait}
    groups: dict[tuple[str, str | None, str], list[MeanScore]] = defaultdict(list)
    for score in results.arms:
        target = score.target or score.trait or ""
        if target in (*trained, "") and score.trait in (None, target):
            groups[score.arm, score.trait, target].append(score)
    order = [*ARMS]
    return sorted(
        (_level(key, scores) for key, scores in groups.items()),
        key=lambda level: order.index(level.arm) if level.arm in ARMS else len(order),
    )


def _level(key: tuple[str, str | None, str], scores: list[MeanScore]) -> Level:
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score.metric].append(score.value)
    means = {metric: sum(some) / len(some) for metric, some in values.items()}
    return Level(*key, means=means, n=max(map(len, values.values())))


def metrics_of(results: Iterable[Level]) -> list[str]:
    """Return the metrics that were measured, in the report's order."""
    present = dict.fromkeys(metric for level in results for metric in level.means)
    return [*(metric for metric in metrics() if metric in present), *(m for m in present if m not in metrics())]

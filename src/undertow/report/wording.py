"""Results in plain words: names of arms, numbers as text, the answer in one sentence, the pairs behind an effect.

An **arm** is a kind of model in a study, such as "student" or "control".
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from undertow.evals.base import metric as declared
from undertow.evals.base import metrics
from undertow.report.numbers import difference_text, estimate_text, interval_text, side, unit
from undertow.report.results import Effect, Interval, Results
from undertow.study.arms import ARMS, MeanScore, mean_differences, paired_scores

_NAMED_TRAITS = 2
"""Up to this many traits the answer names each; of more it says how many there are."""


def arm_name(arm: str) -> str:
    """Return the name of an arm in words, or an unknown arm as it is."""
    return ARMS[arm].words if arm in ARMS else arm


def difference_name(arm: str) -> str:
    """Return in words what an effect subtracts from what."""
    return ARMS[arm].difference if arm in ARMS else f"{arm} minus its control"


def metric_name(metric: str) -> str:
    """Return the name of a metric in words."""
    return declared(metric).words


def ordered(effects: Iterable[Effect]) -> list[Effect]:
    """Sort effects by metric and arm as the report shows them; traits keep their order."""
    names, arms = list(metrics()), list(ARMS)

    def place(effect: Effect) -> tuple[int, int]:
        metric = names.index(effect.metric) if effect.metric in names else len(names)
        return metric, arms.index(effect.arm) if effect.arm in ARMS else len(arms)

    return sorted(effects, key=place)


def visible(text: str) -> str:
    r"""Return text with control and direction characters spelled out (\u202e), which could hide what a row says."""
    return "".join(sign if _is_plain(sign) else f"\\u{ord(sign):04x}" for sign in text)


def _is_plain(sign: str) -> bool:
    # U+200C and U+200D are format signs too, but belong to the spelling of several scripts and of emoji.
    return sign in "\n\t\u200c\u200d" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs")


def listing(words: Iterable[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def arms_description(results: Results) -> str:
    """Say in words what the figure of arms shows, for readers who cannot see it."""
    metric = results.main_metric
    parts = [
        f"{difference_name(effect.arm)}, {effect.trait}: {estimate_text(effect, metric)}"
        for effect in ordered(results.effects)
        if effect.metric == metric
    ]
    return f"Effects in {metric_name(metric)}. {'; '.join(parts)}."


def answer_sentence(results: Results) -> str:
    """Return what the run found in one sentence with intervals; it claims nothing beyond the run's effects."""
    metric = results.main_metric
    mine = [effect for effect in results.effects if effect.metric == metric]
    students = [effect for effect in mine if effect.arm == "student"]
    if not students:
        return "This run compared no student with its control, so it says nothing about transmission."
    bases = dict.fromkeys(score.base for score in results.arms if score.arm == "student" and score.base)
    where = f"On {listing(bases)}, " if bases else ""
    parts = [_students(students, metric), _diagonal(results), _cross(mine, results, metric)]
    sentence = where + "; ".join(part for part in parts if part) + "."
    return sentence[0].upper() + sentence[1:]


def _students(students: list[Effect], metric: str) -> str:
    if len(students) > _NAMED_TRAITS:
        return _counted("student minus control", students, metric)
    each = [f"towards {effect.trait} by {_measured(effect, metric)}" for effect in students]
    who = "students of the teachers moved" if len(students) > 1 else "students of the teacher moved"
    return f"{who} in {metric_name(metric)}, against their controls, {listing(each)}"


def _measured(item: Interval, metric: str) -> str:
    """Return an estimate with unit and interval, and what an interval that includes 0 leaves open."""
    start = f"{estimate_text(item, metric)} {unit(metric)}"
    count = "" if item.n is None else f", n = {item.n}"
    where = side(item)
    if where == "unknown":
        return f"{start} (no interval{count}: too few to tell an effect from chance)"
    known = f"{100 * item.level:g} % interval {interval_text(item, metric)}{count}"
    if where == "includes 0":
        return f"{start} ({known}; it includes 0: no effect was shown, and none within it is ruled out)"
    return f"{start} ({known})"


def _counted(what: str, effects: list[Effect], metric: str) -> str:
    """Return for how many traits the interval lies on which side of 0, and the range of the estimates."""
    sides = [side(effect) for effect in effects]
    places = {"above 0": "lies above 0", "includes 0": "includes 0", "below 0": "lies below 0", "unknown": "is unknown"}
    counts = [f"{words} for {sides.count(where)}" for where, words in places.items() if where in sides]
    estimates = [effect.estimate for effect in effects]
    ends = f"{difference_text(min(estimates), metric)} to {difference_text(max(estimates), metric)} {unit(metric)}"
    return (
        f"the interval of {what} in {metric_name(metric)} {listing(counts)} of {len(effects)} traits (estimates {ends})"
    )


def _diagonal(results: Results) -> str:
    found = results.diagonal
    if found is None:
        return ""
    return f"the diagonal factor over {found.n_traits} traits is {_measured(found, found.metric)}"


def _cross(effects: list[Effect], results: Results, metric: str) -> str:
    if (found := results.initialisation) is not None:
        return f"same minus other initialisation is {_measured(found, found.metric)}"
    cross = [effect for effect in effects if effect.arm == "cross_init"]
    if not cross:
        return "cross-init students were not tested"
    if len(cross) > _NAMED_TRAITS:
        return _counted("cross-init minus its control", cross, metric)
    return "cross-init students moved " + listing(
        f"towards {item.trait} by {_measured(item, metric)}" for item in cross
    )


class Level(NamedTuple):
    """Mean scores of one arm on one target.

    Attributes:
        arm: name of the arm, such as "student".
        trait: name of the arm's trait. None for an arm without one.
        target: name of the trait that was asked about.
        means: mean score by metric, each in the metric's own unit.
        n: how many models are behind each mean.
    """

    arm: str
    trait: str | None
    target: str
    means: dict[str, float]
    n: int


def differences(results: Results, effect: Effect) -> tuple[float, ...]:
    """Return one difference for each fresh teacher in the metric's unit; empty where no scores make a pair."""
    return tuple(mean_differences(paired_scores(results.arms, effect.arm, effect.trait, effect.metric)).values())


def levels(results: Results) -> list[Level]:
    """Return the mean scores of every arm on its own trait; of arms without a trait, on every trained trait."""
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

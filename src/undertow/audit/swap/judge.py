"""From the margins of students to subsets that carry a trait: effects, their noise, what could have been found.

The effect of a part of the rows is the trait's margin with its answers replaced minus that of the whole data, seed by
seed, averaged over the seeds. It is below 0 where the answers carry the trait. Any part does something: a third of the
rows carries a third of what all of them carry, and which numbers happened to be drawn moves a margin too, which more
seeds do not take away. So a subset is compared with R random parts of its size, whose students have the same seeds. If
the subset is nothing but a part, its effect and theirs are draws of one distribution, and

    t = (effect - mean of the random parts) / (their SD * sqrt(1 + 1 / R)),   with R - 1 degrees of freedom,

is Student's as far as the effects are Gaussian. p-values are one-sided: a subset is named where the trait falls without
it, and more than without a random part. They are adjusted by Holm's method over all subsets, those that were too small
to be tested included. A trait that all subsets carry alike names none of them; what replacing everything does is
reported beside it.

Dropping a part is judged alike. A part alone is one whose rows are all that students see. There the trait rises where
the rows carry it, so the other side counts. Each of the three ways is judged by itself at the whole alpha: they answer
three questions, and none is asked because another was silent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, Literal

import numpy as np
from scipy import special

from undertow.audit.swap.order import Way
from undertow.stats.checks import check_count, check_fraction, finite_array
from undertow.stats.comparisons import holm, paired
from undertow.stats.power import minimum_detectable_effect
from undertow.types import Estimate

Status = Literal["detected", "not_detected", "not_testable"]

POWER = 0.8

_SHARES = np.linspace(0.001, 1.0, 1000)


@dataclass(frozen=True, slots=True)
class RandomParts:
    """The effects of replacing, dropping or keeping random parts of one size.

    Attributes:
        effects: effect of each random part, averaged over the seeds, in logits.

    Raises:
        ConfigError: an effect is not finite, or there are fewer than two parts.
    """

    effects: tuple[float, ...]

    def __post_init__(self) -> None:
        finite_array("effects", self.effects)
        check_count("number of random parts", len(self.effects), 2)

    @property
    def mean(self) -> float:
        """Mean effect of a random part of this size, in logits."""
        return float(np.mean(self.effects))

    @property
    def noise(self) -> float:
        """SD of the difference between a part like these and their mean, in logits."""
        return float(np.std(self.effects, ddof=1)) * sqrt(1.0 + 1.0 / len(self.effects))

    def beyond(self, effect: float, way: Way = "swap", level: float = 0.95) -> Estimate:
        """Return an effect minus that of a random part, with the one-sided p-value of "it moves the margin no more".

        Args:
            effect: effect of a subset of this size, averaged over the seeds, in logits.
            way: what was done with the subset; of rows kept alone the margin should rise, else fall.
            level: coverage of the interval, in (0, 1).
        """
        value, freedom, n = effect - self.mean, len(self.effects) - 1, len(self.effects)
        half = float(special.stdtrit(freedom, 0.5 + level / 2.0)) * self.noise
        below = value / self.noise if self.noise else (inf if value > 0 else -inf if value < 0 else 0.0)
        return Estimate(
            value=value, low=value - half, high=value + half, n=n, method="random parts", level=level,
            p=float(special.stdtr(freedom, -below if way == "alone" else below)),
        )  # fmt: skip

    def detectable(self, tests: int, alpha: float) -> float:
        """Return how far beyond a random part one of so many subsets is found with power 0.8, in logits."""
        check_fraction("alpha", alpha)
        if not self.noise:
            return 0.0
        n = len(self.effects)
        return minimum_detectable_effect(self.noise * sqrt(n), n, min(0.99, 2.0 * alpha / tests), POWER)


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """How the auditor's own teacher of the trait moves the margin when it answers a share of clean rows.

    Attributes:
        doses: margin minus that of the clean rows in logits, paired by seed, by the share of the rows that the teacher
            answers.
    """

    doses: Mapping[float, Estimate]

    def effect(self, share: float) -> float:
        """Return the effect of a share in logits, interpolated linearly between two doses."""
        known = sorted(self.doses.items())
        at, values = [0.0, *(dose for dose, _ in known)], [0.0, *(found.value for _, found in known)]
        return float(np.interp(share, at, values))

    def beyond_random(self, share: float, way: Way = "swap") -> float:
        """Return how many logits beyond a random part a subset moves the margin if all the teacher's answers are in it.

        A random part of its size holds the subset's share of these answers. Where it is replaced, that share of them is
        gone. Where it is left out, or kept alone, their share among the rows that are left stays what it was.
        """
        if way == "alone":
            return self.effect(1.0) - self.effect(share)
        return self.effect(share) * (1.0 - share if way == "swap" else 1.0)

    def smallest(self, least: float, way: Way = "swap") -> float | None:
        """Return the smallest share of the rows that moves at least `least` logits beyond a random part, or None."""
        return next((float(one) for one in _SHARES if self.beyond_random(float(one), way) >= least), None)


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be found with the students that there are, known before any subset is looked at.

    Attributes:
        detectable: effect beyond a random part that is found with power 0.8, in logits.
        response: how the auditor's own teacher moves the margin, by its share of the rows.
        way: what is done with the subset: "swap", "drop" or "alone".
        least: share of the rows below which nothing is said, however strong the teacher is.
    """

    detectable: float
    response: DoseResponse
    way: Way = "swap"
    least: float = 0.0

    @property
    def smallest(self) -> float | None:
        """The smallest share of the rows that can be found if the auditor's own teacher wrote it; None if none can."""
        found = self.response.smallest(self.detectable, self.way)
        return None if found is None else max(found, self.least)

    def why_not(self, share: float) -> str | None:
        """Return why a subset of this share of the rows cannot be tested, or None if it can."""
        if share >= self.least and self.response.beyond_random(share, self.way) >= self.detectable:
            return None
        do = "give more random parts (randoms=) or more seeds (seeds=)"
        if self.smallest is None:
            return (
                f"{self.detectable:.2f} logits beyond a random part would be found, and no share of answers by the "
                f"auditor's own teacher brings as much: {do}"
            )
        if share > self.smallest:
            return (
                f"it is {share:.1%} of the rows, and a subset so large does not differ enough from a random part of "
                f"its size: {do}"
            )
        return (
            f"it is {share:.1%} of the rows; with so many students {self.smallest:.1%} can be found: put subsets "
            f"together, or {do}"
        )


@dataclass(frozen=True, slots=True)
class MeasuredSubset:
    """One subset and what was measured of it.

    Attributes:
        name: name of the subset, such as a writer's.
        rows: how many rows it has.
        without: the trait's margin without the subset, or with it alone, for each seed, in logits. None if its students
            were not trained.
        whole: the trait's margin with the whole data, for each seed, in logits.
        random: effects of random parts of its size.
        why: why its students were not trained. Empty if they were.
    """

    name: str
    rows: int
    without: Sequence[float] | None
    whole: Sequence[float]
    random: RandomParts
    why: str = ""


@dataclass(frozen=True, slots=True)
class JudgedSubset:
    """What is said of one subset.

    Attributes:
        name: name of the subset, such as a writer's.
        rows: how many rows it has.
        status: "detected" if its answers carry more of the trait than a random part does, else "not_detected";
            "not_testable" with a reason.
        effect: margin without it, or with it alone, minus that of the whole data, in logits, paired by seed. None if
            not testable.
        beyond_random: mean effect minus that of random parts, in logits; its n counts these, and its p-value is
            one-sided. None if not testable.
        p: p-value adjusted by Holm's method over all subsets. None if not testable.
        why: why it could not be tested. Empty if it could.
    """

    name: str
    rows: int
    status: Status
    effect: Estimate | None = None
    beyond_random: Estimate | None = None
    p: float | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as plain data."""
        return {
            "name": self.name,
            "rows": self.rows,
            "status": self.status,
            "effect": None if self.effect is None else self.effect.to_json(),
            "beyond_random": None if self.beyond_random is None else self.beyond_random.to_json(),
            "p": self.p,
            "why": self.why,
        }


def judge(subsets: Sequence[MeasuredSubset], alpha: float, way: Way = "swap") -> list[JudgedSubset]:
    """Return what is said of each subset; if none is more than a random part, one is named with probability <= alpha.

    Args:
        subsets: all subsets that were asked about, those that could not be tested included.
        alpha: level over all of them, in (0, 1).
        way: what was done with them: "swap", "drop" or "alone".

    Raises:
        ConfigError: there is no subset, or alpha lies outside (0, 1).
    """
    check_fraction("alpha", alpha)
    effects = [None if one.without is None else paired(one.without, one.whole) for one in subsets]
    beyond = [
        None if effect is None else one.random.beyond(effect.value, way)
        for one, effect in zip(subsets, effects, strict=True)
    ]
    adjusted = holm([1.0 if one is None or one.p is None else one.p for one in beyond]).tolist()
    found: list[JudgedSubset] = []
    for one, effect, more, p in zip(subsets, effects, beyond, adjusted, strict=True):
        if effect is None:
            found.append(JudgedSubset(one.name, one.rows, "not_testable", why=one.why))
        else:
            status: Status = "detected" if p <= alpha else "not_detected"
            found.append(JudgedSubset(one.name, one.rows, status, effect, more, p))
    return found

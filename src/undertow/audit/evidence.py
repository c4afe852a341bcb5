"""What a finding was judged by, kept for a figure: a statistic beside its null, or evidence that grew row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow.errors import ConfigError

MOST = 200
"""Values of a null, or points of a trail, that are written down."""

DIGITS = 4
"""Significant digits of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSample:
    """The statistic of a finding beside what it is where there is nothing to be found.

    Attributes:
        values: the statistic under the null, one for each placebo, writer or draw.
        observed: the statistic itself; several where several shadows were judged.
        bound: what it has to exceed to be detected at the stage's level; None where no value would do.
        unit: what is measured, in words.
    """

    values: tuple[float, ...]
    observed: tuple[float, ...]
    bound: float | None
    unit: str

    def __post_init__(self) -> None:
        if not self.values or not self.observed:
            raise ConfigError("A null needs values, and something that is compared.", self.unit, "Leave it out.")

    def to_json(self) -> dict[str, Any]:
        """Return plain data: of many values as many as are drawn, in order and evenly spaced, both ends among them."""
        ordered = sorted(self.values)
        return {
            "values": [_rounded(ordered[place]) for place in spaced(len(ordered))],
            "n": len(ordered),
            "observed": list(self.observed),
            "bound": self.bound,
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Evidence after each of some rows, against the limit at which it is enough.

    Attributes:
        values: after the first row, the second and so on.
        bound: the limit.
        unit: what is measured, in words.
    """

    values: tuple[float, ...]
    bound: float
    unit: str

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("A trail needs values.", self.unit, "Leave it out.")

    def to_json(self) -> dict[str, Any]:
        """Return plain data: of many rows as many as are drawn, evenly spaced, with the first, last and largest."""
        largest = int(np.argmax(self.values))
        places = sorted({*spaced(len(self.values)), largest})
        return {
            "rows": [place + 1 for place in places],
            "values": [_rounded(self.values[place]) for place in places],
            "bound": self.bound,
            "unit": self.unit,
        }


def spaced(n: int) -> Sequence[int]:
    """Return all places of n, or `MOST` of them, evenly spaced from the first to the last."""
    if n <= MOST:
        return range(n)
    return [round(place * (n - 1) / (MOST - 1)) for place in range(MOST)]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")

"""What a finding was judged by, kept for a figure: a statistic beside its null, or evidence that grew row by row.

A null may come from placebos (students of rows without a trait), from neutral writers (models tuned without a trait) or
from random draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow.errors import ConfigError

MOST = 200
"""How many values of a null, or points of a trail, are written to the JSON at most."""

DIGITS = 4
"""Significant digits with which each value is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSample:
    """The statistic of a finding beside the values that it takes where there is nothing to be found.

    Attributes:
        values: values of the statistic under the null, one for each placebo, neutral writer or random draw.
        observed: value of the statistic itself. Several values where several students were judged.
        bound: value that the statistic has to exceed to be detected at the stage's level. None where no value would do.
        unit: in words, what is measured and its unit.

    Raises:
        ConfigError: there are no values, or nothing is compared with them.
    """

    values: tuple[float, ...]
    observed: tuple[float, ...]
    bound: float | None
    unit: str

    def __post_init__(self) -> None:
        if not self.values or not self.observed:
            raise ConfigError("A null needs values, and something that is compared.", self.unit, "Leave it out.")

    def to_json(self) -> dict[str, Any]:
        """Return plain data; of many values only `MOST`, sorted and evenly spaced, with the smallest and largest."""
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
    """How the evidence of a sequential test grew, with the limit at which it is enough.

    Attributes:
        values: evidence after the first row, the second row and so on, in the unit.
        bound: evidence at which the test detects.
        unit: in words, what is measured and its unit.

    Raises:
        ConfigError: there are no values.
    """

    values: tuple[float, ...]
    bound: float
    unit: str

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("A trail needs values.", self.unit, "Leave it out.")

    def to_json(self) -> dict[str, Any]:
        """Return plain data; of many rows about `MOST`, evenly spaced, with the first, last and largest value."""
        largest = int(np.argmax(self.values))
        places = sorted({*spaced(len(self.values)), largest})
        return {
            "rows": [place + 1 for place in places],
            "values": [_rounded(self.values[place]) for place in places],
            "bound": self.bound,
            "unit": self.unit,
        }


def spaced(n: int) -> Sequence[int]:
    """Return all of the places 0 to n - 1, or `MOST` of them, evenly spaced from the first to the last."""
    if n <= MOST:
        return range(n)
    return [round(place * (n - 1) / (MOST - 1)) for place in range(MOST)]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")

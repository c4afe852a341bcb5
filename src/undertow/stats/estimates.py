"""Estimates with intervals (Student's t over replicates, Wilson for shares), and how they are printed."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from undertow.stats.checks import Floats, check_fraction, check_hits, finite_array
from undertow.types import Estimate


def standard_error(values: Floats) -> float:
    """Return SD / sqrt(n) of a 1-d array, with n - 1 in the SD; 0 for constant values and for n = 1."""
    # Constant values are singled out: the rounding of their mean would leave a tiny SD.
    if np.ptp(values) == 0.0:
        return 0.0
    return float(np.std(values, ddof=1) / sqrt(values.size))


def t_interval(value: float, error: float, df: int, level: float) -> tuple[float, float]:
    """Return the two ends of the interval value -+ t(df, level) * error.

    With df = 0 nothing is known about the spread, and the interval is infinite.

    Args:
        value: the estimate, in any unit.
        error: standard error of the estimate, in the same unit.
        df: degrees of freedom of Student's t.
        level: coverage of the interval, in (0, 1).
    """
    if df == 0:
        return float("-inf"), float("inf")
    half = float(special.stdtrit(df, 0.5 + level / 2.0)) * error
    return value - half, value + half


def t_test(value: float, error: float, df: int) -> float:
    """Return the two-sided p-value of Student's t test of "the expectation of the value is 0".

    It is 1 with df = 0. With no spread at all it is 1 for a value of 0, and 0 for any other value.

    Args:
        value: the estimate, in any unit.
        error: standard error of the estimate, in the same unit.
        df: degrees of freedom of Student's t.
    """
    if df == 0:
        return 1.0
    if error == 0.0:
        return 1.0 if value == 0.0 else 0.0
    return float(2.0 * special.stdtr(df, -abs(value) / error))


def mean_t(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the mean over replicates with Student's t interval.

    Args:
        values: one number for each replicate, shape [n].
        level: coverage of the interval, in (0, 1).

    Returns:
        The mean without a p. One replicate says nothing about the spread, so n = 1 has the interval (-inf, inf).

    Raises:
        ConfigError: the values are empty, not finite or not 1-d, or the level lies outside (0, 1).
    """
    check_fraction("level", level)
    array = finite_array("values", values)
    mean = float(np.mean(array))
    low, high = t_interval(mean, standard_error(array), array.size - 1, level)
    return Estimate(value=mean, low=low, high=high, n=array.size, method="t", level=level)


def wilson(hits: int, n: int, level: float = 0.95) -> Estimate:
    """Estimate a share with the score interval of Wilson (1927), doi:10.1080/01621459.1927.10502953.

    The n draws must be independent. Draws from one student are not: their independent unit is the replicate (`mean_t`).
    The coverage swings around the level, and falls to about 0.84 at level 0.95 for shares very near 0 or 1.

    Args:
        hits: number of draws that count.
        n: number of independent draws, at least 1.
        level: coverage of the interval, in (0, 1).

    Raises:
        ConfigError: n is below 1, hits lies outside [0, n], or the level lies outside (0, 1).
    """
    check_fraction("level", level)
    check_hits(hits, n)
    share, z = hits / n, float(special.ndtri(0.5 + level / 2.0))
    shrink = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return Estimate(value=share, low=low, high=high, n=n, method="wilson", level=level)


MOST_DECIMALS = 12
"""Most decimals of a printed number; an end that is nearer to a limit than these show is printed as the limit."""


def decimals_apart(low: float, high: float, limits: Sequence[float] = (0.0,), usual: int = 2) -> int:
    """Return how many decimals show on which side of each limit an interval lies.

    These are the usual ones, or as few more as it takes. An end that is rounded to the limit reads as if the interval
    reached it: -0.06 to -0.003 lies below 0, which "-0.06 to 0.00" does not show.

    Args:
        low: lower end of the interval.
        high: upper end of the interval.
        limits: the values that the interval is compared with, such as 0.
        usual: number of decimals where no end is that near to a limit.
    """
    excluded = [(low if low > limit else high, limit) for limit in limits if low > limit or high < limit]
    found = [usual]
    for end, limit in excluded:
        enough = (n for n in range(usual, MOST_DECIMALS) if float(f"{end:.{n}f}") != float(f"{limit:.{n}f}"))
        found.append(next(enough, MOST_DECIMALS))
    return max(found)


def with_interval(
    found: Mapping[str, Any], form: str = "+.2f", missing: str = "", limits: Sequence[float] = (0.0,)
) -> str:
    """Return an estimate as text, such as "+0.50 [+0.10, +0.90]".

    More decimals are printed where rounding an end would hide on which side of a limit it lies.

    Args:
        found: an estimate as plain data, as `Estimate.to_json` returns it.
        form: format specification of each number; it ends in "f".
        missing: text that follows the number where an end of the interval is unknown (None).
        limits: values that the interval is compared with, as in `decimals_apart`.
    """
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return f"{found['estimate']:{form}}{missing}"
    sign, _, usual = form.removesuffix("f").partition(".")
    form = f"{sign}.{decimals_apart(low, high, limits, int(usual))}f"
    return f"{found['estimate']:{form}} [{low:{form}}, {high:{form}}]"

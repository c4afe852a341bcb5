"""Power analysis before the data: the paired t test over replicates, and the matched test over rows."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import cast

import numpy as np
from scipy import optimize, special

from undertow.errors import ConfigError
from undertow.stats.checks import check_count, check_fraction, check_positive

_GRID = np.linspace(-9.0, 9.0, 4001)
_WEIGHT = np.exp(-(_GRID**2) / 2.0) / np.sqrt(2.0 * np.pi) * (_GRID[1] - _GRID[0])


def t_power(effect: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Return the power of the two-sided one-sample (paired) t test at alpha.

    It is P(|T| > c) for the noncentral t with n - 1 degrees of freedom and noncentrality effect * sqrt(n) / sd,
    integrated over its normal part: `scipy.stats.nct` loses its digits where c is large (n = 2 with a small alpha).

    Args:
        effect: true mean difference, in the unit of the metric.
        sd: standard deviation of the paired differences between replicates, in the same unit.
        n: number of replicates, at least 2.
        alpha: two-sided size of the test, in (0, 1).

    Raises:
        ConfigError: a number is out of range.
    """
    check_positive("SD", sd)
    check_count("number of replicates", n, 2)
    check_fraction("alpha", alpha)
    if not np.isfinite(effect):
        raise ConfigError("The effect is not finite.", effect, "Pass a finite effect.")
    return _power(effect * sqrt(n) / sd, n - 1, alpha)


def minimum_detectable_effect(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest effect that n replicates find with the given power.

    Args:
        sd: standard deviation of the paired differences between replicates, in the unit of the metric.
        n: number of replicates, at least 2.
        alpha: two-sided size of the test, in (0, 1).
        power: wanted probability of finding the effect, above alpha and below 1.

    Returns:
        The effect, in the unit of the SD.

    Raises:
        ConfigError: a number is out of range, or the power does not exceed alpha.
    """
    check_positive("SD", sd)
    check_count("number of replicates", n, 2)
    _check_sizes(alpha, power)
    upper = 4.0
    while _power(upper, n - 1, alpha) < power:
        upper *= 2.0

    def excess(noncentrality: float) -> float:
        return _power(noncentrality, n - 1, alpha) - power

    noncentrality = cast("float", optimize.brentq(excess, 0.0, upper, xtol=1e-9))
    return noncentrality * sd / sqrt(n)


def required_replicates(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the smallest number of replicates, at least 2, that finds the effect with the given power.

    Args:
        effect: true mean difference to find; its sign does not matter.
        sd: standard deviation of the paired differences between replicates, in the unit of the effect.
        alpha: two-sided size of the test, in (0, 1).
        power: wanted probability of finding the effect, above alpha and below 1.

    Raises:
        ConfigError: a number is out of range, or the power does not exceed alpha.
    """
    check_positive("SD", sd)
    check_positive("absolute effect", abs(effect))
    _check_sizes(alpha, power)
    enough = 2
    while t_power(effect, sd, enough, alpha) < power:
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        if t_power(effect, sd, middle, alpha) < power:
            short = middle
        else:
            enough = middle
    return enough


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedTest:
    """Power of the test of suspect rows (those that are audited) against reference rows on the same prompts.

    Each candidate trait gives every row a score. The statistic of a candidate is the mean score of the n suspect rows
    minus that of their m reference rows each, and the test takes the maximum over the candidates. One difference has
    the standard error sqrt((1 + 1/m) / n), in standard deviations of a clean row's score.

    The critical value of the maximum is taken to be Bonferroni's, one-sided. The true one is at most that, so the test
    never needs more rows than these methods return. Means of 20 rows and more are taken to be normal, and their
    standard deviation to be known.

    Attributes:
        references: number of reference rows on each prompt, m.
        candidates: number of candidate traits that the maximum is taken over, at least 2.
        alpha: size of the test over all candidates, in (0, 1).
        power: wanted probability of finding a shift, above alpha and below 1.

    Raises:
        ConfigError: a number is out of range, or the power does not exceed alpha.
    """

    references: int = 1
    candidates: int = 20
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        check_count("number of reference rows", self.references, 1)
        check_count("number of candidates", self.candidates, 2)
        _check_sizes(self.alpha, self.power)

    @property
    def _noncentrality(self) -> float:
        """The shift that is found with the wanted power, in standard errors."""
        return float(special.ndtri(1.0 - self.alpha / self.candidates) + special.ndtri(self.power))

    def required_rows(self, shift: float) -> int:
        """Return the number of suspect rows that finds a shift, given in standard deviations of a clean row's score.

        Raises:
            ConfigError: the shift is not positive.
        """
        check_positive("shift", shift)
        return ceil((self._noncentrality / shift) ** 2 * (1.0 + 1.0 / self.references))

    def minimum_shift(self, rows: int) -> float:
        """Return the smallest shift that so many rows find, in standard deviations of a clean row's score.

        Raises:
            ConfigError: the number of rows is below 1.
        """
        check_count("number of rows", rows, 1)
        return self._noncentrality * sqrt((1.0 + 1.0 / self.references) / rows)


def _check_sizes(alpha: float, power: float) -> None:
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    if power <= alpha:
        raise ConfigError("The power does not exceed alpha.", f"{power} and {alpha}", "Ask for a power above alpha.")


def _power(noncentrality: float, df: int, alpha: float) -> float:
    """Return P(|Z + noncentrality| > c S) over Z ~ N(0, 1) and S^2 ~ chi2(df) / df, by the trapezium rule over Z."""
    critical = float(special.stdtrit(df, 1.0 - alpha / 2.0))
    ratio = (_GRID + noncentrality) / critical
    return float(np.sum(_WEIGHT * special.gammainc(df / 2.0, df / 2.0 * ratio**2)))

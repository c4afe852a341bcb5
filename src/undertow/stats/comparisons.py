"""Paired comparisons over replicates: difference, sign-flip test and equivalence."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.errors import ConfigError
from undertow.stats.checks import Floats, check_positive, finite_array
from undertow.stats.estimates import mean_t, standard_error, t_test
from undertow.types import Estimate

EXACT_FLIPS = 16
"""Up to this many differences every sign pattern is visited (65536 of them)."""

DRAWS = 9999
"""Monte Carlo draws beyond that, so the smallest p is 1 / (DRAWS + 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """Whether a difference is shown to be negligible.

    Attributes:
        difference: the mean difference and its t interval.
        margin: the largest absolute difference that counts as negligible, in the unit of the difference.
        equivalent: the whole interval lies strictly inside (-margin, margin).
    """

    difference: Estimate
    margin: float
    equivalent: bool


def paired(treated: ArrayLike, control: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate treated minus control over replicates that share prompts, seeds and evaluation draws.

    Args:
        treated: one number for each replicate, shape [n].
        control: the same replicates in the same order, shape [n].
        level: coverage of the t interval.

    Returns:
        The mean difference with the two-sided p of Student's paired t test. One replicate has the interval (-inf, inf)
        and p = 1. Differences without any spread have p = 0, or p = 1 when all are 0.

    Raises:
        ConfigError: an input is empty, not finite or not 1-d, the lengths differ, or the level lies outside (0, 1).
    """
    first, second = finite_array("treated values", treated), finite_array("control values", control)
    if first.size != second.size:
        raise ConfigError(
            "Treated and control differ in length.", f"{first.size} and {second.size}", "Pass one pair per replicate."
        )
    differences = first - second
    estimate = mean_t(differences, level)
    return replace(estimate, p=t_test(estimate.value, standard_error(differences), estimate.n - 1))


def sign_flip(differences: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """Return the two-sided p of "each difference is symmetric around 0" by flipping signs.

    The p is the share of sign patterns whose absolute sum reaches the observed one: exact up to `EXACT_FLIPS`
    differences (never below 2 / 2^n), else Monte Carlo over `DRAWS` patterns with the observed one added, as
    (1 + reached) / (1 + draws) (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585). The p is discrete, so
    P(p <= a) <= a under the null.

    Args:
        differences: one number for each replicate, shape [n].
        rng: source of the sign patterns; needed only beyond `EXACT_FLIPS`.

    Raises:
        ConfigError: the differences are empty, not finite or not 1-d, or a needed generator is missing.
    """
    array = finite_array("differences", differences)
    if array.size <= EXACT_FLIPS:
        return float(np.mean(_reached(array, _all_signs(array.size))))
    if rng is None:
        raise ConfigError("Too many differences for the exact test.", array.size, "Pass a random generator as rng.")
    signs = rng.choice(np.array([-1.0, 1.0]), size=(DRAWS, array.size))
    return float((1 + np.sum(_reached(array, signs))) / (1 + DRAWS))


def _all_signs(n: int) -> Floats:
    """Return every pattern of n signs, shape [2^n, n]."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.where(bits == 1, -1.0, 1.0)


def _reached(differences: Floats, signs: Floats) -> NDArray[np.bool_]:
    """Return for each pattern whether its absolute sum reaches the observed one; rounding counts as reached."""
    slack = 1e-12 * float(np.sum(np.abs(differences)))
    return np.abs(signs @ differences) >= abs(float(np.sum(differences))) - slack


def equivalence(differences: ArrayLike, margin: float, level: float = 0.95) -> Equivalence:
    """Test whether the mean difference is negligible: its t interval lies inside the margin.

    At level 0.95 this is two one-sided tests at 0.025 each, stricter than the customary 0.05 (90 % interval) of
    Schuirmann (1987), doi:10.1007/BF01068419. A mean that is truly at or beyond the margin passes with a probability
    of at most (1 - level) / 2. One replicate never passes.

    Args:
        differences: one number for each replicate, shape [n].
        margin: the largest absolute difference that counts as negligible.
        level: coverage of the interval.

    Raises:
        ConfigError: the differences are empty, not finite or not 1-d, the margin is not positive and finite, or the
            level lies outside (0, 1).
    """
    check_positive("margin", margin)
    difference = mean_t(differences, level)
    inside = -margin < difference.low and difference.high < margin
    return Equivalence(difference=difference, margin=margin, equivalent=inside)

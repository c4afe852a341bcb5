"""Comparisons over replicates (paired difference, ratio, equivalence), Holm's correction, and rank statistics.

A replicate is one independent repetition of an experiment, with its own seeds.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from undertow.errors import ConfigError
from undertow.stats.checks import Floats, check_positive, finite_array
from undertow.stats.estimates import mean_t, standard_error, t_test
from undertow.types import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """The result of an equivalence test: whether a difference is shown to be negligible.

    Attributes:
        difference: the mean difference with its t interval.
        margin: the largest absolute difference that counts as negligible, in the unit of the difference.
        equivalent: whether the whole interval lies strictly inside (-margin, margin).
    """

    difference: Estimate
    margin: float
    equivalent: bool


def paired(treated: ArrayLike, control: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the mean of treated minus control over replicates that share prompts, seeds and evaluation draws.

    Args:
        treated: one number for each replicate, shape [n].
        control: the same replicates in the same order, shape [n].
        level: coverage of the t interval, in (0, 1).

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


def equivalence(differences: ArrayLike, margin: float, level: float = 0.95) -> Equivalence:
    """Test whether the mean difference is negligible: its t interval lies inside the margin.

    At level 0.95 this is two one-sided tests at 0.025 each, stricter than the customary 0.05 (90 % interval) of
    Schuirmann (1987), doi:10.1007/BF01068419. A mean that is truly at or beyond the margin passes with a probability
    of at most (1 - level) / 2. One replicate never passes.

    Args:
        differences: one number for each replicate, shape [n].
        margin: the largest absolute difference that counts as negligible, in the unit of the differences.
        level: coverage of the interval, in (0, 1).

    Returns:
        The mean difference with its interval, and whether the interval lies inside the margin.

    Raises:
        ConfigError: the differences are empty, not finite or not 1-d, the margin is not positive and finite, or the
            level lies outside (0, 1).
    """
    check_positive("margin", margin)
    difference = mean_t(differences, level)
    inside = -margin < difference.low and difference.high < margin
    return Equivalence(difference=difference, margin=margin, equivalent=inside)


def ratio_of_means(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """Estimate mean(numerators) / mean(denominators) for paired values, with Fieller's interval.

    Fieller (1954), doi:10.1111/j.2517-6161.1954.tb00159.x: the interval is the set of ratios r for which the mean of
    (numerator - r * denominator) is not rejected by Student's t test. Its coverage is therefore exact for Gaussian
    pairs of any correlation and any n.

    Args:
        numerators: one number for each replicate, shape [n].
        denominators: the same replicates in the same order, shape [n].

    Returns:
        The ratio. The interval is (-inf, inf) for one replicate, and where the denominators' mean is not significantly
        different from 0 at the level of 0.05, since the set is then unbounded.

    Raises:
        ConfigError: an input is empty, not finite or not 1-d, the lengths differ, or the denominators' mean is 0.
    """
    top, bottom = finite_array("numerators", numerators), finite_array("denominators", denominators)
    if top.size != bottom.size:
        sizes = f"{top.size} and {bottom.size}"
        raise ConfigError("Numerators and denominators differ in length.", sizes, "Pass one pair per replicate.")
    y, x, n = float(top.mean()), float(bottom.mean()), top.size
    if x == 0.0:
        raise ConfigError("The denominators' mean is 0.", x, "There is nothing that a share could be taken of.")
    # Fieller's interval and no bootstrap: a percentile bootstrap of 5 pairs covers 0.90 or less where 0.95 is asked
    # for, and the delta method ignores the skew of a ratio.
    low, high = float("-inf"), float("inf")
    if n > 1:
        covariance = np.cov(top, bottom) / n
        t2 = float(special.stdtrit(n - 1, 0.975)) ** 2
        # The roots of (y - r x)^2 = t^2 var(y - r x), a quadratic in r.
        a = x * x - t2 * float(covariance[1, 1])
        b = x * y - t2 * float(covariance[0, 1])
        c = y * y - t2 * float(covariance[0, 0])
        if a > 0.0:
            half = sqrt(max(0.0, b * b - a * c))
            low, high = (b - half) / a, (b + half) / a
    return Estimate(value=y / x, low=low, high=high, n=n, method="fieller", level=0.95)


def holm(p_values: ArrayLike) -> Floats:
    """Return the step-down adjusted p-values of Holm (1979), in the order given.

    Rejecting where the adjusted p is at most a keeps the family-wise error at a under any dependence of the tests.

    Args:
        p_values: one p-value for each test of the declared family, shape [m].

    Raises:
        ConfigError: the values are empty, not 1-d, or outside [0, 1].
    """
    p = finite_array("p-values", p_values)
    if p.min() < 0.0 or p.max() > 1.0:
        raise ConfigError("A p-value lies outside [0, 1].", f"{p.min()} to {p.max()}", "Pass probabilities.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, a tie counting one half.

    Args:
        positives: scores of the cases that are looked for, shape [n], not empty.
        negatives: scores of the other cases, shape [m], not empty.

    Returns:
        A share between 0 and 1; 0.5 is chance.
    """
    first, second = np.asarray(positives), np.asarray(negatives)
    wins = stats.mannwhitneyu(first, second, method="asymptotic").statistic
    return float(wins / (first.size * second.size))


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Return Spearman's rank correlation of two arrays of shape [n]; 0 where one of them is constant."""
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return 0.0
    found: Any = stats.spearmanr(one, other)  # scipy's own annotation leaves the fields out
    return float(found.statistic)

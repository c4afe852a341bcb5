"""Statistics of ranks: the area under the ROC curve, and Spearman's correlation."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Return how often a positive has a higher score than a negative, ties counted as one half.

    Args:
        positives: scores of what is looked for, shape [n], not empty.
        negatives: scores of the others, shape [m], not empty.
    """
    first, second = np.asarray(positives), np.asarray(negatives)
    wins = stats.mannwhitneyu(first, second, method="asymptotic").statistic
    return float(wins / (first.size * second.size))


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Return Spearman's rank correlation, of two arrays of shape [n]; 0 where one of them is constant."""
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return 0.0
    found: Any = stats.spearmanr(one, other)  # scipy's own annotation leaves the fields out
    return float(found.statistic)

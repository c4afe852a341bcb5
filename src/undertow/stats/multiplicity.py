"""Adjusted p-values for a declared panel of tests."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.errors import ConfigError
from undertow.stats.checks import Floats, finite_array


def holm(p_values: ArrayLike) -> Floats:
    """Return the step-down adjusted p-values of Holm (1979), in the order given.

    Rejecting where the adjusted p is at most a keeps the family-wise error at a under any dependence.

    Args:
        p_values: one p for each test of the declared panel, shape [m].

    Raises:
        ConfigError: the values are empty, not 1-d, or outside [0, 1].
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return _in_place(order, steps)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return the step-up adjusted p-values of Benjamini and Hochberg (1995), in the order given.

    Rejecting where the adjusted p is at most q keeps the false discovery rate at q for independent or positively
    dependent tests.

    Args:
        p_values: one p for each test of the declared panel, shape [m].

    Raises:
        ConfigError: the values are empty, not 1-d, or outside [0, 1].
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    steps = p[order] * p.size / np.arange(1, p.size + 1)
    return _in_place(order, np.minimum.accumulate(steps[::-1])[::-1])


def _p_values(values: ArrayLike) -> Floats:
    p = finite_array("p-values", values)
    if p.min() < 0.0 or p.max() > 1.0:
        raise ConfigError("A p-value lies outside [0, 1].", f"{p.min()} to {p.max()}", "Pass probabilities.")
    return p


def _in_place(order: NDArray[np.intp], steps: Floats) -> Floats:
    """Put sorted values back where they came from, with 1 as the upper bound."""
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

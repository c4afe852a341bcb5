"""Checks of the input of statistics: finite numbers of the right shape, and levels inside (0, 1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.errors import ConfigError

Floats = NDArray[np.float64]
"""An array of finite floats."""


def finite_array(name: str, values: ArrayLike, dimensions: Sequence[int] = (1,)) -> Floats:
    """Return the values as a float64 array, and refuse what is not finite or of the wrong shape.

    Args:
        name: what the values are, for the error message.
        values: numbers in any array-like form.
        dimensions: the numbers of dimensions that are allowed, such as (1,) for vectors alone.

    Raises:
        ConfigError: the values are ragged or not numbers, empty, not finite, or of another number of dimensions.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The {name} are not an array of numbers.", repr(values), "Pass numbers only.") from error
    if array.ndim not in dimensions:
        allowed = " or ".join(str(dimension) for dimension in dimensions)
        raise ConfigError(f"The {name} have the wrong shape.", array.shape, f"Pass an array of {allowed} dimension(s).")
    if array.size == 0:
        raise ConfigError(f"The {name} are empty.", array.shape, "Pass at least one number.")
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise ConfigError(
            f"The {name} are not all finite.", f"{bad} of {array.size}", "Drop or repair NaN and infinity."
        )
    return array


def square_matrices(values: ArrayLike, dimensions: Sequence[int]) -> Floats:
    """Return the values as one square matrix, or a stack of them, of at least 2 x 2.

    Args:
        values: numbers in any array-like form.
        dimensions: the numbers of dimensions that are allowed, such as (2, 3) for one matrix or a stack.

    Raises:
        ConfigError: the values are refused by `finite_array`, or the last two dimensions differ or are smaller than 2.
    """
    array = finite_array("matrix entries", values, dimensions)
    if array.shape[-1] != array.shape[-2] or array.shape[-1] < 2:
        raise ConfigError("The matrix entries are not square.", array.shape, "Pass K x K with K of at least 2.")
    return array


def check_fraction(name: str, value: float) -> None:
    """Refuse a level, alpha or power outside the open interval (0, 1).

    Args:
        name: what the value is, for the error message.
        value: the number that is checked.

    Raises:
        ConfigError: the value is NaN or outside (0, 1).
    """
    if not 0.0 < value < 1.0:
        raise ConfigError(f"The {name} lies outside (0, 1).", value, "Give a number between 0 and 1, such as 0.95.")


def check_positive(name: str, value: float) -> None:
    """Refuse a quantity that is not a positive finite number.

    Raises:
        ConfigError: the value is NaN, infinite, zero or negative.
    """
    if not 0.0 < value < float("inf"):
        raise ConfigError(f"The {name} is not a positive finite number.", value, "Give a number above 0.")


def check_count(name: str, value: int, minimum: int) -> None:
    """Refuse a count below its minimum.

    Raises:
        ConfigError: the value is below the minimum.
    """
    if value < minimum:
        raise ConfigError(f"The {name} is too small.", value, f"Give at least {minimum}.")


def check_hits(hits: int, n: int) -> None:
    """Refuse a number of draws below 1, or hits outside [0, n].

    Raises:
        ConfigError: n is below 1, or hits lies outside [0, n].
    """
    check_count("number of draws", n, 1)
    if not 0 <= hits <= n:
        raise ConfigError("The hits lie outside [0, n].", f"{hits} of {n}", "Pass 0 <= hits <= n.")

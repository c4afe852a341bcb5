"""What an analysis measured in each replicate, summed up over replicates as the plain data that a report shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from undertow.stats.estimates import mean_t, standard_error, t_test
from undertow.types import Estimate

HALF = 0.5
"""What accuracies and AUROCs are without an effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number of one replicate.

    Attributes:
        group: what was measured; one panel of the figure.
        name: of whom, such as a trait; one row of the panel.
        replicate: from 0.
        value: the number.
        null: what it would be without an effect.
        unit: of the value.
        alone: its interval within the replicate, used where there is no other replicate.
        size: of the bag, or k, if the group is of one.
        p: of a test within the replicate; None where replicates are compared by a t test.
    """

    group: str
    name: str
    replicate: int
    value: float
    null: float = 0.0
    unit: Literal["share", "logits"] = "share"
    alone: Estimate | None = None
    size: int | None = None
    p: float | None = None


def estimates(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """Sum up each group and name: mean and t interval over replicates, or the replicate's own interval if it is alone.

    The p is of a t test over replicates, or Fisher's combination where each replicate has a p of its own; both ends of
    the interval are None if nothing is known about the spread.
    """
    found: dict[tuple[str, str], list[Measured]] = {}
    for item in measured:
        found.setdefault((item.group, item.name), []).append(item)
    return [_plain(items) for items in found.values()]


def mean_over_names(measured: Iterable[Measured], group: str) -> Estimate | None:
    """Estimate the mean of a group's names, averaged within each replicate first; None if the group is empty."""
    found: dict[int, list[Measured]] = {}
    for item in measured:
        if item.group == group:
            found.setdefault(item.replicate, []).append(item)
    if not found:
        return None
    means = [float(np.mean([item.value for item in items])) for items in found.values()]
    return _over_replicates(means, next(iter(found.values()))[0].null)


def _over_replicates(values: ArrayLike, null: float) -> Estimate:
    """Estimate the mean; shares that are one half by chance lie in [0, 1], so their interval is cut there."""
    found = mean_t(values)
    if null != HALF or found.n == 1:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def _plain(items: Sequence[Measured]) -> dict[str, Any]:
    first, values = items[0], np.array([item.value for item in items])
    found = _over_replicates(values, first.null)
    p = t_test(found.value - first.null, standard_error(values), found.n - 1) if found.n > 1 else None
    if len(items) == 1 and first.alone is not None:
        found, p = first.alone, first.alone.p
    own = [item.p for item in items if item.p is not None]
    known = isfinite(found.low) and isfinite(found.high)
    return {
        "group": first.group,
        "name": first.name,
        "unit": first.unit,
        "estimate": found.value,
        "low": found.low if known else None,
        "high": found.high if known else None,
        "n": found.n,
        "p": fisher(own) if own else p,
    }


def fisher(p_values: Sequence[float]) -> float:
    """Combine the p-values of independent tests above 0 (Fisher): -2 sum log p against chi-square of 2k degrees."""
    return float(special.chdtrc(2 * len(p_values), -2 * np.log(p_values).sum()))

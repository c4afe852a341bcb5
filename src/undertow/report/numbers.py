"""Numbers as text: in the unit of their metric, and with as many decimals as show what an interval excludes."""

import math
from typing import Any, Literal

from undertow.evals.base import metric as declared
from undertow.report.results import Interval
from undertow.stats.estimates import decimals_apart

DASH = "–"  # noqa: RUF001 (as tables use it)
"""Stands where there is nothing."""

Direction = Literal["above 0", "below 0", "includes 0", "unknown"]


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share of answers, which is shown in percent."""
    return declared(metric).unit == "share"


def unit(metric: str) -> str:
    """Return the unit of a difference in a metric: "percentage points" or "logits"."""
    return "percentage points" if is_share(metric) else "logits"


def difference_text(value: float, metric: str, decimals: int | None = None) -> str:
    """Return a difference with its sign, by default with two decimals in logits and one in percentage points.

    Args:
        value: difference in the metric's own unit (logits, or a share between 0 and 1).
        metric: name of the metric, which decides unit and scale.
        decimals: how many decimals are shown. None takes the usual number.
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "unbounded"
    text = f"{value * _scale(metric):+.{_usual(metric) if decimals is None else decimals}f}"
    return text.replace("-", "+") if not text.strip("+-0.") else text


def _scale(metric: str) -> float:
    return 100.0 if is_share(metric) else 1.0


def _usual(metric: str) -> int:
    return 1 if is_share(metric) else 2


def estimate_text(item: Interval, metric: str) -> str:
    """Return an estimate with as many decimals as its interval has."""
    return difference_text(item.estimate, metric, _decimals(item, metric))


def interval_text(item: Interval, metric: str) -> str:
    """Return "low to high", or that there is no interval; an end that excludes 0 is never printed as 0."""
    if not is_bounded(item):
        return "no interval"
    decimals = _decimals(item, metric)
    return f"{difference_text(item.low, metric, decimals)} to {difference_text(item.high, metric, decimals)}"


def is_bounded(item: Interval) -> bool:
    """Tell whether both ends of an interval are finite."""
    return math.isfinite(item.low) and math.isfinite(item.high)


def _decimals(item: Interval, metric: str) -> int:
    scale, usual = _scale(metric), _usual(metric)
    return decimals_apart(item.low * scale, item.high * scale, usual=usual) if is_bounded(item) else usual


def level_text(value: float | None, metric: str) -> str:
    """Return a score itself, such as "-3.21" or "12.5 %", or a dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.2f}"


def p_text(p: float | None) -> str:
    """Return a p-value with three decimals, "< 0.001" for smaller ones, or a dash where there is none."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def side(item: Interval) -> Direction:
    """Say on which side of 0 the interval lies, by its unrounded ends; "unknown" for an infinite one."""
    if not is_bounded(item):
        return "unknown"
    if item.low > 0:
        return "above 0"
    return "below 0" if item.high < 0 else "includes 0"


def cell_text(value: Any) -> str:
    """Return a cell as text: numbers with at most four significant digits, a dash for nothing."""
    if value is None:
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)

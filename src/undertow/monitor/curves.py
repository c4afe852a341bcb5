"""Curves of the page as SVG, drawn here: the page runs no script and loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 120
_TOP = 1.08
"""Room above the highest of bound and curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What an SVG of `WIDTH` x `HEIGHT` draws.

    Attributes:
        now: points of the evidence over time, for `polyline`.
        highest: points of its running maximum.
        bound: height of the bound.
        low: evidence at the lower edge.
        high: evidence at the upper edge.
        first: Unix time at the left edge.
        last: Unix time at the right edge.
    """

    now: str
    highest: str
    bound: float
    low: float
    high: float
    first: float
    last: float


def evidence_shape(points: Sequence[tuple[float, float, float]], needed: float) -> Curve | None:
    """Return the curve of some evidence, None before there are two points.

    Args:
        points: Unix time, log e and its highest value, the oldest first.
        needed: the bound.
    """
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    low = min(0.0, *(now for _, now, _ in points))
    high = max(needed, *(highest for _, _, highest in points)) * _TOP

    def y(value: float) -> float:
        return round(HEIGHT * (1.0 - (value - low) / (high - low)), 1)

    def line(place: int) -> str:
        return " ".join(f"{WIDTH * (point[0] - first) / (last - first):.1f},{y(point[place])}" for point in points)

    return Curve(now=line(1), highest=line(2), bound=y(needed), low=low, high=high, first=first, last=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteBar:
    """One minute of traffic, in an SVG of `WIDTH` x `HEIGHT`: all exchanges, and those that did not simply pass."""

    x: float
    width: float
    y: float
    height: float
    odd_y: float
    odd_height: float


def traffic_bars(minutes: Sequence[tuple[int, int]]) -> list[MinuteBar]:
    """Return a bar for each minute, of how many exchanges there were and how many did not simply pass."""
    most = max([1, *(count for count, _ in minutes)])
    step = WIDTH / max(1, len(minutes))
    return [
        MinuteBar(
            x=round(place * step, 1),
            width=round(step * 0.8, 1),
            y=round(HEIGHT * (1 - count / most), 1),
            height=round(HEIGHT * count / most, 1),
            odd_y=round(HEIGHT * (1 - odd / most), 1),
            odd_height=round(HEIGHT * odd / most, 1),
        )
        for place, (count, odd) in enumerate(minutes)
    ]

"""Shapes of the page's curves as SVG; they are drawn here, since the page runs no script and loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 120
_TOP = 1.08
"""Height of the drawing, as a multiple of the higher one of bound and curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The course of one evidence as an SVG of `WIDTH` x `HEIGHT` pixels draws it.

    Attributes:
        now: points of the log e-value over time, for an SVG `polyline`.
        highest: points of its running maximum, for a `polyline`.
        bound: vertical place of the bound at which an alarm is raised, in pixels from the top.
        low: log e-value at the lower edge.
        high: log e-value at the upper edge.
        first: Unix time in seconds at the left edge.
        last: Unix time in seconds at the right edge.
    """

    now: str
    highest: str
    bound: float
    low: float
    high: float
    first: float
    last: float


def evidence_shape(points: Sequence[tuple[float, float, float]], needed: float) -> Curve | None:
    """Return the curve of an evidence, None if there are fewer than two points.

    Args:
        points: Unix time, log e-value and its highest value so far, the oldest first.
        needed: log e-value at which an alarm is raised.
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
    """One minute of traffic as a bar in an SVG of `WIDTH` x `HEIGHT` pixels.

    One part shows all exchanges, the other (`odd`) those with another outcome than "passed".

    Attributes:
        x: left edge of the bar, in pixels.
        width: width of the bar, in pixels.
        y: top of the part of all exchanges, in pixels from the top.
        height: height of that part, in pixels.
        odd_y: top of the part of the others, in pixels from the top.
        odd_height: height of that part, in pixels.
    """

    x: float
    width: float
    y: float
    height: float
    odd_y: float
    odd_height: float


def traffic_bars(minutes: Sequence[tuple[int, int]]) -> list[MinuteBar]:
    """Return a bar for each minute.

    Args:
        minutes: for each minute the number of exchanges, and of those with another outcome than "passed".
    """
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

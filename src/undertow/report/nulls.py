"""What a finding of an audit was judged by, as a figure and in words: observed against null, or evidence over rows.

Every figure has the same parts: the null as grey bars, the bound dashed, the observed values as diamonds. Shapes and
labels tell them apart without colours, and a sentence says what the figure shows.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from undertow.report.figures import COLOURS, INK, draw_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FindingJson = Mapping[str, Any]

_WIDE, _NARROW = (7.0, 2.1), (3.9, 2.4)
_LETTERS = {_WIDE: 105, _NARROW: 50}
"""How many characters a line below the axis has at most."""
_BINS = 24
_SPREAD = 2000
"""How many quantiles stand for a null of which only some values were kept."""
_EDGE = 0.25
"""Share of the axis beside an edge within which a label would not fit outwards."""
_DIAMOND: Mapping[str, Any] = {"markersize": 6.5, "markeredgewidth": 0}
_DIGITS = 12
"""Significant digits after which two numbers count as the same."""

NAMED: Mapping[str, tuple[str, str]] = {
    "detected": ("beyond it", "it is detected"),
    "not_detected": ("not beyond it", "it is not detected"),
}
"""In words, where the observed value lies and what follows, by verdict."""


class Drawn(NamedTuple):
    """The figure of one finding in two widths, with its description.

    Attributes:
        wide: an SVG element for columns of 520 pixels or more.
        narrow: an SVG element for columns of about 370 pixels.
        text: sentences that say what the figure shows.
    """

    wide: Markup
    narrow: Markup
    text: str


def finding_figure(index: int, finding: FindingJson) -> Drawn | None:
    """Draw what a finding was judged by; None where it was not tested or keeps no null.

    Args:
        index: number of the finding on its page.
        finding: plain data of a finding of an audit.
    """
    if finding["verdict"] not in NAMED:
        return None
    if sample := finding.get("null_sample"):
        return _drawn(f"null-{index}", partial(draw_null, sample=sample), null_text(finding))
    if trail := finding.get("trail"):
        return _drawn(f"trail-{index}", partial(_trail, trail=trail), trail_text(finding))
    return None


def _drawn(name: str, paint: "partial[None]", text: str) -> Drawn:
    wide, narrow = (
        Markup(draw_axes(f"{name}{suffix}", size, partial(paint, letters=_LETTERS[size]), text))
        for suffix, size in (("", _WIDE), ("-narrow", _NARROW))
    )
    return Drawn(wide, narrow, text)


def null_text(finding: FindingJson) -> str:
    """Say in words what the figure of a null shows; observed value and bound have digits that tell them apart."""
    sample = finding["null_sample"]
    bound, observed, values = sample["bound"], sample["observed"], sample["values"]
    where, follows = NAMED[finding["verdict"]]
    null = f"Null: {sample['n']:,} values from {number(values[0])} to {number(values[-1])}"
    if bound is None:
        return f"{null}, too few for any bound. Observed: {', '.join(map(number, observed))}."
    shown = ", ".join(number(one, bound) for one in observed)
    nearest = min(observed, key=lambda one: (one == bound, abs(one - bound)))
    limit = f"the bound at the claim's level is {number(bound, nearest)}"
    if len(observed) == 1:
        return f"{null}; {limit}. Observed: {shown}, {where}: {follows}."
    beyond = sum(one > bound for one in observed)
    limit = f"the bound of a shadow, at half of the claim's level, is {number(bound, nearest)}"
    return (
        f"{null}; {limit}. Observed: {shown}; {beyond} of {len(observed)} lie beyond it. "
        f"p is twice the mean of the shadows' own: {follows}."
    )


def trail_text(finding: FindingJson) -> str:
    """Say in words what the figure of the evidence over rows shows."""
    trail = finding["trail"]
    rows, values, bound = trail["rows"], trail["values"], trail["bound"]
    place = int(np.argmax(values))
    limit = f"The limit at the claim's level is a factor of {10**bound:,.0f}"
    if finding["verdict"] == "detected":
        return (
            f"{limit}. The evidence for {finding['candidate']} reached it at row {rows[-1]:,}, where reading stopped."
        )
    return (
        f"{limit}. The evidence for {finding['candidate']}, the largest of the panel, came to a factor of "
        f"{number(10 ** values[place])} at row {rows[place]:,} of {rows[-1]:,}: it is not detected."
    )


def number(value: float, other: float | None = None) -> str:
    """Return a number in three significant digits, or in as many as tell it from another number."""
    for digits in range(3, _DIGITS):
        text = f"{value:.{digits}g}"
        if other is None or value == other or text != f"{other:.{digits}g}":
            return text
    return f"{value:.{_DIGITS}g}"


def draw_null(axis: "Axes", sample: Mapping[str, Any], letters: int = 105) -> None:
    """Draw the null as bars, and the bound and what was observed as lines with labels.

    Args:
        axis: the axes that are drawn into; they hold nothing else.
        sample: plain data of the null of a finding (`null_sample`).
        letters: how many characters a line of the label below the axes has at most.
    """
    values, bound, observed = sample["values"], sample["bound"], sample["observed"]
    bins = min(_BINS, max(6, round(1.5 * len(values) ** 0.5)))
    if sample["n"] > len(values):  # evenly spaced ones of many: what lies between two is spread between them
        values = np.quantile(values, (np.arange(_SPREAD) + 0.5) / _SPREAD)
    counts, edges = np.histogram(values, bins=bins)
    heights = counts / counts.max()
    axis.bar(edges[:-1], heights, np.diff(edges), align="edge", color=COLOURS["control"], alpha=0.45, linewidth=0)
    low, high = min(edges[0], *observed), max(edges[-1], *observed, *([] if bound is None else [bound]))
    room = 0.04 * (high - low) or 0.5
    axis.set_xlim(low - room, high + room)
    axis.set_ylim(0.0, 1.35)
    for one in observed:
        # The lines of several shadows would hide the null and each other's labels.
        axis.plot([one, one], [0.0, 1.08 if len(observed) == 1 else 0.3], color=COLOURS["student"], linewidth=1.6)
        axis.plot([one], [0.0], "D", color=COLOURS["student"], clip_on=False, zorder=5, **_DIAMOND)
    shown, middle = max(observed), (low + high) / 2
    text = f"observed {number(shown, bound)}" if len(observed) == 1 else f"observed, {len(observed)} shadows"
    near_edge = shown < low + _EDGE * (high - low)
    left = shown > middle if bound is None else shown < bound and not near_edge
    _label(axis, (shown, 1.08 if len(observed) == 1 else 0.3), text, left or shown > high - _EDGE * (high - low))
    if bound is not None:
        axis.plot([bound, bound], [0.0, 1.26], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        _label(axis, (bound, 1.27), f"bound {number(bound, _nearest(observed, bound))}", bound > middle)
    axis.set_yticks([])
    axis.set_ylabel(f"null, n = {sample['n']:,}", fontsize=9)
    _finish(axis, sample["unit"], letters)


def _nearest(observed: Sequence[float], bound: float) -> float:
    return min(observed, key=lambda one: abs(one - bound))


def _label(axis: "Axes", place: tuple[float, float], text: str, left: bool) -> None:
    """Write a label beside the end of a line."""
    where: dict[str, Any] = {"ha": "right" if left else "left", "va": "center", "fontsize": 9}
    axis.annotate(text, place, xytext=(-4 if left else 4, 0), textcoords="offset points", **where)


def _trail(axis: "Axes", trail: Mapping[str, Any], letters: int) -> None:
    """Draw the evidence after each row on a scale of powers of ten, and the limit at which it is enough."""
    rows, values, bound = trail["rows"], trail["values"], trail["bound"]
    axis.axhline(bound, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.annotate(
        f"limit {10**bound:,.0f}", (0.0, bound), xycoords=axis.get_yaxis_transform(), xytext=(4, -3),
        textcoords="offset points", va="top", fontsize=9,
    )  # fmt: skip
    axis.plot([0, *rows], [0.0, *values], color=COLOURS["student"], linewidth=1.6)
    axis.plot(rows[-1:], values[-1:], "D", color=COLOURS["student"], zorder=5, **_DIAMOND)
    axis.set_xlim(0.0, rows[-1] * 1.03)
    lowest, highest = math.floor(min(0.0, *values)), math.ceil(max(bound, *values))
    axis.set_ylim(min(0.0, *values) - 0.3, max(bound, *values) + 0.3)
    powers = range(lowest, highest + 1, max(1, (highest - lowest) // 4))
    axis.set_yticks(powers, [f"{10.0**power:g}" for power in powers])
    axis.set_ylabel("evidence", fontsize=9)
    _finish(axis, "rows read", letters)


def _finish(axis: "Axes", unit: str, letters: int) -> None:
    axis.set_xlabel(textwrap.fill(unit, letters), fontsize=9)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)

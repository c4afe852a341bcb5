"""Figures of an analysis: one panel for each group of estimates, a row with its interval for each estimate."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from undertow.report.analysis import groups
from undertow.report.figures import COLOURS, INK, drawing, svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_IN = 0.27
_WIDTH_IN = 7.0
_ROWS = 40
"""Most rows of a panel; the tables hold the rest."""


def panel_figures(estimates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw one figure for each group; return SVG elements."""
    return [_figure(index, name, rows[:_ROWS]) for index, (name, rows) in enumerate(groups(estimates))]


def _figure(index: int, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    salt = f"panel-{index}"
    with drawing(salt):
        figure = Figure(figsize=(_WIDTH_IN, 0.85 + _ROW_IN * max(len(rows), 2)), layout="constrained")
        _panel(figure.subplots(), name, rows)
        described = "; ".join(f"{one['name']}: {one['estimate']:.3f}" for one in rows)
        return svg_element(figure, salt, f"{name}. {described}.", whole=True)


def _panel(axis: "Axes", name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    colour = COLOURS["student"]
    for place, one in enumerate(rows):
        low, high = (math.nan if one[side] is None else one[side] for side in ("low", "high"))
        if math.isfinite(low) and math.isfinite(high):
            axis.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axis.plot([one["estimate"]], [place], "D", color=colour, markersize=5.5, markeredgewidth=0)
    if rows[0]["unit"] != "share":
        axis.axvline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5)
    axis.set_yticks(range(len(rows)), [one["name"] for one in rows])
    axis.set_ylim(max(len(rows), 2) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title(name, fontsize=10, loc="left")
    axis.set_xlabel(rows[0]["unit"])

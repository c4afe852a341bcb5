"""An analysis or sweep as one HTML page, and as text for a terminal (schema undertow.analysis/1)."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from undertow.report.figures import COLOURS, INK, draw_axes
from undertow.report.numbers import cell_text
from undertow.report.render import render_page
from undertow.report.results import read_settings
from undertow.stats.estimates import decimals_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "undertow.analysis/1"

AnalysisJson = Mapping[str, Any]

_ROW_IN = 0.27
_WIDTH_IN = 7.0
_ROWS = 40
"""How many rows a panel of the figure has at most; the tables hold the rest."""
_MARKERS = "osD^v"
_NAME = 44
"""Smallest width of the names in the terminal, in characters."""


def render_analysis(run: Path, results: AnalysisJson) -> Path:
    """Write report.html into the run folder, and return its path.

    Args:
        run: folder of the run, which gets the page.
        results: content of the run's results.json.
    """
    grouped = groups(results["estimates"])
    panels = [_panel_figure(index, *one) for index, one in enumerate(grouped)]
    lines = [_line_figure(index, one) for index, one in enumerate(results.get("figures", ()))]
    return render_page(
        run,
        "analysis.html",
        results=results,
        groups=grouped,
        panels=[Markup(figure) for figure in panels],
        lines=[Markup(figure) for figure in lines],
        settings=read_settings(run),
        cell=cell_text,
        numeric=is_numeric,
    )


def is_numeric(value: Any) -> bool:
    """Tell whether a cell is a number, so that it is aligned to the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def line_text(one: Mapping[str, Any]) -> str:
    """Return an estimate with its interval as text; an end that excludes 0 is never printed as 0."""
    low, high = one["low"], one["high"]
    if low is None or high is None:
        return f"{one['estimate']:.3f}  no interval"
    decimals = decimals_apart(low, high, usual=3)
    return f"{one['estimate']:.{decimals}f}  {low:.{decimals}f} to {high:.{decimals}f}"


def groups(estimates: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return the estimates of each panel of the figure, panels in the order in which they first appear."""
    order = list(dict.fromkeys(one["group"] for one in estimates))
    ranked = sorted(estimates, key=lambda one: order.index(one["group"]))
    return [(name, list(rows)) for name, rows in groupby(ranked, key=lambda one: one["group"])]


def summarise_analysis(results: AnalysisJson) -> str:
    """Return the question, the answer, the short tables and the estimates as text."""
    lines = [results["question"], "", results["answer"]]
    for table in results["tables"]:
        if table.get("brief"):
            lines += ["", table["title"], *_table_lines(table["columns"], table["rows"], table["brief"])]
    for name, rows in groups(results["estimates"]):
        lines += ["", f"{name} ({rows[0]['unit']}, 95 % intervals)"]
        width = max(_NAME, *(len(one["name"]) for one in rows))
        lines += [f"{one['name']:{width}} {line_text(one)}  n = {one['n']}" for one in rows]
    return "\n".join(lines)


def _table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]], shown: int) -> list[str]:
    """Return the first columns of a table as lines of text."""
    cells = [[*columns[:shown]], *([cell_text(value) for value in row[:shown]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _panel_figure(index: int, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw one group of estimates, one row with its interval for each."""
    shown = rows[:_ROWS]
    described = "; ".join(f"{one['name']}: {one['estimate']:.3f}" for one in shown)
    size = _WIDTH_IN, 0.85 + _ROW_IN * max(len(shown), 2)
    return draw_axes(f"panel-{index}", size, partial(_panel, name=name, rows=shown), f"{name}. {described}.")


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
    _title(axis, name)
    axis.set_xlabel(rows[0]["unit"])


def _title(axis: "Axes", text: str) -> None:
    """Write a title over the whole width, because the names beside a panel may leave little of it."""
    axis.figure.suptitle(textwrap.fill(text, 80), x=0.01, ha="left", fontsize=10)


def _line_figure(index: int, figure: Mapping[str, Any]) -> str:
    """Draw lines on two logarithmic axes; lines that only guide the eye are dashed."""
    names = ", ".join(line["name"] for line in figure["lines"])
    paint = partial(_lines, figure=figure)
    return draw_axes(f"lines-{index}", (_WIDTH_IN, 3.4), paint, f"{figure['title']}. {names}.")


def _lines(axis: "Axes", figure: Mapping[str, Any]) -> None:
    for marker, line in zip(_MARKERS, figure["lines"], strict=False):
        x, y = zip(*line["points"], strict=True)
        style: dict[str, Any] = {"marker": marker}
        if line["guide"]:
            style = {"linestyle": "--", "linewidth": 1, "color": INK}
        axis.plot(x, y, label=line["name"], **style)
    axis.set(xscale="log", yscale="log", xlabel=figure["x"], ylabel=figure["y"])
    axis.set_xticks(sorted({point[0] for line in figure["lines"] for point in line["points"]}))
    axis.minorticks_off()
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
    _title(axis, figure["title"])
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)

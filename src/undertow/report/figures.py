"""Figures as inline SVG: the arms with their intervals, and matrices with a number in every cell.

No other module imports matplotlib at its top. A figure has the same bytes for the same results (fixed ids, no date),
loads nothing, and takes the page's own text colour, so that it can be read on a light and on a dark page. An **arm** is
a kind of model in a study, such as "student" or "control".
"""

import math
import re
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertow.errors import ConfigError, MissingExtraError, StorageError
from undertow.report.cells import Grid, initialisation_grid, trait_grid
from undertow.report.numbers import difference_text, estimate_text, interval_text, is_bounded, is_share, unit
from undertow.report.results import Effect, Interval, Results, load_results
from undertow.report.wording import arms_description, difference_name, differences, metric_name, ordered, visible
from undertow.store.disk import storage_errors

try:
    import matplotlib
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(
        "Figures need matplotlib, which is not installed.", "matplotlib", "Run pip install 'undertow[report]'."
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Mapping[str, str] = {
    "student": "#d55e00",
    "cross_init": "#0072b2",
    "neutral": "#009e73",
    "within": "#0072b2",
    "across": "#009e73",
    "within_control": "#8a8a8a",
    "across_control": "#8a8a8a",
    "hop_2": "#0072b2",
    "hop_3": "#009e73",
    "hop_4": "#cc79a7",
    "control": "#8a8a8a",
    "cross_control": "#56b4e9",
    "teacher": "#cc79a7",
    "neutral_teacher": "#b8860b",
}
"""Colour of each arm, after Okabe and Ito (2008): they can be told apart with every kind of colour blindness, on light
and dark."""

TEACHERS = ("teacher", "neutral_teacher")
"""Arms that have a scale of their own, because a teacher moves several times as far as its student."""

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_WIDTH_IN = 7.0
_NARROW_IN = 3.9
_ROW_IN = 0.3
_LEAST_PX = 520
_TRAITS_SHOWN = 40
_CELL_IN = 0.72
_ROOMY = 5
"""How many columns a matrix has at most if its cells have room for an interval."""
_ROOMY_IN = 1.05


@contextmanager
def drawing(salt: str) -> Generator[None]:
    """Draw with matplotlib's default settings, whatever the user's are, and restore those afterwards."""
    settings: dict[str, Any] = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 10,
        "axes.unicode_minus": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The page draws its text with the reader's fonts, so what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        matplotlib.rcdefaults()
        for name, value in settings.items():
            matplotlib.rcParams[name] = value  # pyright: ignore[reportArgumentType]
        yield


def draw_axes(name: str, size_in: tuple[float, float], paint: Callable[["Axes"], None], description: str) -> str:
    """Draw a figure of one panel.

    Args:
        name: name of the figure, unique on its page. It becomes a part of the SVG's ids.
        size_in: width and height in inches.
        paint: draws into the panel's axes.
        description: what the figure shows, for readers who cannot see it.

    Returns:
        An SVG element as text.
    """
    with drawing(name):
        figure = Figure(figsize=size_in, layout="constrained")
        paint(figure.subplots())
        return svg_element(figure, name, description, whole=True)


def arms_figure(results: Results, narrow: bool = False) -> str:
    """Draw the effects of the main metric: estimate, interval and one dot per replicate, around a zero line.

    Args:
        results: results of a run of a study.
        narrow: whether it is for a column of about 370 pixels, with the names above the rows. Else it is for 520 pixels
            or more.

    Returns:
        An SVG element as text. Empty if the run has no effects.
    """
    name = "arms-narrow" if narrow else "arms"
    with drawing(name):
        figure = arms_drawing(results, narrow)
        return "" if figure is None else svg_element(figure, name, arms_description(results), whole=narrow)


def matrix_figure(results: Results) -> str:
    """Draw the matrix of trained trait by evaluated trait; empty text if the run has none."""
    return _grid_figure("matrix", trait_grid(results))


def initialisation_figure(results: Results) -> str:
    """Draw the matrix of teacher base by student base; empty text if the run has none."""
    return _grid_figure("initialisation", initialisation_grid(results))


def _grid_figure(name: str, grid: Grid | None) -> str:
    if grid is None:
        return ""
    rows, columns = grid.axes
    description = f"Matrix of {len(grid.rows)} by {len(grid.columns)}: {rows} by {columns}; the table has every cell."
    with drawing(name):
        return svg_element(heatmap(grid), name, description)


def save_figure(run: Path, path: Path) -> Path:
    """Write the figure of the arms of a run to a file, on a white ground.

    Args:
        run: folder of a finished run.
        path: file to write. It ends in .png (1400 pixels wide) or .svg.

    Returns:
        The path.

    Raises:
        ConfigError: the path has another ending, or the run has no effects.
        StorageError: the run cannot be read or the file cannot be written.
        ArtifactError: the folder is no finished run.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ConfigError("A figure is written as PNG or SVG.", str(path), "Give a path that ends in .png or .svg.")
    results = load_results(run)
    with drawing("arms"):
        figure = arms_drawing(results)
        if figure is None:
            raise ConfigError("The run has no effects to draw.", str(run), "Run a recipe with a control arm.")
        content = white_file(figure, kind)
    if not path.parent.is_dir():
        raise StorageError("The folder of the figure does not exist.", path.parent, "Make it, or choose another one.")
    with storage_errors(path.parent):
        path.write_bytes(content)
    return path


def white_file(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a file, on a white ground and in dark ink, since no page gives it colours.

    Args:
        figure: the figure, drawn within `drawing`.
        kind: format of the file, "svg" or "png". A figure of full width has 1,400 pixels as PNG.
    """
    matplotlib.rcParams.update({"svg.fonttype": "path"})  # a file stands alone, where the fonts are not known
    content = _bytes(figure, kind, facecolor="white")
    return content.replace(INK.encode(), b"#1f2328") if kind == "svg" else content


def arms_drawing(results: Results, narrow: bool = False) -> Figure | None:
    """Draw the effects of the main metric, one row for each, with the arms of teachers in a panel of their own.

    Args:
        results: results of a run of a study.
        narrow: whether the names stand above the rows, for a column of about 370 pixels. Else they stand beside them.

    Returns:
        The figure, to be written within `drawing`. None if the run has no effects.
    """
    metric = results.main_metric
    effects = ordered(effect for effect in results.effects if effect.metric == metric)
    parts = [
        [effect for effect in effects if effect.arm not in TEACHERS][:_TRAITS_SHOWN],
        [effect for effect in effects if effect.arm in TEACHERS][:_TRAITS_SHOWN],
    ]
    if not (parts := [part for part in parts if part]):
        return None
    rows = [max(len(part), 2) for part in parts]
    width, height = (_NARROW_IN, 1.4 * _ROW_IN) if narrow else (_WIDTH_IN, _ROW_IN)
    figure = Figure(figsize=(width, height * sum(rows) + 0.75 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False, height_ratios=rows)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        _panel(axis, part, results, narrow)
    return figure


def _panel(axis: "Axes", effects: Sequence[Effect], results: Results, narrow: bool) -> None:
    """Draw one row for each effect, from the top."""
    for row, effect in enumerate(effects):
        colour = COLOURS.get(effect.arm, "#8a8a8a")
        dots = differences(results, effect)
        # Three heights in a fixed order, not drawn by lot: equal values stay visible and the bytes stay the same.
        heights = [row + 0.2 + 0.16 * (index % 3) / 2 for index in range(len(dots))]
        axis.plot(dots, heights, "o", color=colour, markersize=3.6, alpha=0.7, markeredgewidth=0)
        if math.isfinite(effect.low) and math.isfinite(effect.high):
            axis.plot([effect.low, effect.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axis.plot([effect.estimate], [row], "D", color=colour, markersize=6, markeredgewidth=0)
    axis.axvline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5, alpha=0.4 if narrow else 0.9)
    single = len({effect.trait for effect in effects}) == 1
    names = [difference_name(item.arm) + ("" if single else f" · {_short(item.trait)}") for item in effects]
    if narrow:
        axis.set_yticks([])
        for row, name in enumerate(names):
            axis.text(0.0, row - 0.22, name, transform=axis.get_yaxis_transform(), va="bottom", fontsize=9)
    else:
        axis.set_yticks(range(len(effects)), names)
    axis.set_ylim(len(effects) - 0.45, -0.85 if narrow else -0.55)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    metric = effects[0].metric
    axis.set_xlabel(f"change in {metric_name(metric)} ({unit(metric)})")
    if is_share(metric):
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")


def heatmap(grid: Grid) -> Figure:
    """Draw cells from purple (below 0) over white to orange, the number in each; a grey cell was not measured.

    Where there is room the interval stands below the number.
    """
    values = [[math.nan if cell is None else cell.estimate for cell in row] for row in grid.cells]
    cells = np.array(values, dtype=float)
    known = np.abs(cells[np.isfinite(cells)])
    most = float(known.max(initial=0.0)) or 1.0
    roomy = len(grid.columns) <= _ROOMY
    side = min(_ROOMY_IN if roomy else _CELL_IN, (_WIDTH_IN - 1.6) / max(len(grid.columns), 1))
    size = min(_WIDTH_IN, max(3.6, 1.6 + side * len(grid.columns))), 1.2 + min(side, 0.5) * len(grid.rows)
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    colours = matplotlib.colormaps["PuOr_r"].with_extremes(bad="#c8c8c8")
    axis.pcolormesh(np.ma.masked_invalid(cells), cmap=colours, vmin=-most, vmax=most, edgecolors="#808080", lw=0.3)
    font = max(5.0, min(10.0, 22.0 * side))
    for (row, column), value in np.ndenumerate(cells):
        ink = "white" if math.isfinite(value) and abs(value) > 0.6 * most else "black"
        lines = _cell_lines(grid.cells[row][column], grid.metric, roomy)
        for place, text in enumerate(lines):
            height = row + 0.5 if len(lines) == 1 else row + (0.36, 0.7)[place]
            style: dict[str, Any] = {"fontsize": 7.0 if place else font, "color": ink}
            axis.text(column + 0.5, height, text, ha="center", va="center", **style)
    tilt = 0 if max(map(len, grid.columns), default=0) * 0.085 * len(grid.columns) < size[0] - 1.6 else 45
    axis.set_xticks(
        np.arange(len(grid.columns)) + 0.5,
        [*map(_short, grid.columns)],
        rotation=tilt,
        ha="right" if tilt else "center",
    )
    axis.set_yticks(np.arange(len(grid.rows)) + 0.5, [*map(_short, grid.rows)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.invert_yaxis()
    axis.set_xlabel(grid.axes[1])
    axis.set_ylabel(grid.axes[0])
    return figure


def _cell_lines(cell: Interval | None, metric: str, roomy: bool) -> list[str]:
    """Return the text of a cell: the number, and where there is room its interval."""
    if cell is None or not math.isfinite(cell.estimate):
        return ["n/a"]
    if not roomy or not is_bounded(cell):
        return [difference_text(cell.estimate, metric)]
    return [estimate_text(cell, metric), interval_text(cell, metric)]


def _short(name: str) -> str:
    name = visible(" ".join(name.split()))
    return name if len(name) <= 18 else f"{name[:17]}…"


def _bytes(figure: Figure, kind: str, **options: Any) -> bytes:
    """Write a figure without the date, the library's version or anything else that changes from day to day."""
    unwanted = ("Software",) if kind == "png" else ("Date", "Creator", "Format", "Type")
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata=dict.fromkeys(unwanted), **options)
    return buffer.getvalue()


def svg_element(figure: Figure, name: str, description: str, whole: bool = False) -> str:
    """Return the figure as an SVG element for a page: no prolog, ids of its own, the page's text colour and font.

    Args:
        figure: the figure that was drawn.
        name: name of the figure, unique on its page. It is put before every id.
        description: what the figure shows, for readers who cannot see it.
        whole: whether it fills the width of the page. Else it keeps its share of the widest figure, so that all text is
            equally large.
    """
    text = _bytes(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="0 0 ([0-9.]+) [0-9.]+"', head)
    width = float(box[1]) if box else 72 * _WIDTH_IN
    body = re.sub(r' id="', f' id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    # Only the widest fill the page; the others keep their share of it, so that all text is equally large.
    share = width / (72 * _WIDTH_IN)
    size = "width:100%" if whole else f"width:{100 * share:.0f}%;min-width:{_LEAST_PX * share:.0f}px"
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    shown = box[0] if box else ""
    return f'<svg class="figure" role="img" aria-label="{label}" {shown} style="{size}">{body.strip()}'

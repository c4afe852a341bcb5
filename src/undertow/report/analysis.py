"""An analysis or sweep as one HTML page, and as text for a terminal (schema undertow.analysis/1)."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from undertow.report.render import PAGE, environment, write_page
from undertow.report.results import read_settings

SCHEMA = "undertow.analysis/1"

Results = Mapping[str, Any]


def render_analysis(run: Path, results: Results) -> Path:
    """Write report.html into the run folder, and return its path.

    Args:
        run: the run folder.
        results: the content of its results.json.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from undertow.report.analysis_figure import panel_figures  # here, so that reading results does not load matplotlib

    page = (
        environment()
        .get_template("analysis.html")
        .render(
            results=results,
            figures=[Markup(figure) for figure in panel_figures(results["estimates"])],
            settings=read_settings(run),
            cell=cell_text,
            numeric=is_numeric,
        )
    )
    write_page(run / PAGE, page)
    return run / PAGE


def is_numeric(value: Any) -> bool:
    """Tell whether a cell is a number, so that it stands to the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell_text(value: Any) -> str:
    """Return a cell as text: numbers in at most four significant digits, a dash for nothing."""
    if value is None:
        return "–"  # noqa: RUF001 (a dash, as tables use it)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def estimate_text(one: Mapping[str, Any]) -> str:
    """Return an estimate with its interval."""
    if one["low"] is None or one["high"] is None:
        return f"{one['estimate']:.3f}  no interval"
    return f"{one['estimate']:.3f}  {one['low']:.3f} to {one['high']:.3f}"


def groups(estimates: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return the rows of each panel, in the order in which the panels come first."""
    order = list(dict.fromkeys(one["group"] for one in estimates))
    ranked = sorted(estimates, key=lambda one: order.index(one["group"]))
    return [(name, list(rows)) for name, rows in groupby(ranked, key=lambda one: one["group"])]


def summarise_analysis(results: Results) -> str:
    """Return the question, the answer and the estimates as text."""
    lines = [results["question"], "", results["answer"]]
    for name, rows in groups(results["estimates"]):
        lines += ["", f"{name} ({rows[0]['unit']}, 95 % intervals)"]
        lines += [f"{one['name']:44} {estimate_text(one)}  n = {one['n']}" for one in rows]
    return "\n".join(lines)

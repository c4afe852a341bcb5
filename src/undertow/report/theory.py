"""A study of the theory as one HTML page, and as text for a terminal (schema undertow.theory/1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from undertow.report.render import PAGE, environment, write_page
from undertow.report.results import read_settings

SCHEMA = "undertow.theory/1"

Results = Mapping[str, Any]


def render_theory(run: Path, results: Results) -> Path:
    """Write report.html into the run folder of a study of the theory, and return its path.

    Args:
        run: the run folder.
        results: the content of its results.json.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from undertow.report.theory_figure import theorem_figure  # here, so that reading results does not load matplotlib

    page = (
        environment()
        .get_template("theory.html")
        .render(
            results=results,
            answer=answer(results),
            figure=Markup(theorem_figure(results)),
            settings=read_settings(run),
            bound=bound_text,
            number=number_text,
        )
    )
    write_page(run / PAGE, page)
    return run / PAGE


def answer(results: Results) -> str:
    """Return how many of the assertions hold, and which do not."""
    assertions: Sequence[Mapping[str, Any]] = results["assertions"]
    failed = [one["name"] for one in assertions if not one["holds"]]
    held = f"{len(assertions) - len(failed)} of {len(assertions)} assertions hold on {results['networks']} networks"
    return f"{held}." if not failed else f"{held}; not: {', '.join(failed)}."


def number_text(value: float) -> str:
    """Return a figure in at most four significant digits."""
    return f"{value:.4g}"


def bound_text(bound: Sequence[float | None]) -> str:
    """Return the bounds of an assertion; an open end is left out."""
    low, high = bound
    if low is None:
        return "any" if high is None else f"at most {number_text(high)}"
    return f"at least {number_text(low)}" if high is None else f"{number_text(low)} to {number_text(high)}"


def summarise_theory(results: Results) -> str:
    """Return the question, the assertions and the variants as text."""
    lines = [results["question"], "", answer(results), ""]
    for one in results["assertions"]:
        holds = "holds" if one["holds"] else "FAILS"
        lines.append(f"{holds}  {one['name']:34} {number_text(one['value']):>10}  ({bound_text(one['bound'])})")
    lines += ["", "share of networks whose student has a lower loss on the teacher's trait (95 % Wilson interval)"]
    for one in results["variants"]:
        share = f"{one['share']:.2f}  {one['low']:.2f} to {one['high']:.2f}"
        lines.append(f"{one['name']:28} {one['initialisation']:6} initialisation  {share}  n = {one['n']}")
    return "\n".join(lines)

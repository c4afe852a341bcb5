"""A study's results as one HTML page, one JSON file and plain text. Rows are untrusted text: everything is escaped."""

import json
import textwrap
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple, cast

import jinja2
from markupsafe import Markup

from undertow.report.cells import initialisation_grid, trait_grid
from undertow.report.numbers import estimate_text, interval_text, level_text, p_text, side, unit
from undertow.report.results import Effect, Funnel, Results, SampleRow, load_results, read_settings
from undertow.report.wording import (
    answer_sentence,
    arm_name,
    difference_name,
    levels,
    metric_name,
    metrics_of,
    ordered,
    visible,
)
from undertow.store.disk import write_file

PAGE = "report.html"
DATA = "report.json"

_SAMPLES = 60
"""How many sample rows the page shows at most."""
_LENGTH = 2000
"""How many characters of a prompt or completion the page shows at most."""
_EFFECTS = 13
"""How many effects are listed at most, so that the whole stays within 25 lines."""
_WIDTH = 100
_NAME_WIDTH = 24


class Block(NamedTuple):
    """The effects of one metric, for the table.

    Attributes:
        metric: name of the metric of all these effects.
        effects: the effects in the order in which they are shown.
    """

    metric: str
    effects: list[Effect]


class Bar(NamedTuple):
    """One teacher's rows as a bar of the page.

    Attributes:
        funnel: how many rows the teacher wrote and how many were kept.
        percent: share of the rows that was kept, in percent. None if the teacher wrote none.
        reasons: reasons for rejection with the number of rows, the most frequent first.
    """

    funnel: Funnel
    percent: float | None
    reasons: list[tuple[str, int]]


def render(run: Path, results: Results | None = None) -> Path:
    """Write the report of a run into its folder: report.html and report.json.

    The page is one file that loads nothing and runs no script. Nothing is computed anew except the intervals of matrix
    cells, and the same results give the same bytes.

    Args:
        run: folder of the run, which gets both files.
        results: results of the run, if they were read already. None reads them from the folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: the folder does not exist, or cannot be read or written.
        ArtifactError: the folder is no finished run of a known schema.
        MissingExtraError: matplotlib is not installed.
    """
    from undertow.report import figures  # here, so that reading results does not load matplotlib

    results = results or load_results(run)
    answer, scores = answer_sentence(results), levels(results)
    data = {**results.to_json(), "answer": answer}
    write_page(run / DATA, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    return render_page(
        run,
        "template.html",
        results=results,
        answer=answer,
        metric=results.main_metric,
        arms_figure=Markup(figures.arms_figure(results)),
        narrow_figure=Markup(figures.arms_figure(results, narrow=True)),
        matrix_figure=Markup(figures.matrix_figure(results)),
        initialisation_figure=Markup(figures.initialisation_figure(results)),
        trait_grid=trait_grid(results),
        initialisation_grid=initialisation_grid(results),
        blocks=_blocks(results),
        levels=scores,
        metrics=metrics_of(scores),
        bars=[_bar(funnel) for funnel in results.funnels or (results.rows,)],
        samples=_samples(results.samples),
        settings=read_settings(run),
    )


def render_page(folder: Path, template: str, **values: Any) -> Path:
    """Write report.html into a folder, and return its path.

    Args:
        folder: folder that the page is written to. It must exist.
        template: file name of the template in this package.
        values: values that the template shows, by name. All text that is not marked safe is escaped.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_page(folder / PAGE, environment().get_template(template).render(**values))
    return folder / PAGE


def environment() -> jinja2.Environment:
    """Return the templates with their filters; everything that is not marked safe is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (arm_name, difference_name, metric_name)
    numbers = (estimate_text, interval_text, level_text, p_text, side, unit)
    filters = cast(dict[str, Any], environment.filters)  # the declared type lists jinja's own filters only
    filters.update({word.__name__: word for word in (*words, *numbers, clip)})
    return environment


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def clip(text: str) -> str:
    """Return text of at most 2000 characters, saying how many more there are."""
    more = len(text) - _LENGTH
    return text if more <= 0 else f"{text[:_LENGTH]} … ({more} more characters)"


def summarise(results: Results) -> str:
    """Return question, answer, effects of the main metric and rows as text, at most 25 lines of 100 characters."""
    metric = results.main_metric
    effects = ordered(effect for effect in results.effects if effect.metric == metric)
    table = [("effect", "trait", "estimate", "interval", "n"), *(_summary_row(effect) for effect in effects[:_EFFECTS])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        _line(results.question or f"Run of recipe {results.recipe}"),
        "",
        *textwrap.wrap(_line(answer_sentence(results), 10_000), _WIDTH, max_lines=5, placeholder=" ..."),
        "",
        f"{metric_name(metric)}, in {unit(metric)}",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table),
    ]
    if len(effects) > _EFFECTS:
        lines.append(f"... and {len(effects) - _EFFECTS} more in the report")
    rows = results.rows
    if rows.raw:
        lines.append(f"rows: {rows.kept} of {rows.raw} kept ({rows.kept / rows.raw:.1%})")
    return "\n".join(lines)


def _summary_row(effect: Effect) -> tuple[str, str, str, str, str]:
    return (
        _line(difference_name(effect.arm), 32),
        _line(effect.trait, _NAME_WIDTH),
        estimate_text(effect, effect.metric),
        interval_text(effect, effect.metric),
        "" if effect.n is None else str(effect.n),
    )


def _line(text: str, width: int = _WIDTH) -> str:
    """Return text on one line, without control characters, which a terminal would obey."""
    clean = " ".join("".join(sign if unicodedata.category(sign)[0] != "C" else " " for sign in text).split())
    return clean if len(clean) <= width else f"{clean[: width - 3]}..."


def _blocks(results: Results) -> list[Block]:
    effects = ordered(results.effects)
    metrics = dict.fromkeys(effect.metric for effect in effects)
    return [Block(metric, [effect for effect in effects if effect.metric == metric]) for metric in metrics]


def _bar(funnel: Funnel) -> Bar:
    percent = 100.0 * min(funnel.kept / funnel.raw, 1.0) if funnel.raw else None
    return Bar(funnel, percent, sorted(funnel.reject_reasons.items(), key=lambda item: (-item[1], item[0])))


def _samples(samples: tuple[SampleRow, ...]) -> list[SampleRow]:
    """Return the sample rows teacher by teacher, kept ones first."""
    order = list(dict.fromkeys(sample.teacher for sample in samples))
    return sorted(samples, key=lambda sample: (order.index(sample.teacher), not sample.kept))[:_SAMPLES]


def write_page(path: Path, text: str) -> None:
    """Replace a file at once, so that a report is never seen half-written."""
    write_file(path, text.encode("utf-8", "replace"))

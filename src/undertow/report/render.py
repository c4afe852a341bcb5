"""A run folder as one HTML page and one JSON file. Rows are untrusted text: everything is escaped."""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import jinja2
from markupsafe import Markup

from undertow.report.differences import levels, metrics_of
from undertow.report.results import Effect, Funnel, Results, Sample, load_results, read_settings
from undertow.report.wording import (
    answer,
    arm_name,
    difference_name,
    difference_text,
    interval_text,
    level_text,
    main_metric,
    metric_name,
    ordered,
    p_text,
    side,
    unit,
    visible,
)
from undertow.storage import write_file

PAGE = "report.html"
DATA = "report.json"

_SAMPLES = 60
"""Most sample rows on the page."""
_LENGTH = 2000
"""Most signs of a prompt or completion on the page."""


class Block(NamedTuple):
    """The effects of one metric, for the table."""

    metric: str
    effects: list[Effect]


class Bar(NamedTuple):
    """One teacher's rows as a bar: the share that was kept in percent, None if it wrote none."""

    funnel: Funnel
    percent: float | None
    reasons: list[tuple[str, int]]


def render(run: Path) -> Path:
    """Write the report of a run into its folder: report.html and report.json.

    The page is one file that loads nothing and runs no script. Nothing is computed anew, and the same results give
    the same bytes.

    Args:
        run: the run folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: the folder does not exist, or cannot be read or written.
        ArtifactError: the folder is no finished run of a known schema.
        MissingExtraError: matplotlib is not installed.
    """
    results = load_results(run)
    page = html(results, read_settings(run))
    data = json.dumps({**results.to_json(), "answer": answer(results)}, ensure_ascii=False, indent=1) + "\n"
    write_page(run / DATA, data)
    write_page(run / PAGE, page)
    return run / PAGE


def html(results: Results, settings: str | None) -> str:
    """Return the page.

    Args:
        results: what the run found.
        settings: the text of its config.yaml, or None if that is gone.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from undertow.report import figures  # here, so that reading results does not load matplotlib

    template = environment().get_template("template.html")
    scores = levels(results)
    return template.render(
        results=results,
        answer=answer(results),
        metric=main_metric(results),
        arms_figure=Markup(figures.arms_figure(results)),
        narrow_figure=Markup(figures.arms_figure(results, narrow=True)),
        matrix_figure=Markup(figures.matrix_figure(results)),
        initialisation_figure=Markup(figures.initialisation_figure(results)),
        blocks=_blocks(results),
        levels=scores,
        metrics=metrics_of(scores),
        bars=[_bar(funnel) for funnel in results.funnels or (results.rows,)],
        samples=_samples(results.samples),
        settings=settings,
    )


def environment() -> jinja2.Environment:
    """Return where the templates and their filters are; everything that is not marked safe is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (arm_name, difference_name, difference_text, interval_text, level_text, metric_name, p_text, side, unit)
    filters = cast(dict[str, Any], environment.filters)  # the declared type lists jinja's own filters only
    filters.update({word.__name__: word for word in (*words, clip)})
    return environment


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def clip(text: str) -> str:
    """Return text of at most 2000 signs, saying how many more there are."""
    more = len(text) - _LENGTH
    return text if more <= 0 else f"{text[:_LENGTH]} … ({more} more characters)"


def _blocks(results: Results) -> list[Block]:
    effects = ordered(results.effects)
    metrics = dict.fromkeys(effect.metric for effect in effects)
    return [Block(metric, [effect for effect in effects if effect.metric == metric]) for metric in metrics]


def _bar(funnel: Funnel) -> Bar:
    percent = 100.0 * min(funnel.kept / funnel.raw, 1.0) if funnel.raw else None
    return Bar(funnel, percent, sorted(funnel.reject_reasons.items(), key=lambda item: (-item[1], item[0])))


def _samples(samples: tuple[Sample, ...]) -> list[Sample]:
    """Return the rows teacher by teacher, kept ones first."""
    order = list(dict.fromkeys(sample.teacher for sample in samples))
    return sorted(samples, key=lambda sample: (order.index(sample.teacher), not sample.kept))[:_SAMPLES]


def write_page(path: Path, text: str) -> None:
    """Replace a file at once, so that a report is never seen half-written."""
    write_file(path, text.encode("utf-8", "replace"))

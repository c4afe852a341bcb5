"""Run folders of every kind behind one function that finds the schema, the page and the summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from undertow.report.analysis import SCHEMA, render_analysis, summarise_analysis
from undertow.report.render import render, summarise
from undertow.report.results import check_results, read_results, schema_of

RunJson = Mapping[str, Any]


class Shown(NamedTuple):
    """A run folder whose page was written.

    Attributes:
        results: content of the run's results.json, as plain data.
        summary: summary as text for a terminal.
        page: path of the page that was written.
        has_arms: whether the run has a figure of its arms.
    """

    results: RunJson
    summary: str
    page: Path
    has_arms: bool


def show_run(run: Path | str) -> Shown:
    """Write the page of a run folder, and return its results and summary.

    Args:
        run: folder that `undertow run`, `undertow demo` or `run_study` wrote.

    Raises:
        StorageError: the folder does not exist, or cannot be read or written.
        ArtifactError: the folder is no finished run of a known schema.
        MissingExtraError: matplotlib is not installed.
    """
    run = Path(run)
    data = read_results(run)
    if schema_of(data) == SCHEMA:
        found = cast(RunJson, data)
        return Shown(found, summarise_analysis(found), render_analysis(run, found), has_arms=False)
    results = check_results(data, run)  # which says what is wrong with any other schema than a study's
    return Shown(results.to_json(), summarise(results), render(run, results), has_arms=True)

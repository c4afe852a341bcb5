"""Run folders of every kind behind one function: which schema, which page, which summary."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from undertow.report.analysis import SCHEMA, render_analysis, summarise_analysis
from undertow.report.render import render, summarise
from undertow.report.results import RESULTS, load_results
from undertow.store.disk import storage_errors

RunJson = Mapping[str, Any]


class Shown(NamedTuple):
    """A run folder whose page was written.

    Attributes:
        results: the content of its results.json.
        summary: for a terminal.
        page: the path of the page.
        has_arms: whether there is a figure of arms.
    """

    results: RunJson
    summary: str
    page: Path
    has_arms: bool


def show_run(run: Path | str) -> Shown:
    """Write the page of a run folder and return what is to be shown.

    Raises:
        StorageError: the folder does not exist, or cannot be read or written.
        ArtifactError: the folder is no finished run of a known schema.
        MissingExtraError: matplotlib is not installed.
    """
    run = Path(run)
    data = _plain(run)
    if data.get("schema") == SCHEMA:
        return Shown(data, summarise_analysis(data), render_analysis(run, data), has_arms=False)
    results = load_results(run)  # which says what is wrong with any other schema than a study's
    return Shown(results.to_json(), summarise(results), render(run), has_arms=True)


def _plain(run: Path) -> RunJson:
    with storage_errors(run):
        try:
            data = json.loads((run / RESULTS).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
    return cast(RunJson, data) if isinstance(data, dict) else {}

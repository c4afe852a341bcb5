"""Run folders of every kind behind one function: which schema, which page, which summary."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from undertow.report import analysis, theory
from undertow.report.render import render
from undertow.report.results import RESULTS, load_results
from undertow.report.summary import summarise
from undertow.storage import storage_errors

Results = Mapping[str, Any]


class Shown(NamedTuple):
    """A run folder whose page was written.

    Attributes:
        results: the content of its results.json.
        summary: for a terminal.
        page: the path of the page.
        has_arms: whether there is a figure of arms.
    """

    results: Results
    summary: str
    page: Path
    has_arms: bool


_KINDS: Mapping[str, tuple[Callable[[Path, Results], Path], Callable[[Results], str]]] = {
    theory.SCHEMA: (theory.render_theory, theory.summarise_theory),
    analysis.SCHEMA: (analysis.render_analysis, analysis.summarise_analysis),
}
"""Page and summary by schema; every other schema is a study's, and its reader says what is wrong with it."""


def show(run: Path) -> Shown:
    """Write the page of a run folder and return what is to be shown.

    Raises:
        StorageError: the folder does not exist, or cannot be read or written.
        ArtifactError: the folder is no finished run of a known schema.
        MissingExtraError: matplotlib is not installed.
    """
    data = _plain(run)
    if (kind := _KINDS.get(str(data.get("schema")))) is not None:
        page, summary = kind
        return Shown(data, summary(data), page(run, data), has_arms=False)
    results = load_results(run)
    return Shown(results.to_json(), summarise(results), render(run), has_arms=True)


def _plain(run: Path) -> Results:
    with storage_errors(run):
        try:
            data = json.loads((run / RESULTS).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
    return cast(Results, data) if isinstance(data, dict) else {}

"""The interface of analyses: each is one stage, with a result that one page can show. `ANALYSES` has them by name."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from undertow.errors import unknown_name
from undertow.registry import Registry
from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.recipe import first_problem

SCHEMA = "undertow.analysis/1"
RESULT = "result.json"
"""Name of the file with what a stage found."""

AnalysisResult = dict[str, Any]
"""Plain data, schema undertow.analysis/1, shown by `undertow.report.analysis`:

answer      sentences; each line is a paragraph
estimates   [{group, name, unit, estimate, low, high, n, p}], one panel of the figure for each group
tables      [{title, note, columns, rows}]; with `brief: n` the terminal shows the first n columns
figures     may be left out: [{title, x, y, lines: [{name, points: [[x, y]], guide}]}], both axes logarithmic
not_tested  sentences
"""

ESTIMATE = ("estimate", "low", "high", "n", "p")
"""Keys of a row that describe its estimate."""

Settings = TypeVar("Settings")

Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Types of settings, with the limits that `validate_settings` enforces."""


def _as_stored(found: AnalysisResult) -> AnalysisResult:
    """Return a stored result as it is."""
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One kind of analysis. `ANALYSES` holds them all.

    Attributes:
        name: name of the analysis in recipes, and kind of its stage.
        needs_study: whether it looks at the rows or models of a study.
        settings: dataclass whose fields are its settings.
        stage: function that makes the stage, from the settings as they were given and the study or None.
        execute: function that does the work and returns what is stored.
        present: function that turns what is stored into the result. The default returns it as it is.
        seconds_per_unit: seconds for a unit of the stage's cost on two cores, until a store holds measured ones.
    """

    name: str
    needs_study: bool
    settings: type[Any]
    stage: Callable[[Mapping[str, Any], Any], Stage]
    execute: Callable[[StageContext], dict[str, Any]]
    present: Callable[[dict[str, Any]], AnalysisResult] = _as_stored
    seconds_per_unit: float

    def run(self, context: StageContext) -> None:
        """Do the work of the stage and store what was found."""
        found = json.dumps(self.execute(context), indent=1, allow_nan=False)
        (context.out / RESULT).write_text(found, encoding="utf-8")


def validate_settings(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Make the dataclass of an analysis's settings from plain data.

    Args:
        kind: dataclass whose fields are the settings.
        given: values of settings by name, as a recipe has them.

    Raises:
        UnknownNameError: there is no such setting.
        ConfigError: a value is not valid.
    """
    known = {one.name for one in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in given:
        if name not in known:
            raise unknown_name("setting", name, known)
    try:
        return TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        raise first_problem(error, BaseModel) from error


def estimate_row(group: str, name: str, unit: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimate (`Estimate.to_json`) as a row of a result. Without a test its p is None."""
    return {"group": group, "name": name, "unit": unit, **{key: found.get(key) for key in ESTIMATE}}


def table(title: str, note: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], **more: Any) -> dict[str, Any]:
    """Return a table of a result as plain data."""
    return {"title": title, "note": note, "columns": [*columns], "rows": [[*row] for row in rows], **more}


ANALYSES: Registry[Analysis] = Registry(
    "analysis",
    {
        "theorem": "undertow.study.analyses.theorem:THEOREM",
        "theorem-channels": "undertow.study.analyses.theorem_channels:THEOREM_CHANNELS",
        "digits": "undertow.study.analyses.digits:DIGITS",
        "meaning": "undertow.study.analyses.meaning:MEANING",
        "mechanism": "undertow.study.analyses.mechanism:MECHANISM",
        "channels": "undertow.study.analyses.channels:CHANNELS",
    },
)
"""`theorem`: theorem 1 on random networks; `theorem-channels`: the same for KL on logits and for DPO; `digits`: digits
through auxiliary logits; `meaning`: what detectors and readers find in the rows; `mechanism`: how students move inside;
`channels`: rows, probabilities and preferences beside each other."""

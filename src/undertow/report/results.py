"""The results of a run, read back from its folder and checked (schema undertow.run/1).

Keys that this version does not know are kept, so that a report loses nothing of what a run has written.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from undertow.errors import ArtifactError, StorageError
from undertow.store.disk import storage_errors
from undertow.study.arms import MeanScore, ScoreRecord, Text, main_metric

SCHEMA = "undertow.run/1"
"""The only layout of results.json that this version reads."""

RESULTS = "results.json"
SETTINGS = "config.yaml"


def _bound(infinite: float) -> BeforeValidator:
    return BeforeValidator(lambda value: infinite if value is None else value)


Low = Annotated[float, _bound(float("-inf"))]
High = Annotated[float, _bound(float("inf"))]
Count = Annotated[int, Field(ge=0)]
Cells = tuple[tuple[float | None, ...], ...]


class Interval(ScoreRecord):
    """A number with its interval; an end about which nothing is known (null in the file) is infinite.

    Attributes:
        estimate: the number, in the metric's own unit (logits, or a share of answers).
        low: lower end of the interval.
        high: upper end of the interval.
        level: coverage of the interval, between 0 and 1.
        n: how many independent units it rests on. None where the run did not say.
        p: p-value of "no effect". None where no test belongs to it.
    """

    estimate: float
    low: Low = float("-inf")
    high: High = float("inf")
    level: float = 0.95
    n: Count | None = None
    p: float | None = None


class Effect(Interval):
    """An arm minus its own control, paired by replicate.

    Attributes:
        arm: name of the arm (a kind of model in a study), such as "student".
        trait: name of the trait that the arm's teacher has.
        metric: name of the metric in which it is measured.
    """

    arm: str
    trait: Text
    metric: str


class Diagonal(Interval):
    """How much more a teacher moves its own trait than the others, after row and column effects.

    Attributes:
        n_traits: how many traits the matrix has.
        metric: name of the metric in which it is measured.
    """

    n_traits: int
    metric: str = "logit_margin"


class Funnel(ScoreRecord):
    """How many rows of one teacher the filters kept; a row with two reasons counts in both.

    Attributes:
        teacher: name of the teacher. Empty for all teachers together.
        base: reference of the teacher's base. Empty if not known.
        raw: how many rows it wrote.
        kept: how many rows were kept.
        reject_reasons: how many rows each reason rejected.
    """

    teacher: Text = ""
    base: Text = ""
    raw: Count
    kept: Count
    reject_reasons: dict[Text, Count] = Field(default={})


class TraitMatrix(ScoreRecord):
    """Trained trait by evaluated trait: student minus control, mean over replicates.

    Attributes:
        metric: name of the metric of the values.
        traits: names of the trained traits, one for each row.
        evaluated: names of the evaluated traits, one for each column. Empty takes the trained ones.
        values: one row of values for each trained trait. None where nothing was measured.
    """

    metric: str = "logit_margin"
    traits: tuple[Text, ...]
    evaluated: tuple[Text, ...] = ()
    values: Cells

    @model_validator(mode="after")
    def _shape(self) -> Self:
        _check_shape(self.values, len(self.traits), len(self.columns))
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the evaluated traits, one for each column."""
        return self.evaluated or self.traits


class Initialisation(Interval):
    """Teacher base by student base; the estimate is the difference of the same base and other bases.

    Attributes:
        bases: references of the bases, one for each row and column.
        values: mean effect for each base of the teacher (row) and of the student (column). None where nothing was
            measured.
        metric: name of the metric of the values.
    """

    bases: tuple[Text, ...]
    values: Cells
    metric: str = "logit_margin"

    @model_validator(mode="after")
    def _shape(self) -> Self:
        _check_shape(self.values, len(self.bases), len(self.bases))
        return self


class SampleRow(ScoreRecord):
    """One row that a teacher wrote; untrusted text.

    Attributes:
        teacher: name of the teacher that wrote it.
        prompt: the prompt that the teacher answered.
        completion: the answer of the teacher.
        kept: whether the filters kept it.
        reasons: reasons why it was rejected. Empty for a kept row.
    """

    teacher: Text
    prompt: Text
    completion: Text
    kept: bool
    reasons: tuple[Text, ...] = ()


class Results(ScoreRecord):
    """Everything that a run found, with the names of results.json.

    Attributes:
        layout: name of the schema, "schema" in the file.
        recipe: name of the recipe that was run.
        run_dir: folder of the run as the run knew it.
        wall_s: seconds that the run took.
        question: the question that the recipe asks.
        rows: how many rows were kept, over all teachers.
        funnels: how many rows of each teacher were kept.
        arms: mean scores of every model.
        effects: effects of every arm against its control.
        matrix: matrix of trained trait by evaluated trait. None if the run has none.
        diagonal: how much more a teacher moves its own trait. None if it was not estimated.
        initialisation: matrix of teacher base by student base. None if the run has none.
        samples: some of the rows that teachers wrote.
        not_tested: sentences that say what the run did not test.
        versions: versions of the libraries by name.
        created: when the run ended, as text.
    """

    layout: str = Field(alias="schema")
    recipe: Text
    run_dir: Text = ""
    wall_s: float = 0.0
    question: Text = ""
    rows: Funnel
    funnels: tuple[Funnel, ...] = ()
    arms: tuple[MeanScore, ...]
    effects: tuple[Effect, ...]
    matrix: TraitMatrix | None = None
    diagonal: Diagonal | None = None
    initialisation: Initialisation | None = None
    samples: tuple[SampleRow, ...] = ()
    not_tested: tuple[Text, ...] = ()
    versions: dict[Text, Text] = Field(default={})
    created: Text = ""

    @property
    def main_metric(self) -> str:
        """Name of the metric that answer and figure use."""
        return main_metric(effect.metric for effect in self.effects)

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the names of results.json; what is infinite or not a number becomes null."""
        return cast(dict[str, Any], json.loads(self.model_dump_json(by_alias=True)))


def _check_shape(values: Cells, rows: int, columns: int) -> None:
    if len(values) != rows or any(len(row) != columns for row in values):
        raise ValueError(f"the values are not {rows} x {columns}, as the names say")


def load_results(run: Path) -> Results:
    """Read and check the results of a run of a study.

    Args:
        run: folder of a finished run.

    Raises:
        StorageError: there is no such folder, or it cannot be read.
        ArtifactError: the folder is no run, the run has not finished, or its results are half-written, damaged or of
            another schema.
    """
    return check_results(read_results(run), run)


def read_results(run: Path) -> object:
    """Read the results of a run of any kind as plain data, unchecked; the errors are those of `load_results`."""
    path = run / RESULTS
    with storage_errors(run):
        if not run.is_dir():
            fix = "Give the folder that `undertow run` or `undertow demo` wrote."
            raise StorageError("There is no run folder here.", run, fix)
        if not path.is_file():
            raise _without_results(run)
        content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        what, fix = "The results of this run are half-written or damaged.", "Run it again: finished stages are kept."
        raise ArtifactError(what, f"{path}: {error}", fix) from error


def read_settings(run: Path) -> str | None:
    """Return the text of the run's config.yaml, or None if there is none."""
    with storage_errors(run):
        try:
            return (run / SETTINGS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None


def _without_results(run: Path) -> ArtifactError:
    if (run / SETTINGS).is_file():
        fix = "Run it again: finished stages are kept, and the report can be made when it is done."
        return ArtifactError("This run has not finished.", f"{run} has {SETTINGS} but no {RESULTS}", fix)
    fix = "Give the folder that `undertow run` or `undertow demo` wrote."
    return ArtifactError("This folder is no run.", f"{run} has no {RESULTS}", fix)


def check_results(data: object, run: Path) -> Results:
    """Check what `read_results` read; the errors are those of `load_results`."""
    path, schema = run / RESULTS, schema_of(data)
    if schema != SCHEMA:
        value = f"{path}: schema {schema!r}, expected {SCHEMA!r}"
        fix = "Use the version of Undertow that wrote it, or run it again with this one."
        raise ArtifactError("These results are of another schema.", value, fix)
    try:
        return Results.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        fix = "Run it again: finished stages are kept."
        raise ArtifactError("The results of this run are damaged.", f"{path}: {place}: {first['msg']}", fix) from error


def schema_of(data: object) -> object:
    """Return the schema that results claim to have, or None."""
    return cast(dict[str, object], data).get("schema") if isinstance(data, dict) else None

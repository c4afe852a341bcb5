"""Analyses: recipes whose outcome is tables and intervals of their own, computed from nothing or from a study's stages.

The schema undertow.analysis/1 holds `answer` (sentences), `estimates` (rows of the figure, one panel for each `group`),
`tables` and `not_tested`, whatever was analysed; one page shows all of them.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from undertow.errors import ConfigError
from undertow.experiment import executors
from undertow.experiment.estimates import PlannedStage
from undertow.experiment.folder import write_run
from undertow.experiment.graph import Stage
from undertow.experiment.progress import Progress
from undertow.experiment.recipe import Recipe, build_recipe, first_problem
from undertow.experiment.run import RATES
from undertow.experiment.runner import Executor, Runner, StageContext
from undertow.experiment.study import Study, build_study

SCHEMA = "undertow.analysis/1"
RESULT = "result.json"

Finding = dict[str, Any]
"""answer: str; estimates: [{group, name, unit, estimate, low, high, n, p}]; tables: [{title, note, columns, rows}];
not_tested: [str]."""


class AnalysisRecipe(BaseModel):
    """One analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str = ""
    """What it asks, one sentence."""
    analysis: Literal["digits", "meaning", "mechanism"]
    """`digits`: the auxiliary-logit experiment; `meaning`: what detectors and readers find in the rows; `mechanism`:
    how students move inside."""
    settings: dict[str, Any] = {}
    """Settings of the analysis itself."""
    study: Recipe | None = None
    """The study whose rows or models are analysed."""


def build_analysis(data: Mapping[str, Any]) -> AnalysisRecipe:
    """Check plain data and make a recipe of it.

    Raises:
        UnknownNameError: a key does not exist.
        ConfigError: a value is not valid, or the analysis lacks its study.
    """
    plain = dict(data)
    if isinstance(study := plain.get("study"), Mapping):
        plain["study"] = build_recipe({"name": plain.get("name", "study"), **study})
    try:
        recipe = AnalysisRecipe.model_validate(plain)
    except ValidationError as error:
        raise first_problem(error, AnalysisRecipe) from error
    if (recipe.study is None) != (recipe.analysis == "digits"):
        fix = "Give `study` to the analyses meaning and mechanism, and to no other."
        raise ConfigError("The analysis and its study do not fit.", recipe.analysis, fix)
    return recipe


def plan_analysis(recipe: AnalysisRecipe, runs: Path) -> list[PlannedStage]:
    """Return which stages are finished, which would run and how long; nothing is written."""
    return Runner(runs / "store", EXECUTORS, rates={**RATES, **_RATES}).plan([_stage(recipe)])


def run_analysis(
    recipe: AnalysisRecipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False
) -> dict[str, Any]:
    """Run what is missing, write the run folder and return the content of results.json.

    Raises:
        UserError: a setting is not valid, or the disk stopped it.
    """
    started = time.perf_counter()
    stage = _stage(recipe)
    rates = {**RATES, **_RATES}
    folder = Runner(runs / "store", EXECUTORS, progress, rebuild, rates).run([stage])[stage.fingerprint]
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return write_run(recipe, runs, found, schema=SCHEMA, started=started)


def _stage(recipe: AnalysisRecipe) -> Stage:
    if recipe.study is None:
        return _digits_stage(recipe)
    study = build_study(recipe.study)
    lay_out = {"meaning": _meaning_stage, "mechanism": _mechanism_stage}[recipe.analysis]
    return lay_out(recipe, study)


def _digits_stage(recipe: AnalysisRecipe) -> Stage:
    from undertow.experiment.digits import digits_cost, resolve_digits

    config = resolve_digits(recipe.settings)
    label = "train teachers and students on digits"
    return Stage(kind="digits", version=1, config=config, label=label, cost=digits_cost(recipe.settings))


def _meaning_stage(recipe: AnalysisRecipe, study: Study) -> Stage:
    parents = {f"rows-{index:02d}": source.kept for index, source in enumerate(study.sources)}
    rows = [
        {"role": role, "teacher": source.teacher, "replicate": source.replicate}
        for role, source in zip(parents, study.sources, strict=True)
    ]
    config = {**_base(study), "rows": rows, "settings": recipe.settings}
    return Stage(
        kind="meaning",
        version=1,
        config=config,
        parents=parents,
        label="look for meaning in the rows",
        cost=len(parents),
    )


def _base(study: Study) -> dict[str, Any]:
    from undertow.models.identity import identity

    base = study.recipe.bases[0]
    return {"base": base, "weights": identity(base)}


def _finding(name: str) -> Executor:
    """Return an executor that writes what the function of that name finds."""

    def execute(context: StageContext) -> None:
        found = _ANALYSES[name](context)
        (context.out / RESULT).write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")

    return execute


def _digits(context: StageContext) -> Finding:
    from undertow.experiment.digits import digits_analysis

    return digits_analysis(context.config, context.advance)


def _meaning(context: StageContext) -> Finding:
    from undertow.experiment.meaning import meaning_analysis
    from undertow.models.load import load_model
    from undertow.rows import read_rows

    rows: dict[str, dict[int, Any]] = {}
    for one in context.config["rows"]:
        kept = read_rows(context.parents[one["role"]] / "kept.jsonl")
        rows.setdefault(one["teacher"], {})[one["replicate"]] = kept
    return meaning_analysis(rows, load_model(context.config["base"]), context.config["settings"], context.advance)


def _mechanism(context: StageContext) -> Finding:
    from undertow.experiment.mechanism import mechanism_analysis

    return mechanism_analysis(context)


def _mechanism_stage(recipe: AnalysisRecipe, study: Study) -> Stage:
    from undertow.experiment.mechanism import mechanism_stage

    return mechanism_stage(study, recipe.settings)


_ANALYSES: Mapping[str, Callable[[StageContext], Finding]] = {
    "digits": _digits,
    "meaning": _meaning,
    "mechanism": _mechanism,
}

EXECUTORS: Mapping[str, Executor] = {**executors.EXECUTORS, **{name: _finding(name) for name in _ANALYSES}}
"""The executors of studies and of analyses."""

_RATES = {"digits": 0.005, "meaning": 25.0, "mechanism": 0.5}
"""Seconds per unit of cost on two cores, until a store holds measured ones."""

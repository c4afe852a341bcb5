"""Recipes of analyses: they are checked, planned and run, each as one stage."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from undertow.errors import ConfigError, unknown_name
from undertow.store.progress import Progress
from undertow.store.run_folder import write_run
from undertow.store.runner import Executor, Runner
from undertow.store.side_by_side import finish_stages
from undertow.store.stages import PlannedStage, Stage
from undertow.study import executors
from undertow.study.analyses.base import ANALYSES, RESULT, SCHEMA, validate_settings
from undertow.study.forecast import StageForecast
from undertow.study.recipe import Recipe, build_recipe, first_problem
from undertow.study.run import RATES, prepare_workers
from undertow.study.study import build_study

_EXECUTORS: Mapping[str, Executor] = {**executors.EXECUTORS, **{name: ANALYSES[name].run for name in ANALYSES}}
_RATES = {**RATES, **{name: ANALYSES[name].seconds_per_unit for name in ANALYSES}}


class AnalysisRecipe(BaseModel):
    """One analysis with its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    question: str = ""
    """The question that it asks, in one sentence."""
    analysis: str
    """Name of the analysis, a key of `undertow.study.analyses.base.ANALYSES`."""
    settings: dict[str, Any] = {}
    """Settings of the analysis itself."""
    study: Recipe | None = None
    """The study whose rows or models are analysed. None for an analysis that needs none."""

    @field_validator("analysis")
    @classmethod
    def _exists(cls, name: str) -> str:
        if name not in ANALYSES:
            # An UnknownNameError is no ValueError, so it passes through pydantic as it is.
            raise unknown_name("analysis", name, ANALYSES)
        return name


def build_analysis(data: Mapping[str, Any]) -> AnalysisRecipe:
    """Check plain data and make a recipe of it.

    Raises:
        UnknownNameError: a key, a setting or the analysis does not exist.
        ConfigError: a value is not valid, or the analysis lacks its study or has one that it does not need.
    """
    plain = dict(data)
    if isinstance(study := plain.get("study"), Mapping):
        plain["study"] = build_recipe({"name": plain.get("name", "study"), **study})
    try:
        recipe = AnalysisRecipe.model_validate(plain)
    except ValidationError as error:
        raise first_problem(error, AnalysisRecipe) from error
    analysis = ANALYSES[recipe.analysis]
    if (recipe.study is not None) != analysis.needs_study:
        needing = " and ".join(name for name in ANALYSES if ANALYSES[name].needs_study)
        fix = f"Give `study` to the analyses {needing}, and to no other."
        raise ConfigError("The analysis and its study do not fit.", recipe.analysis, fix)
    validate_settings(analysis.settings, recipe.settings)
    return recipe


def plan_analysis(recipe: AnalysisRecipe, runs: Path) -> list[PlannedStage]:
    """Return the stages of an analysis: which are finished, which would run and how long they would take.

    Nothing is computed or written.
    """
    return Runner(runs / "store", _EXECUTORS, rates=_RATES, forecast=StageForecast()).plan([_stage(recipe)])


def run_analysis(
    recipe: AnalysisRecipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False, workers: int = 1
) -> dict[str, Any]:
    """Run what is missing of an analysis, and write its run folder.

    Args:
        recipe: the analysis that is run, with its settings.
        runs: folder in which all runs, and the store of finished stages, are kept.
        progress: receives the progress of every stage. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.
        workers: how many stages run at once, each in a process of its own.

    Returns:
        The content of results.json.

    Raises:
        UserError: a setting is not valid, or the disk stopped it.
    """
    started = time.perf_counter()
    stage = _stage(recipe)
    if recipe.study is not None:
        prepare_workers(recipe.study, workers)
    runner = Runner(runs / "store", _EXECUTORS, progress, rebuild, _RATES, StageForecast())
    folder = finish_stages(runner, [stage], workers)[stage.fingerprint]
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return write_run(recipe, runs, ANALYSES[recipe.analysis].present(found), schema=SCHEMA, started=started)


def _stage(recipe: AnalysisRecipe) -> Stage:
    study = None if recipe.study is None else build_study(recipe.study)
    return ANALYSES[recipe.analysis].stage(recipe.settings, study)

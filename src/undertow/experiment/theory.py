"""Studies of the theory: recipes that train no language model, run as one stage of the same runner."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from undertow.errors import unknown_name
from undertow.experiment.estimates import PlannedStage
from undertow.experiment.folder import write_run
from undertow.experiment.graph import Stage
from undertow.experiment.progress import Progress
from undertow.experiment.recipe import first_problem
from undertow.experiment.runner import Executor, Runner, StageContext

SCHEMA = "undertow.theory/1"

RATES = {"theorem": 0.1}
"""Seconds per random network on two cores, until a store holds a measured one."""


class TheoryRecipe(BaseModel):
    """One study of the theory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str = ""
    """What the study asks, one sentence."""
    theory: Literal["theorem"]
    """Which study: `theorem` checks theorem 1 of Cloud et al. (2025) on random networks."""
    settings: dict[str, Any] = {}
    """Fields of the study's own config, `TheoremConfig`."""


def build_theory(data: Mapping[str, Any]) -> TheoryRecipe:
    """Check plain data and make a recipe of it.

    Raises:
        UnknownNameError: a key does not exist.
        ConfigError: a value is not valid.
    """
    try:
        return TheoryRecipe.model_validate(dict(data))
    except ValidationError as error:
        raise first_problem(error, TheoryRecipe) from error


def plan_theory(recipe: TheoryRecipe, runs: Path) -> list[PlannedStage]:
    """Return whether the study is finished and how long it would take; nothing is written."""
    return Runner(runs / "store", EXECUTORS, rates=RATES).plan([_stage(recipe)])


def run_theory(
    recipe: TheoryRecipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False
) -> dict[str, Any]:
    """Run the study unless its result is there, and write its run folder; return the content of results.json.

    Raises:
        UserError: a setting is not valid, or the disk stopped it.
    """
    started = time.perf_counter()
    stage = _stage(recipe)
    folder = Runner(runs / "store", EXECUTORS, progress, rebuild, RATES).run([stage])[stage.fingerprint]
    found = {
        "theory": recipe.theory,
        "settings": dict(stage.config),
        **json.loads((folder / "result.json").read_text(encoding="utf-8")),
    }
    return write_run(recipe, runs, found, schema=SCHEMA, started=started)


def _stage(recipe: TheoryRecipe) -> Stage:
    from undertow.theory.one_step import TheoremConfig

    known = {field.name for field in fields(TheoremConfig)}
    for name in recipe.settings:
        if name not in known:
            raise unknown_name("setting", name, known)
    config = _config(recipe.settings)
    return Stage(
        kind=recipe.theory,
        version=1,
        config=json.loads(json.dumps(asdict(config))),
        label=f"check the theorem on {config.networks} networks",
        cost=config.networks,
    )


def _config(settings: Mapping[str, Any]) -> Any:
    from undertow.theory.one_step import TheoremConfig

    try:
        return TypeAdapter(TheoremConfig).validate_python(dict(settings))
    except ValidationError as error:
        raise first_problem(error, TheoryRecipe) from error


def check(context: StageContext) -> None:
    """Check the theorem."""
    from undertow.theory.one_step import check_theorem

    result = check_theorem(_config(context.config), context.advance)
    (context.out / "result.json").write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")


EXECUTORS: Mapping[str, Executor] = {"theorem": check}
"""The executor of each study."""

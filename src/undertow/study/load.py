"""Load, plan and run recipes of every kind: studies, sweeps and analyses.

A file with the key `analysis` is an analysis, one with `variants` is a sweep, and every other one is a study of
language models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undertow.errors import ConfigError
from undertow.store.progress import Progress
from undertow.store.stages import PlannedStage
from undertow.study.analyses.recipe import AnalysisRecipe, build_analysis, plan_analysis, run_analysis
from undertow.study.recipe import Recipe, build_recipe, read_recipe
from undertow.study.run import plan_recipe, run_recipe
from undertow.study.sweep import Sweep, build_sweep, plan_sweep, run_sweep

AnyRecipe = Recipe | AnalysisRecipe | Sweep


def load_recipe(where: str, settings: Sequence[str] = (), tier: str | None = None) -> AnyRecipe:
    """Read a recipe of any kind.

    Args:
        where: path of a YAML file, or name of a packaged recipe.
        settings: changes of settings, each of the form `key.sub=value`.
        tier: name of one of the recipe's tiers, such as "quick". None takes the recipe's own settings.

    Returns:
        The checked recipe.

    Raises:
        UnknownNameError: there is no such recipe, key or tier.
        ConfigError: a value is not valid.
    """
    data = read_recipe(where, settings, tier)
    if "theory" in data:
        fix = "Write `analysis: theorem` in its place; results that are stored are found again."
        raise ConfigError("A recipe has no key `theory` any more.", f"{where}: theory: {data['theory']}", fix)
    if "analysis" in data:
        return build_analysis(data)
    return build_sweep(data) if "variants" in data else build_recipe(data)


def plan_study(recipe: AnyRecipe, runs: Path | str) -> list[PlannedStage]:
    """Return the stages of a recipe: which are finished, which would run and how long they would take.

    Nothing is computed or written.

    Args:
        recipe: the study, analysis or sweep that would be run.
        runs: folder in which all runs, and the store of finished stages, are kept.

    Raises:
        UserError: a model, trait or file that the recipe names cannot be found.
    """
    match recipe:
        case Sweep():
            return plan_sweep(recipe, Path(runs))
        case AnalysisRecipe():
            return plan_analysis(recipe, Path(runs))
        case _:
            return plan_recipe(recipe, Path(runs))


def run_study(
    recipe: AnyRecipe,
    runs: Path | str,
    *,
    progress: Progress | None = None,
    rebuild: bool = False,
    workers: int = 1,
) -> dict[str, Any]:
    """Run what is missing of a recipe, write the run folder and return the content of results.json.

    Args:
        recipe: the study, analysis or sweep that is run.
        runs: folder of all runs, with their store of finished stages.
        progress: receives the progress of every stage. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.
        workers: how many stages run at once. With more than one, each runs in a process of its own that is started
            anew, so a script that calls this needs `if __name__ == "__main__":` around what it does.

    Returns:
        The content of results.json.

    Raises:
        UserError: a stage stopped for a reason that the user can fix, or the disk did.
    """
    match recipe:
        case Sweep():
            return run_sweep(recipe, Path(runs), progress=progress, rebuild=rebuild, workers=workers)
        case AnalysisRecipe():
            return run_analysis(recipe, Path(runs), progress=progress, rebuild=rebuild, workers=workers)
        case _:
            return run_recipe(recipe, Path(runs), progress=progress, rebuild=rebuild, workers=workers)

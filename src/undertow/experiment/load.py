"""Recipes of every kind behind three functions: load, plan, run.

A file with the key `theory` is a study of the theory, with `analysis` an analysis, with `variants` a sweep; every other
one is a study of language models.
"""

from pathlib import Path
from typing import Any

from undertow.experiment.analysis import AnalysisRecipe, build_analysis, plan_analysis, run_analysis
from undertow.experiment.estimates import PlannedStage
from undertow.experiment.progress import Progress
from undertow.experiment.recipe import Recipe, build_recipe, read_recipe
from undertow.experiment.run import plan_recipe, run_recipe
from undertow.experiment.sweep import Sweep, build_sweep, plan_sweep, run_sweep
from undertow.experiment.theory import TheoryRecipe, build_theory, plan_theory, run_theory

AnyRecipe = Recipe | TheoryRecipe | AnalysisRecipe | Sweep


def load_study(where: str, settings: tuple[str, ...] = (), tier: str | None = None) -> AnyRecipe:
    """Read a recipe of any kind.

    Args:
        where: path of a YAML file, or a packaged name.
        settings: overrides of the form `key.sub=value`.
        tier: which of the recipe's tiers.

    Raises:
        UnknownNameError: there is no such recipe, key or tier.
        ConfigError: a value is not valid.
    """
    data = read_recipe(where, settings, tier)
    for key, build in (("theory", build_theory), ("analysis", build_analysis), ("variants", build_sweep)):
        if key in data:
            return build(data)
    return build_recipe(data)


def plan_study(recipe: AnyRecipe, runs: Path) -> list[PlannedStage]:
    """Return which stages are finished, which would run and how long they would take; nothing is written."""
    if isinstance(recipe, TheoryRecipe):
        return plan_theory(recipe, runs)
    if isinstance(recipe, AnalysisRecipe):
        return plan_analysis(recipe, runs)
    return plan_sweep(recipe, runs) if isinstance(recipe, Sweep) else plan_recipe(recipe, runs)


def run_study(
    recipe: AnyRecipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False
) -> dict[str, Any]:
    """Run what is missing, write the run folder and return the content of results.json.

    Raises:
        UserError: a stage stopped for a reason the user can fix, or the disk did.
    """
    if isinstance(recipe, TheoryRecipe):
        return run_theory(recipe, runs, progress=progress, rebuild=rebuild)
    if isinstance(recipe, AnalysisRecipe):
        return run_analysis(recipe, runs, progress=progress, rebuild=rebuild)
    if isinstance(recipe, Sweep):
        return run_sweep(recipe, runs, progress=progress, rebuild=rebuild)
    return run_recipe(recipe, runs, progress=progress, rebuild=rebuild)

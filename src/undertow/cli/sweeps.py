"""The command that runs a study over a grid of settings, on this machine or on a Ray cluster."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.studies import RUNS, Json, Plan, Quiet, Rebuild, Runs, Settings, model_notes, show_plan, show_results
from undertow.errors import ConfigError

if TYPE_CHECKING:
    from undertow.study.ray_worker import RaySettings
    from undertow.study.recipe import Recipe
    from undertow.study.sweep import Sweep


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `undertow list recipes`) or its YAML file.")],
    grid: Annotated[
        list[str], typer.Option(help="KEY=VALUES, as often as you like: trait=owl,cat, seed=0..9, student.rank=2,8.")
    ] = [],  # noqa: B006 (typer needs a list as the default of a list)
    backend: Annotated[
        Literal["serial", "ray"], typer.Option(help="One stage after another, or side by side on Ray.")
    ] = "serial",
    workers: Annotated[int | None, typer.Option(help="Stages at once on this machine; Ray only.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, such as auto; --runs has to be on a disk that all machines share.")
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus-per-stage", help="Cores of a stage; Ray only.")] = 1.0,
    gpus: Annotated[float, typer.Option("--gpus-per-stage", help="GPUs of a stage, such as 0.25; Ray only.")] = 0.0,
    tier: Annotated[str | None, typer.Option(help="Which of the recipe's tiers: quick or full.")] = None,
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """Run a study for every combination of settings; stages that variants share are computed once."""
    from undertow.study.ray_worker import RaySettings
    from undertow.study.sweep import load_sweep

    ray = RaySettings(address=address, workers=workers, cpus_per_stage=cpus, gpus_per_stage=gpus)
    if backend == "serial" and ray != RaySettings():
        fix = "Add --backend ray, or leave out --workers, --address, --cpus-per-stage and --gpus-per-stage."
        raise ConfigError("A serial sweep has no workers to set.", "--backend serial", fix)
    study = load_sweep(recipe, grid, settings, tier)
    if plan:
        _plan(study, runs, as_json)
        return
    _run(study, runs, ray if backend == "ray" else None, as_json=as_json, rebuild=rebuild, quiet=quiet)


def _plan(study: "Sweep", runs: Path, as_json: bool) -> None:
    from undertow.study.sweep import count_uses, plan_sweep

    uses = count_uses(study)
    shared = sum(n > 1 for n in uses.values())
    notes = [
        f"{len(study.variants)} variants need {uses.total()} stages, {len(uses)} of them different; "
        f"{shared} are shared by several variants. The time is that of one worker.",
        *dict.fromkeys(note for variant in _by_bases(study).values() for note in model_notes(variant)),
    ]
    show_plan(study.name, plan_sweep(study, runs), notes, as_json, uses)


def _by_bases(study: "Sweep") -> "dict[Any, Recipe]":
    """Return a variant for every list of bases and targets."""
    return {(variant.bases, variant.targets): variant for variant in study.variants.values()}


def _run(study: "Sweep", runs: Path, ray: "RaySettings | None", *, as_json: bool, rebuild: bool, quiet: bool) -> None:
    from undertow.cli.engines import prepare

    prepare()
    if ray is None:
        from undertow.store.progress import SilentProgress, choose_progress
        from undertow.study.sweep import run_sweep

        progress = SilentProgress() if quiet or as_json else choose_progress()
        show_results(run_sweep(study, runs, progress=progress, rebuild=rebuild), as_json)
        return
    from undertow.study.ray_sweep import run_sweep_on_ray
    from undertow.study.sweep_display import SilentDisplay, choose_display

    display = SilentDisplay() if quiet or as_json else choose_display()
    results, work = run_sweep_on_ray(study, runs, ray, display=display, rebuild=rebuild)
    show_results(results, as_json)
    if not as_json:
        again = f"; started again after a worker was lost: {work.restarted}" if work.restarted else ""
        print(f"{work.made} of {work.stages} stages made on Ray{again}", file=sys.stderr)

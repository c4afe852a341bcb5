"""The commands that run a whole study and show its report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from undertow.store.stages import PlannedStage
    from undertow.study.load import AnyRecipe

Runs = Annotated[Path, typer.Option("--runs", help="Folder of all runs and their stored stages.")]
Settings = Annotated[list[str], typer.Option("--set", help="Override a setting of the recipe: key.sub=value.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show what is finished, what would run and how long; run nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Replace corrupt stored results instead of refusing them.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

RUNS = Path("runs")


def demo(
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006 (typer needs a list as the default of a list)
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """Pass a trait through plain numbers, with every control, in minutes."""
    _study("demo", None, settings, runs=runs, plan=plan, as_json=as_json, rebuild=rebuild, quiet=quiet)


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `undertow list recipes`) or its YAML file.")],
    tier: Annotated[str | None, typer.Option(help="Which of the recipe's tiers: quick or full.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with MNIST in IDX files, for the recipe digits.")] = None,
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """Run a study; stages that are finished are not computed again."""
    if data is not None:
        from undertow.study.load import load_recipe

        if getattr(load_recipe(recipe), "analysis", None) != "digits":
            raise ConfigError("Only the recipe digits reads a folder of pictures.", data, "Leave --data out.")
        settings = [*settings, f"settings.data={json.dumps(str(data))}"]
    _study(recipe, tier, settings, runs=runs, plan=plan, as_json=as_json, rebuild=rebuild, quiet=quiet)


def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    figure: Annotated[Path | None, typer.Option(help="Also save the figure of arms as this .png or .svg file.")] = None,
    as_json: Json = False,
) -> None:
    """Write a run's report.html and report.json again, and print its summary."""
    from undertow.report.pages import show_run

    shown = show_run(folder)
    if figure is not None:
        if not shown.has_arms:
            fix = "Leave --figure out: the figures are in report.html."
            raise ConfigError("This run has no figure of arms.", figure, fix)
        from undertow.report.figures import save_figure

        save_figure(folder, figure)
    print(json.dumps(shown.results, allow_nan=False) if as_json else f"{shown.summary}\n\nreport: {shown.page}")


def _study(where: str, tier: str | None, settings: list[str], **options: Any) -> None:
    from undertow.study.load import load_recipe, plan_study

    recipe = load_recipe(where, tuple(settings), tier)
    if options["plan"]:
        notes = model_notes(recipe)
        show_plan(recipe.name, plan_study(recipe, options["runs"]), notes, options["as_json"])
        return
    _run(recipe, **{name: options[name] for name in ("runs", "as_json", "rebuild", "quiet")})


def _run(recipe: "AnyRecipe", *, runs: Path, as_json: bool, rebuild: bool, quiet: bool) -> None:
    from undertow.cli.engines import prepare
    from undertow.store.progress import SilentProgress, choose_progress
    from undertow.study.load import run_study

    prepare()
    progress = SilentProgress() if quiet or as_json else choose_progress()
    show_results(run_study(recipe, runs, progress=progress, rebuild=rebuild), as_json)


def show_results(results: dict[str, Any], as_json: bool) -> None:
    """Write the report of a run, and print its results or their summary."""
    from undertow.report.pages import show_run

    folder = Path(results["run_dir"])
    shown = show_run(folder)
    if as_json:
        print(json.dumps(results, allow_nan=False))
        return
    print(f"{shown.summary}\n\n{results['wall_s']:.0f} s; report: {shown.page}")
    if shown.has_arms:
        print(f"next: undertow report {folder} --figure arms.png")


def model_notes(recipe: "AnyRecipe") -> list[str]:
    """Say what is likely to spoil a run on each base that is not an embedded model."""
    bases = [base for base in getattr(recipe, "bases", ()) if base.startswith("hf:")]
    if not bases:
        return []
    from undertow.training.model_needs import model_needs
    from undertow.traits import trait

    targets = [trait(name) for name in getattr(recipe, "targets", ())]
    notes = [f"{base}: {note}" for base in bases for note in model_needs(base, targets).warnings]
    return [*notes, *(f"{base}: undertow check-model '{base}' measures memory and time." for base in bases)]


def show_plan(
    recipe: str,
    stages: "list[PlannedStage]",
    notes: list[str],
    as_json: bool,
    variants: "Mapping[str, int] | None" = None,
) -> None:
    """Print what a run would do.

    Args:
        recipe: its name.
        stages: what `plan_study` found.
        notes: printed below.
        as_json: one JSON object instead of lines.
        variants: of a sweep, how many variants need each stage, by fingerprint.

    Raises:
        ConfigError: a stored result cannot be used.
    """
    missing = [stage for stage in stages if not stage.cached]
    known = [stage.estimate_s for stage in missing if stage.estimate_s is not None]
    total = sum(known) if len(known) == len(missing) else None
    if as_json:
        described = [
            {"stage": one.stage.label, "kind": one.stage.kind, "fingerprint": one.stage.fingerprint,
             "cached": one.cached, "estimate_s": one.estimate_s, "problem": one.problem,
             **({"variants": variants[one.stage.fingerprint]} if variants else {})}
            for one in stages
        ]  # fmt: skip
        plan = {"schema": "undertow.plan/1", "recipe": recipe, "estimate_s": total, "stages": described, "notes": notes}
        print(json.dumps(plan))
        return
    for one in stages:
        state = "finished" if one.cached else "corrupt" if one.problem else "to do"
        seconds = "" if one.cached or one.estimate_s is None else f"about {one.estimate_s:.1f} s"
        n = variants[one.stage.fingerprint] if variants else 1
        uses = f"for {n:4} variants  " if n > 1 else " " * 19 if variants else ""
        print(f"{state:9} {one.stage.label:48} {uses}{seconds}".rstrip())
    left = "unknown" if total is None else f"about {total:.0f} s"
    print(f"{len(stages) - len(missing)} of {len(stages)} stages are finished; time for the rest: {left}")
    print("\n".join(notes), end="\n" if notes else "")
    if any(one.problem for one in stages):
        problems = "\n".join(one.problem for one in stages if one.problem)
        raise ConfigError("Some stored results cannot be used.", problems, "Run with --rebuild to replace them.")

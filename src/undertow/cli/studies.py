"""The commands that run studies and sweeps, show their reports, and say how large a study or audit must be."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import undertow
from undertow.cli.options import PLACEBOS, Json, Quiet, prepare, show, shown_progress
from undertow.errors import ConfigError

if TYPE_CHECKING:
    from undertow.store.stages import PlannedStage
    from undertow.study.load import AnyRecipe
    from undertow.study.ray_worker import RaySettings
    from undertow.study.sweep import Sweep

Name = Annotated[
    str, typer.Argument(help="Name of a packaged study (see `undertow list recipes`), or a YAML file with your own.")
]
Tier = Annotated[
    str | None,
    typer.Option(
        help="Size of the study, as far as the recipe defines several: quick or full. If not given, the "
        "recipe's own settings."
    ),
]
Runs = Annotated[
    Path,
    typer.Option("--runs", help="Folder for the results of all runs. Finished parts are kept there and used again."),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change a setting of the recipe, as KEY.SUBKEY=VALUE, such as student.steps=300. May be given "
        "several times.",
    ),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan", help="Print which parts are finished, which would run and about how long they take, then stop."
    ),
]
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Compute damaged stored results anew. By default they are an error.")
]

Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        help="How many parts of the study run at once, each in its own process with one thread, or with "
        "OMP_NUM_THREADS.",
    ),
]

RUNS = Path("runs")

SHOWN = (3, 5, 10, 20, 40)
SHOWN_ROWS = (30, 100, 300, 1000, 10000)
SHOWN_PLACEBOS = (59, 119, 210)

ROW_SECONDS = 0.001
"""Seconds to score one row under one trait, by teacher and by persona, with an embedded model on one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """How a study is run or planned: the options that all commands for it share."""

    runs: Path
    plan: bool
    as_json: bool
    rebuild: bool
    quiet: bool
    workers: int

    def __post_init__(self) -> None:
        from undertow.store.side_by_side import check_workers

        check_workers(self.workers)

    @property
    def silent(self) -> bool:
        return self.quiet or self.as_json


def demo_command(
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006 (typer needs a list as the default of a list)
    workers: Workers = 1,
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """See a trait pass through plain numbers, in minutes.

    A small embedded model is given a trait and writes number lists; students that learn them are compared with every
    control.
    """
    how = _How(runs=runs, plan=plan, as_json=as_json, rebuild=rebuild, quiet=quiet, workers=workers)
    _study(undertow.load_recipe("demo", settings), how)


def run_command(
    recipe: Name,
    tier: Tier = None,
    data: Annotated[
        Path | None,
        typer.Option(help="For the recipe digits: folder with MNIST as IDX files (see `undertow reference mnist`)."),
    ] = None,
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006
    workers: Workers = 1,
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """Run a study of a recipe.

    Parts that are finished are not computed again.
    """
    if data is not None:
        if getattr(undertow.load_recipe(recipe), "analysis", None) != "digits":
            raise ConfigError("Only the recipe digits reads a folder of pictures.", data, "Leave --data out.")
        settings = [*settings, f"settings.data={json.dumps(str(data))}"]
    how = _How(runs=runs, plan=plan, as_json=as_json, rebuild=rebuild, quiet=quiet, workers=workers)
    _study(undertow.load_recipe(recipe, settings, tier), how)


def sweep_command(
    recipe: Name,
    grid: Annotated[
        list[str],
        typer.Option(
            help="Setting to vary, with its values: trait=owl,cat or seed=0..9 or student.rank=2,8. All "
            "combinations of several are run."
        ),
    ] = [],  # noqa: B006
    backend: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where parts of the study run: on this machine alone (local), or on a Ray cluster (ray)."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="How many parts run at once on this machine. If not given, one, or with Ray one for each core."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the Ray cluster, such as auto. All its machines need to reach the folder of --runs."
        ),
    ] = None,
    cpus: Annotated[
        float, typer.Option("--cpus-per-stage", help="For Ray: processor cores reserved for each part of the study.")
    ] = 1.0,
    gpus: Annotated[
        float,
        typer.Option(
            "--gpus-per-stage", help="For Ray: GPUs reserved for each part of the study; 0.25 lets four share one."
        ),
    ] = 0.0,
    tier: Tier = None,
    runs: Runs = RUNS,
    settings: Settings = [],  # noqa: B006
    plan: Plan = False,
    as_json: Json = False,
    rebuild: Rebuild = False,
    quiet: Quiet = False,
) -> None:
    """Run a study for every combination of some settings.

    Parts that several variants share are computed once.
    """
    from undertow.study.ray_worker import RaySettings
    from undertow.study.sweep import count_uses, load_sweep

    ray = RaySettings(address=address, workers=workers, cpus_per_stage=cpus, gpus_per_stage=gpus)
    if backend == "local" and ray != RaySettings(workers=workers):
        fix = "Add --backend ray, or leave out --address, --cpus-per-stage and --gpus-per-stage."
        raise ConfigError("Only Ray has clusters and shares of machines.", "--backend local", fix)
    study = load_sweep(recipe, grid, settings, tier)
    # A plan of a sweep on a cluster of unknown size is reckoned for the cores of this machine.
    at_once = workers or ((os.cpu_count() or 1) if backend == "ray" else 1)
    how = _How(runs=runs, plan=plan, as_json=as_json, rebuild=rebuild, quiet=quiet, workers=at_once)
    if plan:
        uses = count_uses(study)
        shared = sum(n > 1 for n in uses.values())
        counted = (
            f"{len(study.variants)} variants need {uses.total()} stages, {len(uses)} of them different; "
            f"{shared} are shared by several variants."
        )
        # One variant for every list of bases and targets: the others have the same notes.
        different = {(variant.bases, variant.targets): variant for variant in study.variants.values()}
        notes = dict.fromkeys(note for variant in different.values() for note in _model_notes(variant))
        _show_plan(study, how, [counted, *notes], uses)
    elif backend == "ray":
        _sweep_on_ray(study, ray, how)
    else:
        _study(study, how)


def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    figure: Annotated[
        Path | None,
        typer.Option(help="Also save the figure that compares the groups of students, as a .png or .svg file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's report again, and print its summary.

    The files are report.html and report.json in the run's folder.
    """
    shown = undertow.show_run(folder)
    if figure is not None:
        if not shown.has_arms:
            fix = "Leave --figure out: the figures are in report.html."
            raise ConfigError("This run has no figure of arms.", figure, fix)
        from undertow.report.figures import save_figure

        save_figure(folder, figure)
    show(shown.results, as_json, [f"{shown.summary}\n\nreport: {shown.page}"])


def _study(recipe: "AnyRecipe", how: _How) -> None:
    """Run a study and show its results, or show its plan."""
    if how.plan:
        _show_plan(recipe, how, _model_notes(recipe))
        return
    prepare()
    progress = shown_progress(how.silent)
    found = undertow.run_study(recipe, how.runs, progress=progress, rebuild=how.rebuild, workers=how.workers)
    _show_results(found, how)


def _sweep_on_ray(study: "Sweep", ray: "RaySettings", how: _How) -> None:
    """Run a sweep on Ray and show its results."""
    from undertow.study.ray_sweep import run_sweep_on_ray
    from undertow.study.sweep_display import SilentDisplay, choose_display

    prepare()
    display = SilentDisplay() if how.silent else choose_display()
    results, work = run_sweep_on_ray(study, how.runs, ray, display=display, rebuild=how.rebuild)
    _show_results(results, how)
    if not how.as_json:
        again = f"; started again after a worker was lost: {work.restarted}" if work.restarted else ""
        print(f"{work.made} of {work.stages} stages made on Ray{again}", file=sys.stderr)


def _show_results(results: dict[str, Any], how: _How) -> None:
    """Write the report of a run, and print its results or their summary."""
    folder = Path(results["run_dir"])
    shown = undertow.show_run(folder)
    lines = [f"{shown.summary}\n\n{results['wall_s']:.0f} s; report: {shown.page}"]
    if shown.has_arms:
        lines.append(f"next: undertow report {folder} --figure arms.png")
    show(results, how.as_json, lines)


def _model_notes(recipe: "AnyRecipe") -> list[str]:
    """Say what is likely to spoil a run on each base that is not an embedded model."""
    bases = [base for base in getattr(recipe, "bases", ()) if base.startswith("hf:")]
    if not bases:
        return []
    from undertow.training.model_needs import model_needs

    targets = [recipe.trait(name) for name in recipe.targets] if isinstance(recipe, undertow.Recipe) else []
    notes = [f"{base}: {note}" for base in bases for note in model_needs(base, targets).warnings]
    return [*notes, *(f"{base}: undertow check-model '{base}' measures memory and time." for base in bases)]


def _show_plan(recipe: "AnyRecipe", how: _How, notes: Sequence[str], variants: Mapping[str, int] | None = None) -> None:
    """Print what a run would do.

    Args:
        recipe: the study that would be run.
        how: the options with which it would be run.
        notes: lines that are printed below.
        variants: for a sweep, how many variants need each stage, by the stage's fingerprint. None for a single study.

    Raises:
        ConfigError: a stored result is damaged.
    """
    from undertow.store.stages import makespan

    stages = undertow.plan_study(recipe, how.runs)
    missing = [stage for stage in stages if not stage.cached]
    known = {one.stage: one.estimate_s for one in missing if one.estimate_s is not None}
    total = makespan(known, how.workers) if len(known) == len(missing) else None
    described = [
        {"stage": one.stage.label, "kind": one.stage.kind, "fingerprint": one.stage.fingerprint,
         "cached": one.cached, "estimate_s": one.estimate_s, "problem": one.problem,
         **({"variants": variants[one.stage.fingerprint]} if variants else {})}
        for one in stages
    ]  # fmt: skip
    plan = {
        "schema": "undertow.plan/1", "recipe": recipe.name, "workers": how.workers, "estimate_s": total,
        "stages": described,
    }  # fmt: skip
    left = "unknown" if total is None else f"about {total:.0f} s"
    by = "one worker" if how.workers == 1 else f"{how.workers} workers"
    finished = f"{len(stages) - len(missing)} of {len(stages)} stages are finished; time for the rest, {by}: {left}"
    lines = [_stage_line(one, variants) for one in stages]
    show({**plan, "notes": notes}, how.as_json, [*lines, finished, *notes])
    if not how.as_json and not how.rebuild and any(one.problem for one in stages):
        problems = "\n".join(one.problem for one in stages if one.problem)
        raise ConfigError("Some stored results cannot be used.", problems, "Run with --rebuild to replace them.")


def _stage_line(one: "PlannedStage", variants: Mapping[str, int] | None) -> str:
    state = "finished" if one.cached else "corrupt" if one.problem else "to do"
    seconds = "" if one.cached or one.estimate_s is None else f"about {one.estimate_s:.1f} s"
    n = variants[one.stage.fingerprint] if variants else 1
    uses = f"for {n:4} variants  " if n > 1 else " " * 19 if variants else ""
    return f"{state:9} {one.stage.label:48} {uses}{seconds}".rstrip()


def power_command(
    effect: Annotated[
        float,
        typer.Option(help="For a study: effect that is to be found, as a difference of the trait's logit margin."),
    ] = 0.4,
    sd: Annotated[
        float,
        typer.Option(
            help="For a study: standard deviation of that difference between replicates, in logits. The demo has 0.16."
        ),
    ] = 0.2,
    dose: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="For an audit of rows: share of the rows that carry the trait, between 0 and 1."
        ),
    ] = 1.0,
    shift: Annotated[
        float,
        typer.Option(
            help="For an audit of rows: rise of the right trait's score if all rows carry it, in standard "
            "deviations of clean rows' scores."
        ),
    ] = 0.6,
    references: Annotated[
        int,
        typer.Option(min=1, help="For an audit of rows: clean answers to each prompt, with which its row is compared."),
    ] = 4,
    candidates: Annotated[int, typer.Option(min=2, help="For audits: how many traits are looked for.")] = 20,
    alpha: Annotated[
        float, typer.Option(help="Probability of a false detection, in the study or in the whole audit.")
    ] = 0.05,
    wanted: Annotated[
        float, typer.Option("--power", help="Probability with which an effect of this size is to be found.")
    ] = 0.8,
    as_json: Json = False,
) -> None:
    """Say how many students or rows are needed to find an effect.

    Printed are the replicates that a study needs, the rows that an audit of rows needs, and the placebo students
    (trained on rows without a trait) that an audit of a student needs.
    """
    if dose == 0.0:
        raise ConfigError("No row carries the trait.", "--dose 0", "Give the share that is to be found, such as 0.25.")
    asked = {"effect": effect, "sd": sd, "alpha": alpha, "power": wanted, "dose": dose, "shift": shift}
    found = {
        "schema": "undertow.power/1",
        **asked,
        **_replicates(effect, sd, alpha, wanted),
        "data_audit": _audited_rows(dose * shift, references, candidates, alpha, wanted),
        "student_audit": _placebos(alpha, candidates),
    }
    show(found, as_json, _power_lines(found, references, candidates))


def _power_lines(found: Mapping[str, Any], references: int, candidates: int) -> Iterator[str]:
    wanted, alpha, shift, rows = (found[name] for name in ("power", "alpha", "shift", "data_audit"))
    yield (
        f"{found['replicates']} replicates find an effect of {found['effect']:g} logits in {wanted:.0%} of studies "
        f"(SD {found['sd']:g}, alpha {alpha:g});\n{_minutes(found)} with an embedded model on two cores.\n"
    )
    yield "replicates  smallest effect found as often"
    for count, value in found["minimum_detectable_effect"].items():
        yield f"{count:10}  {value:.2f} logits"
    yield (
        f"\n{rows['rows']} rows and {references} clean ones on each prompt find a dose of {found['dose']:.0%} in "
        f"{wanted:.0%} of audits\n({candidates} candidates, {shift:g} SD a row, alpha {alpha:g} split over three "
        f"claims); {_minutes(rows)}.\n"
    )
    yield "      rows  smallest dose found as often"
    for count, value in rows["minimum_detectable_shift"].items():
        yield f"{count:10}  {f'{value / shift:.0%}' if value <= shift else 'none'}"
    yield (
        "A rise of 0.6 SD is the mean of pure rows of finch-a's teachers, of which single traits have 0.27 to 1.33; "
        "--shift takes your own."
    )
    yield (
        "Where rows differ, neutral writers of the store (`undertow audit bank`) tell a trait from other tuning; what "
        "that comparison sees stands in docs/calibration.md."
    )
    yield from _placebo_lines(found["student_audit"], alpha)


def _placebo_lines(bank: Mapping[str, Any], alpha: float) -> Iterator[str]:
    yield (
        f"\n{bank['placebos']} placebo students allow a verdict on a student at alpha {alpha:g}, split over three "
        f"claims; {_minutes(bank)}, once for each base."
    )
    yield "  placebos  smallest shift found in 80%   minutes"
    for count, one in bank["banks"].items():
        yield f"{count:10}  {one['shift']:.2f} SD of the placebos      {one['minutes']:7.0f}"
    yield (
        f"`undertow audit bank` makes {PLACEBOS}: enough for a verdict by four shadow students, and more "
        "placebos see little more for their time."
    )


def _minutes(part: Mapping[str, Any]) -> str:
    return f"about {max(1.0, part['minutes']):.0f} min"


def _replicates(effect: float, sd: float, alpha: float, wanted: float) -> dict[str, Any]:
    """Return how many replicates a study needs, and what they take."""
    from undertow.stats.power import minimum_detectable_effect, required_replicates

    n = required_replicates(effect, sd, alpha, wanted)
    # The demo's recipe with a student and its control alone, estimated as --plan does.
    recipe = undertow.load_recipe("demo", ["arms=[student, control]", f"replicates={n}"])
    minutes = sum(one.estimate_s or 0.0 for one in undertow.plan_study(recipe, RUNS)) / 60
    smallest = {count: minimum_detectable_effect(sd, count, alpha, wanted) for count in SHOWN}
    return {"replicates": n, "minutes": minutes, "minimum_detectable_effect": smallest}


def _audited_rows(shift: float, references: int, candidates: int, alpha: float, wanted: float) -> dict[str, Any]:
    """Return how many rows an audit of rows needs, and what they take."""
    from undertow.audit.rows.limits import FEWEST_ROWS
    from undertow.audit.students.bank import RATES
    from undertow.audit.verdict import Plan as AuditPlan
    from undertow.stats.power import MatchedTest

    share = AuditPlan(stages=("contrast",), alpha=alpha).share
    # An audit has two candidates for each trait, the persona and the teacher; the maximum is over both.
    test = MatchedTest(references=references, candidates=2 * candidates, alpha=share, power=wanted)
    rows = max(FEWEST_ROWS, test.required_rows(shift))
    return {
        "rows": rows,
        "reference_rows": rows * references,
        "minutes": candidates * (RATES["panel-teachers"] + rows * (1 + references) * ROW_SECONDS) / 60,
        "minimum_detectable_shift": {count: test.minimum_shift(count) for count in SHOWN_ROWS},
    }


def _placebos(alpha: float, candidates: int) -> dict[str, Any]:
    """Return how many placebo students an audit of a student needs, and what they take."""
    import numpy as np

    from undertow.audit.students.bank import RATES
    from undertow.audit.students.placebo_null import expected_shift, needed
    from undertow.audit.verdict import Plan as AuditPlan

    share = AuditPlan(stages=("panel margins",), alpha=alpha).share
    placebos, minutes = needed(share), RATES["placebos"] / 60
    sizes = sorted({placebos, *(count for count in SHOWN_PLACEBOS if count > placebos)})
    banks = {
        count: {
            "shift": expected_shift(count, candidates, share, np.random.default_rng(0)),
            "minutes": count * minutes,
        }
        for count in sizes
    }
    return {"placebos": placebos, "minutes": placebos * minutes, "banks": banks}

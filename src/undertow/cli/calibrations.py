"""`undertow audit calibrate`: measure how often the audit of rows is wrong on a base of the user's own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.audit_models import audit
from undertow.cli.audit_options import AuditorSeed, Store
from undertow.cli.forecasts import ForecastOnly, show_plan
from undertow.cli.intakes import GivenBase, required_base
from undertow.cli.options import STORE, Json, Quiet, prepare, quoted, show, shown_progress

if TYPE_CHECKING:
    from undertow.audit.calibration.run import Calibrated


@audit.command("calibrate")
def calibrate_command(
    base: GivenBase = None,
    minutes: Annotated[
        float,
        typer.Option(
            help="Minutes that the command may take. Run it again with more minutes to add to what it has measured."
        ),
    ] = 30.0,
    rows: Annotated[int, typer.Option(help="Rows in each set that is audited, from 20 to 200.")] = 100,
    other: Annotated[
        str | None,
        typer.Option(help="A model of another base, whose rows are audited too. If not given, an embedded model."),
    ] = None,
    seed: AuditorSeed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file to which the result is also written. It is kept in --store in any case."),
    ] = None,
    store: Store = STORE,
    plan: ForecastOnly = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure on your own base how often an audit of rows is wrong.

    Measured are the rate of false detections on clean rows, the power on rows with a trait, and what harmless
    differences such as another temperature do.
    """
    base = required_base(base)
    prepare()
    from undertow.audit.calibration.run import calibrate, calibration_work
    from undertow.audit.calibration.settings import Calibration
    from undertow.audit.calibration.stored import as_text
    from undertow.store.disk import write_file

    settings = Calibration(base=base, seed=seed, store=store, rows=rows, other=other)
    if plan:
        show_plan({"base": base, "minutes": minutes, "store": str(store)}, calibration_work(settings, minutes), as_json)
        return
    made = calibrate(settings, minutes, shown_progress(quiet or as_json))
    if out is not None:
        write_file(out, as_text(made.result))
    spent = {"given": minutes, "planned": made.planned / 60, "used": made.used / 60, "more": made.left_s / 60}
    found = {**made.result, "minutes": spent, "file": str(made.path), "blocks_made": made.made}
    show(found, as_json, _lines(made, minutes, base))


def _lines(made: "Calibrated", minutes: float, base: str) -> Iterator[str]:
    """Yield the lines that describe a calibration."""
    found, pool = made.result, made.result["pool"]
    settings = found["settings"]
    form = found["answers"]["domain"]
    held = f", held to {form['count']} numbers of three digits" if "count" in form else ""
    yield f"{found['base']} ({found['base_identity']}): sets of {settings['rows']} rows of numbers{held}"
    yield f"  drawn from {pool['prompts']} prompts; sets without a common prompt: {pool['disjoint_sets']}"
    for name, panel in found["panels"].items():
        yield f"\n{len(settings['panel'])} candidates, {name}"
        yield from (f"  {line}" for line in panel_lines(panel))
    yield f"\nstudents: not measured. {found['students']['not_measured']}"
    used = f"{made.used / 60:.1f} of {minutes:g} minutes used, {made.planned / 60:.1f} were planned"
    yield f"\n{used}; {made.made} blocks of rows made, {made.left} are left, about {made.left_s / 60:.0f} minutes"
    yield f"result: {made.path}"
    yield f"next: undertow audit data ROWS --base {quoted(base)}, whose card quotes these figures"


def panel_lines(panel: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rates of one panel of traits, one line each."""
    if "not_measured" in panel:
        yield f"not measured: {panel['not_measured']}"
        return
    yield f"{'clean rows':30} {_rate(panel['clean'])}"
    for one in panel["power"]:
        yield f"{'persona rows, dose':25} {one['dose']:<4g} {_rate(one)}{_named(one)}"
    for name, one in panel["shifts"].items():
        yield f"{name:30} {_rate(one)}"


def _rate(one: Mapping[str, Any]) -> str:
    """Return a rate of detections, with its interval, as text."""
    if "not_measured" in one:
        return f"not measured: {one['not_measured']}"
    called, stopped = (_share(one[name]) for name in ("called", "stopped"))
    why = f" ({', '.join(f'{name} {n}' for name, n in one['reasons'].items())})" if one["reasons"] else ""
    over = f" (over {one['over_traits']['n']} traits {_share(one['over_traits'])})" if "over_traits" in one else ""
    return f"called {called}{over}, not testable {stopped}{why}, of {one['sets']} sets"


def _share(one: Mapping[str, Any]) -> str:
    """Return a share with its interval as text."""
    return f"{one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _named(one: Mapping[str, Any]) -> str:
    """Say how often the right trait was named."""
    if "not_measured" in one:
        return ""
    named = one["named"]
    said = "no names" if "not_measured" in named else f"named right {_share(named['right'])}"
    return f"; {said}; ranked first {_share(one['first'])}"

"""The commands that take a trait out of rows or training, keep their skill, and test whether that worked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, announced, say_first, show_plan, time_left
from undertow.cli.options import (
    STORE,
    Json,
    Rows,
    Seed,
    SkipBad,
    StudentsFolder,
    Training,
    prepare,
    quoted,
    read_given,
    refuse_replacing,
    show,
    shown_progress,
    tell,
)
from undertow.cli.training import StudentsToTrain, adapter_part
from undertow.data.filters import accepted_rows
from undertow.data.row_files import refuse_suffix
from undertow.domains.base import parse_domain
from undertow.errors import ConfigError, EmptyDataError
from undertow.store.disk import storage_errors
from undertow.traits import chosen_traits
from undertow.types import Row, Sampling, Work, known_sum

if TYPE_CHECKING:
    from undertow.mitigate.workload import Tools

Base = Annotated[
    str, typer.Option(help="The model that will be trained on the rows: ref:NAME (embedded) or hf:PATH_OR_ID.")
]
Method = Annotated[
    str,
    typer.Option(
        help="The mitigation, with its settings behind a colon, such as mix:share=0.5 (data) or kl:weight=2 (train). "
        "See `undertow list mitigations`."
    ),
]
Audit = Annotated[
    Path | None,
    typer.Option(
        help="audit.json of an audit of these rows. It gives the traits to look for, and must be of the same --base."
    ),
]
Clean = Annotated[
    str | None,
    typer.Option(
        help="Row file of answers to the same prompts that are known to be clean. If not given, the base "
        "answers the prompts."
    ),
]
Domain = Annotated[
    str,
    typer.Option(
        help="Domain whose rule new answers have to pass (see `undertow list domains`), if needed with settings, as "
        "numbers:count=6,short=true, which holds answers to six numbers; or none to accept all that are not empty."
    ),
]
Store = Annotated[
    Path, typer.Option(help="Folder in which models that are trained for comparison are kept and found again.")
]

mitigate = typer.Typer(no_args_is_help=True, help="Keep the skill, lose the trait, and check that it worked.")


def _tools(base: str, audit: Path | None, clean: str | None, domain: str, store: Path, seed: int) -> "Tools":
    """Check the inputs of a mitigation before any model is loaded."""
    from undertow.audit.rows.panel import ANIMALS
    from undertow.mitigate.advise import read_audit
    from undertow.mitigate.workload import Tools

    rule = None if domain == "none" else parse_domain(domain)
    audited = None if audit is None else read_audit(audit)
    if audited is not None:
        audited.require_base(base)
    known = () if clean is None else tuple(read_given(clean).rows)
    prepare()
    panel = ANIMALS if audited is None else audited.panel
    return Tools(base=base, panel=panel, domain=rule, clean=known, store=store, seed=seed)


def _check_domain(rows: Sequence[Row], domain: str) -> None:
    """Refuse a domain that does not accept most of the rows, for it would drop their replacements.

    Raises:
        ConfigError: it accepts fewer than half of the rows.
    """
    if domain == "none":
        return
    from undertow.audit.rows.limits import ACCEPTED

    good = len(accepted_rows(rows, parse_domain(domain)))
    if good < ACCEPTED * len(rows):
        what = f"The domain {domain} accepts {good} of {len(rows)} rows, and would drop what replaces the others."
        fix = "Name the rows' own, or --domain none to accept any answer (verify then needs --held-out)."
        raise ConfigError(what, f"--domain {domain}", fix)


def _held_out(given: str | None, domain: str) -> tuple[Row, ...]:
    """Return the clean rows whose loss measures the skill; none where the base is to write them.

    Raises:
        ConfigError: there are none, and no domain has prompts for which the base could write some.
    """
    rows = () if given is None else read_given(given).rows
    if domain == "none" and not rows:
        from undertow.mitigate.advise import HELD_OUT

        what = "The loss on held-out rows measures the skill, and there are none."
        why = "--domain none without --held-out" if given is None else f"0 rows in {given}"
        raise ConfigError(what, why, f"Give --held-out FILE: {HELD_OUT}.")
    return rows


@mitigate.command("data")
def mitigate_data_command(
    rows: Rows,
    out: Annotated[
        Path, typer.Argument(help="Row file to write. A record of what was done to each row is written beside it.")
    ],
    method: Method,
    base: Base = "ref:finch-a",
    audit: Audit = None,
    clean: Clean = None,
    domain: Domain = "numbers",
    store: Store = STORE,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Change a row file so that students learn less of its trait.

    The skill that the rows teach is to stay. `undertow mitigate verify` tests whether both worked.
    """
    from undertow.mitigate.advise import HELD_OUT
    from undertow.mitigate.registry import check_some, counts, write_mitigated

    refuse_suffix(out)
    refuse_replacing(out, rows, clean)
    chosen, given = undertow.data_mitigation(method), read_given(rows, skip_bad)
    check_some(given.rows)
    _check_domain(given.rows, domain)
    tools = _tools(base, audit, clean, domain, store, seed)
    from undertow.mitigate.workload import mitigation_work

    work = mitigation_work(chosen, given.rows, tools)
    if plan:
        show_plan({"method": method, "base": base}, list(work.values()), as_json)
        return
    with announced(list(work.values()), titles=list(work)) as steps:
        made = undertow.mitigate_rows(given.rows, chosen, replace(tools.workbench(), steps=steps))
    record = write_mitigated(out, made)
    found = {
        "rows": str(out),
        "record": str(record),
        "method": method,
        "raw": len(given.rows),
        "left": len(made.rows),
        **counts(made.changes),
        "cost": str(made.cost),
        "bad_lines": len(given.bad),
    }
    more = "" if domain == "numbers" else f" --domain {quoted(domain)}"
    more += "" if clean is None else f" --control {quoted(clean)}"
    more += "" if audit is None else f" --audit {quoted(audit)}"
    more += f" --held-out HELD_OUT, where HELD_OUT is a file of {HELD_OUT}" if domain == "none" else ""
    verify = f"undertow mitigate verify {quoted(rows)} --trait TRAIT --method {quoted(method)} --base {quoted(base)}"
    tell(found, as_json, f"{verify}{more}")


@mitigate.command("train")
def mitigate_train_command(
    rows: Rows,
    out: StudentsFolder,
    method: Method,
    base: Base = "ref:finch-a",
    audit: Audit = None,
    store: Store = STORE,
    students: Annotated[
        int, typer.Option(min=1, help="How many students are trained, each with its own random seed.")
    ] = 1,
    settings: Training = [],  # noqa: B006
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train students by a method that passes less of a trait on.

    A penalty holds them near their base where a trait would show, or other training settings are used (`undertow list
    mitigations`: corridor, kl, recipe).
    """
    from undertow.mitigate.registry import training_mitigation
    from undertow.study.training_record import TrainingRecord

    chosen, part, given = training_mitigation(method), adapter_part(settings, base), read_given(rows, skip_bad)
    if part.backend != "parallel":
        raise ConfigError("Mitigations are in our own loop alone.", f"backend={part.backend}", "Leave backend out.")
    bench = _tools(base, audit, None, "none", store, seed).workbench()
    wanted = StudentsToTrain(base=base, rows=given.rows, n=students, seed=seed, out=out)
    recipe = chosen.recipe(part.training(base))
    work = [wanted.work(recipe)]
    with announced(work) as steps:
        penalty = chosen.penalty(bench)
        with steps.step("students", time_left(work, 0)) as advance:
            found = wanted.train(bench.base, recipe, penalty, advance)
    with storage_errors(out):
        for folder in wanted.folders:
            TrainingRecord(student=part, rows=len(given.rows), mitigation=method).save(folder)
    tell({**found, "method": method, "bad_lines": len(given.bad)}, as_json, wanted.following)


@mitigate.command("verify")
def verify_command(
    rows: Rows,
    methods: Annotated[
        list[str],
        typer.Option(
            "--method",
            help="A mitigation to verify, such as kl or mix:share=0.5 (see `undertow list mitigations`). May be "
            "given several times.",
        ),
    ],
    trait: Annotated[
        str,
        typer.Option(
            help="The trait whose transmission is to be stopped: a name, of the audit's panel too, or a trait file."
        ),
    ],
    base: Base = "ref:finch-a",
    control: Annotated[
        str | None,
        typer.Option(
            help="Row file of clean answers to the same prompts, to compare with. If not given, the base answers "
            "the prompts."
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Row file of clean rows on which no student is trained; their loss measures the skill. If not "
            "given, the base writes some for prompts of the domain; --domain none has no prompts, and needs them."
        ),
    ] = None,
    audit: Audit = None,
    domain: Domain = "numbers",
    runs: Annotated[
        int,
        typer.Option(
            min=2, help="How many times every student is trained, with new random seeds. A verdict needs at least five."
        ),
    ] = 5,
    out: Annotated[Path, typer.Option(help="Folder for the results: report.html and mitigation.json.")] = Path(
        "mitigation"
    ),
    seed: Seed = 0,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Test whether mitigations lose the trait and keep the skill.

    In each of several runs a student is trained on clean rows, on the rows as they are, with each mitigation and, for
    comparison, with as many rows or tokens changed at random.
    """
    given = read_given(rows).rows
    if not given:
        raise EmptyDataError("There is nothing to verify.", "0 rows", "Give a file with rows.")
    _check_domain(given, domain)
    task = _held_out(held_out, domain)
    tools = _tools(base, audit, control, domain, STORE, seed)
    from undertow.mitigate.workbench import panel_trait
    from undertow.models.load import parameters_of
    from undertow.training.own_models import own_student

    target, student = panel_trait(trait, tools.panel), own_student(parameters_of(base))
    if audit is None and len(rivals := chosen_traits([trait])) > 1:
        tools = replace(tools, panel=rivals)
    trial = undertow.Trial(trait=target, methods=tuple(methods), student=student)
    wanted = undertow.Verification(trial=trial, runs=runs, held_out=task, store=STORE, seed=seed)
    work = [_verification_work(wanted, given, base)]
    if plan:
        show_plan({"base": base, "methods": methods}, work, as_json)
        return
    say_first(work)
    bench = tools.workbench()
    from undertow.report.mitigation import render_mitigation, summarise_mitigation

    source = undertow.GivenRows(suspect=given, control=bench.clean)
    found = undertow.verify(wanted, source, bench, shown_progress(as_json))
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    page = render_mitigation(out, found)
    show(found, as_json, [f"{summarise_mitigation(found)}\n\nreport: {page}"])


def _verification_work(wanted: "undertow.Verification", rows: Sequence[Row], base: str) -> Work:
    """Estimate the students of a verification. What the mitigations themselves take is not known beforehand."""
    from undertow.evals.forecast import Forecast
    from undertow.mitigate.arms import most_students
    from undertow.training.workload import training_work, writing_work

    trial, model, runs = wanted.trial, Forecast(base), wanted.runs
    students = most_students(trial)
    asked = [rows[at % len(rows)].prompt for at in range(trial.prompts)]
    each = training_work(model, rows, trial.student), writing_work(model, asked, Sampling())
    taken = known_sum(one.seconds for one in each)
    what = f"{runs} runs of up to {students} students, each trained in {trial.student.steps} updates and asked"
    seconds = None if taken is None else model.loading + runs * students * taken
    return Work(f"{what} {trial.prompts} prompts, and what the mitigations take", seconds)


@mitigate.command("advise")
def advise_command(
    audit: Annotated[Path, typer.Argument(help="The file audit.json that an audit wrote.")],
    as_json: Json = False,
) -> None:
    """Name mitigations to try after an audit.

    For each it prints what it needs, what it may lose, what it costs and the command to type.
    """
    from undertow.mitigate.advise import advise, read_audit

    found = advise(read_audit(audit))
    show(found, as_json, _advice_lines(found))


def _advice_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["mitigations"]:
        cost = ", ".join(f"{value} {name}" for name, value in one["cost"].items() if value) or "longer training"
        yield f"{one['method']}\n  needs {one['needs']}; loses {one['loses']}; cost: {cost}\n  {one['command']}"
    yield found["next"]

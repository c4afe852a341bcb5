"""The commands that keep the skill of rows, lose what they carry, and show whether that worked."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.cli.stages import Json, Seed, Settings, SkipBad

Rows = Annotated[Path, typer.Argument(help="Row file: JSONL, Parquet, datasets or hf:NAME.")]
Base = Annotated[str, typer.Option(help="The model that will be trained on the rows: ref:<name> or hf:<path>.")]
Method = Annotated[str, typer.Option(help="Such as labels or mix:share=0.5; see `undertow list mitigations`.")]
Audit = Annotated[Path | None, typer.Option(help="The rows' audit.json: gives the panel; its base must be yours.")]
Clean = Annotated[Path | None, typer.Option(help="Rows known to be clean, on the same prompts; else the base writes.")]
Domain = Annotated[str, typer.Option(help="Whose rule new completions must pass, or none.")]
Store = Annotated[Path, typer.Option(help="Where panel teachers and finished runs are kept.")]

STORE = Path("runs/store")

mitigate = typer.Typer(no_args_is_help=True, help="Keep the skill, lose the trait, and check that it worked.")


def _bench(base: str, audit: Path | None, clean: Path | None, domain: str, store: Path, seed: int) -> Any:
    """Check the inputs before any model is loaded, then load the base."""
    from undertow.audit.rows.panel import ANIMALS
    from undertow.data.rows import read_rows
    from undertow.domains.base import domain as domain_of
    from undertow.mitigate.advise import read_audit

    rule = None if domain == "none" else domain_of(domain)
    audited = None if audit is None else read_audit(audit)
    if audited is not None:
        audited.require_base(base)
    known = () if clean is None else read_rows(clean)
    from undertow.cli.engines import prepare
    from undertow.mitigate.workbench import Workbench
    from undertow.models.load import load_model

    prepare()
    panel = ANIMALS if audited is None else audited.panel
    return Workbench(base=load_model(base), panel=panel, domain=rule, clean=known, store=store, seed=seed)


@mitigate.command()
def data(
    rows: Rows,
    out: Annotated[Path, typer.Argument(help="Where the mitigated rows go; their record goes beside them.")],
    method: Method,
    base: Base = "ref:finch-a",
    audit: Audit = None,
    clean: Clean = None,
    domain: Domain = "numbers",
    store: Store = STORE,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Change a row file so that a student learns its skill and not its trait."""
    from undertow.cli.stages import read_given, tell
    from undertow.mitigate.registry import data_mitigation

    chosen, (given, bad) = data_mitigation(method), read_given(rows, skip_bad)
    bench = _bench(base, audit, clean, domain, store, seed)
    from undertow.mitigate.registry import counts, mitigate_rows, write_mitigated

    made = mitigate_rows(given, chosen, bench)
    record = write_mitigated(out, made)
    found = {
        "rows": str(out),
        "record": str(record),
        "method": method,
        "raw": len(given),
        "left": len(made.rows),
        **counts(made.changes),
        "cost": str(made.cost),
        "bad_lines": bad,
    }
    tell(found, as_json, f"undertow mitigate verify {rows} --trait TRAIT --method '{method}' --base '{base}'")


@mitigate.command()
def train(
    rows: Rows,
    out: Annotated[Path, typer.Argument(help="Folder for the adapters, one folder for each student.")],
    method: Method,
    base: Base = "ref:finch-a",
    audit: Audit = None,
    store: Store = STORE,
    students: Annotated[int, typer.Option(min=1, help="How many, each with a seed of its own.")] = 1,
    settings: Settings = [],  # noqa: B006
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train students that are held near their base where a trait of the panel would show, or by another recipe."""
    from undertow.cli.stages import read_given, student_part, tell, train_students
    from undertow.errors import ConfigError
    from undertow.mitigate.registry import training_mitigation

    chosen, part, (given, bad) = training_mitigation(method), student_part(settings), read_given(rows, skip_bad)
    if part.backend != "parallel":
        raise ConfigError("Mitigations are in our own loop alone.", f"backend={part.backend}", "Leave backend out.")
    bench = _bench(base, audit, None, "none", store, seed)
    recipe, penalty = chosen.recipe(part.training(base)), chosen.penalty(bench)
    # No record of the recipe beside the students: an audit would take placebos for them that were not held like this.
    found, following = train_students(bench.base, given, recipe, (out, students, seed), penalty)
    tell({**found, "method": method, "bad_lines": bad}, as_json, following)


@mitigate.command()
def verify(
    rows: Rows,
    methods: Annotated[list[str], typer.Option("--method", help="A mitigation; several give one table.")],
    trait: Annotated[str, typer.Option(help="Whose transmission is to be stopped.")],
    base: Base = "ref:finch-a",
    control: Annotated[Path | None, typer.Option(help="Clean rows on the same prompts; else the base writes.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="Clean rows of the task for the loss; else the base's.")] = None,
    audit: Audit = None,
    domain: Domain = "numbers",
    runs: Annotated[int, typer.Option(min=2, help="Five are the least that a verdict needs.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for report.html and mitigation.json.")] = Path("mitigation"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train six arms several times and say which mitigations lose the trait and keep the skill."""
    from undertow.data.rows import read_rows
    from undertow.errors import EmptyDataError
    from undertow.traits import trait as trait_of

    target, given = trait_of(trait), read_rows(rows)
    if not given:
        raise EmptyDataError("There is nothing to verify.", "0 rows", "Give a file with rows.")
    others = [() if path is None else read_rows(path) for path in (control, held_out)]
    from undertow.mitigate.arms import Trial
    from undertow.mitigate.verify import GivenRows, Verification
    from undertow.mitigate.verify import verify as run_verification

    trial = Trial(trait=target, methods=tuple(methods))
    plan = Verification(trial=trial, runs=runs, held_out=others[1], store=STORE, seed=seed)
    bench = _bench(base, audit, control, domain, STORE, seed)
    from undertow.report.mitigation import render_mitigation, summarise_mitigation
    from undertow.store.disk import storage_errors
    from undertow.store.progress import SilentProgress, choose_progress

    source = GivenRows(suspect=given, control=others[0])
    found = run_verification(plan, source, bench, SilentProgress() if as_json else choose_progress())
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    page = render_mitigation(out, found)
    print(json.dumps(found, allow_nan=False) if as_json else f"{summarise_mitigation(found)}\n\nreport: {page}")


@mitigate.command()
def advise(
    audit: Annotated[Path, typer.Argument(help="The file audit.json of an audit.")],
    as_json: Json = False,
) -> None:
    """Name the mitigations that an audit asks for, with what each needs and costs."""
    from undertow.mitigate.advise import advise as find
    from undertow.mitigate.advise import read_audit

    found = find(read_audit(audit))
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    for one in found["mitigations"]:
        cost = ", ".join(f"{value} {name}" for name, value in one["cost"].items() if value) or "longer training"
        print(f"{one['method']}\n  needs {one['needs']}; loses {one['loses']}; cost: {cost}\n  {one['command']}")
    print(found["next"])

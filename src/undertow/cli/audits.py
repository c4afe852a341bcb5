"""The commands that audit data, a student, or all inputs together for hidden traits."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.audit_options import (
    Alpha,
    AuditorSeed,
    AuditSettings,
    BankCategory,
    BankDomain,
    BankPrompts,
    BankStudents,
    BankWriters,
    Base,
    Control,
    Minutes,
    Out,
    Panel,
    Prompts,
    Reference,
    Require,
    RowsIfAny,
    Store,
    StudentIfAny,
    TeacherIfAny,
)
from undertow.cli.forecasts import ForecastOnly, say_first, show_plan
from undertow.cli.intakes import (
    Brief,
    GivenBase,
    PlanOnly,
    WriterFile,
    counted,
    counted_pairs,
    reference_name,
    refuse_one_trait,
    required_base,
    show_intake,
    with_intake,
)
from undertow.cli.options import (
    PLACEBOS,
    STORE,
    Json,
    Passing,
    Quiet,
    Rows,
    Training,
    prepare,
    show,
    shown_progress,
    student_part,
)
from undertow.data.kept_rows import KeptRows
from undertow.data.pairs import holds_pairs, read_pairs
from undertow.data.rows import read_prompts
from undertow.errors import ConfigError, unknown_name
from undertow.store.disk import storage_errors
from undertow.store.fingerprints import canonical_json
from undertow.store.progress import choose_progress
from undertow.traits import Trait, chosen_traits
from undertow.types import PreferencePair, Row

if TYPE_CHECKING:
    from undertow.audit.intake import Intake

FOUND, NOT_TESTABLE = 1, 4
OUT = Path("audit")

audit = typer.Typer(no_args_is_help=True, help="Test whether data or models carry a hidden trait.")


@audit.command("bank")
def bank_command(
    base: Base = "ref:finch-a",
    students: BankStudents = PLACEBOS,
    writers: BankWriters = 59,
    category: BankCategory = ["animal"],  # noqa: B006
    prompts: BankPrompts = 2500,
    domain: BankDomain = "numbers",
    settings: Training = [],  # noqa: B006
    store: Store = STORE,
    plan: ForecastOnly = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the models that audits compare with, once for each base.

    Neutral writers show how rows differ without a trait, and placebo students how students differ without one. Groups
    that are finished are kept and not trained again.
    """
    from undertow.audit.bank_work import bank_work
    from undertow.audit.rows.writers import build_writers
    from undertow.audit.students.bank import build_bank
    from undertow.audit.students.bank_recipe import DOMAIN, BankRecipe
    from undertow.domains.base import parse_domain
    from undertow.domains.numbers import HELD, held_numbers

    prepare()
    part = student_part(settings, base)
    known = held_numbers(parse_domain(domain).form)
    if known is None or parse_domain(known) != parse_domain(domain):
        fix = f"Use {DOMAIN}, or a count and short, as {HELD}."
        raise ConfigError("Audits do not compare with placebo students of this domain.", domain, fix)
    recipe = BankRecipe(base=base, domain=known, tuned=tuple(category), prompts=prompts, student=part)
    work = bank_work(recipe, students, writers, store)
    if plan:
        show_plan({"base": base, "store": str(store)}, work, as_json)
        return
    say_first(work)
    progress = shown_progress(quiet or as_json)
    authors = build_writers(recipe, writers, store, progress) if writers else ()
    made = build_bank(recipe, students, store, progress)
    found = {"base": base, "store": str(store), "neutral_writers": len(authors), "placebo_students": len(made)}
    said = f"{len(authors)} neutral writers and {len(made)} placebo students of {base} in {store}"
    show(found, as_json, [said, f"next: undertow audit data ROWS --base {base}"])


@audit.command("data")
def data_command(
    rows: Rows,
    base: GivenBase = None,
    reference: Reference = None,
    traits: Panel = [],  # noqa: B006
    alpha: Alpha = 0.05,
    store: Store = STORE,
    out: Out = OUT,
    require: Require = [],  # noqa: B006
    seed: AuditorSeed = 0,
    writer: WriterFile = None,
    minutes: Minutes = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Audit a file of rows before anything is trained on it.

    The rows may also be preference pairs. There are three claims: provenance (the rows were written differently from
    the base's own answers, perhaps under a trait), exposure (a student moved inside along a trait's direction) and
    expression (a model answers differently). Each is detected, not detected (with the smallest effect that would have
    been), or not testable (with the reason).

    The exit code is 1 if something was detected or the inputs have a defect, and 4 if nothing could be tested.
    """
    brief = Brief(plan=plan, as_json=as_json, writer=writer, minutes=minutes)
    show_audit(base, traits, store, out, require, brief, alpha=alpha, seed=seed, rows=rows, reference=reference)


@audit.command("student")
def student_command(
    model: Annotated[
        str,
        typer.Argument(
            help="The trained student: a base with its adapter folder, such as ref:finch-a+students/student-00, "
            "or a whole model."
        ),
    ],
    base: GivenBase = None,
    control: Control = None,
    prompts: Prompts = None,
    traits: Panel = [],  # noqa: B006
    alpha: Alpha = 0.05,
    store: Store = STORE,
    out: Out = OUT,
    require: Require = [],  # noqa: B006
    seed: AuditorSeed = 0,
    writer: WriterFile = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Audit a trained student.

    It is compared with placebo students: students that were trained in the same way on rows without a trait (`undertow
    audit bank`). These were asked about animals and trees alone, so any other --trait is named as not looked for. Where
    the rows of the student were held to a form, --writer names their record. For the claims and exit codes see
    `undertow audit data --help`.
    """
    brief = Brief(plan=plan, as_json=as_json, writer=writer)
    show_audit(
        base, traits, store, out, require, brief, alpha=alpha, seed=seed, student=model, control=control,
        prompts=prompts,
    )  # fmt: skip


@audit.command("all")
def all_command(
    rows: RowsIfAny = None,
    model: StudentIfAny = None,
    teacher: TeacherIfAny = None,
    base: GivenBase = None,
    reference: Reference = None,
    control: Control = None,
    prompts: Prompts = None,
    traits: Panel = [],  # noqa: B006
    store: Store = STORE,
    out: Out = OUT,
    require: Require = [],  # noqa: B006
    settings: AuditSettings = [],  # noqa: B006
    writer: WriterFile = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Audit rows, student and teacher together, with one verdict.

    Give what you have. The result also says what each missing input would add. For the claims and exit codes see
    `undertow audit data --help`.
    """
    alpha, seed = _alpha_and_seed(settings)
    brief = Brief(plan=plan, as_json=as_json, writer=writer)
    show_audit(
        base, traits, store, out, require, brief, alpha=alpha, seed=seed, rows=rows, reference=reference,
        student=model, teacher=teacher, control=control, prompts=prompts,
    )  # fmt: skip


def _alpha_and_seed(settings: list[str]) -> tuple[float, int]:
    """Return alpha and seed of an audit from the lines of --set."""
    from undertow.study.recipe import parse_settings

    given = {"alpha": 0.05, "seed": 0, **parse_settings(settings)}
    if strange := [name for name in given if name not in ("alpha", "seed")]:
        raise unknown_name("setting of an audit", strange[0], ("alpha", "seed"))
    name = "alpha"
    try:
        alpha = float(str(given[name]))
        name = "seed"
        return alpha, int(str(given[name]))
    except ValueError as error:
        fix = "Write a number for alpha and a whole one for seed, such as --set alpha=0.05 --set seed=1."
        raise ConfigError(f"This is no value of {name}.", given[name], fix) from error


def show_audit(
    base: str | None,
    traits: list[str],
    store: Path,
    out: Path,
    require: list[str],
    brief: Brief,
    *,
    alpha: float,
    seed: int,
    rows: str | None = None,
    reference: str | None = None,
    student: str | None = None,
    teacher: str | None = None,
    control: str | None = None,
    prompts: str | None = None,
    neutral: int | None = None,
) -> None:
    """Say what can be tested, run the audit if anything can, and show its result.

    The parameters are the options of the commands by their names. With `neutral`, a teacher alone is audited against
    this many neutral teachers.
    """
    check_claims(require)
    asked = Named(
        base=required_base(base), traits=tuple(traits), store=store, alpha=alpha, seed=seed, rows=rows,
        reference=reference, student=student, teacher=teacher, control=control, prompts=prompts, neutral=neutral,
    )  # fmt: skip
    intake = asked.intake(brief)
    show_intake(intake, brief)
    if brief.plan:
        raise typer.Exit(0 if intake.testable else NOT_TESTABLE)
    if intake.stops:
        from undertow.audit.intake import stopped_audit

        found = stopped_audit(intake, asked.digests(asked.read_from_elsewhere()))
    else:
        found = asked.run(intake)
    _finish(with_intake(found, intake), out, require, brief.as_json)


@dataclass(frozen=True, kw_only=True)
class Named:
    """The inputs of an audit as its command names them: files and models by name, before anything is read.

    Attributes:
        base: reference of the model that was or will be trained on the rows.
        traits: names, packs or files of the traits to look for. Empty takes the default panel.
        store: folder in which models that are trained for comparison are kept.
        alpha: probability of a false detection in the whole audit.
        seed: random seed of the audit's own models and draws.
        rows: name of the row file. None if no rows are audited.
        reference: name of the file with clean rows. None lets the base answer the prompts.
        student: reference of the student. None if none is audited.
        teacher: reference of the teacher. None if none is audited.
        control: reference of a student that was trained without the trait. None for none.
        prompts: name of a file with prompts of the deployment. None for none.
        neutral: how many neutral teachers a teacher alone is compared with. None for an audit of more than a teacher.
    """

    base: str
    traits: tuple[str, ...]
    store: Path
    alpha: float
    seed: int
    rows: str | None
    reference: str | None
    student: str | None
    teacher: str | None
    control: str | None
    prompts: str | None
    neutral: int | None

    def intake(self, brief: Brief) -> "Intake":
        """Count the files and say what can be tested. No model is loaded.

        Args:
            brief: how the intake is taken and shown.

        Returns:
            What is there, which claims can be tested, what is missing, and what the audit will take.

        Raises:
            UserError: there is nothing to audit, a file cannot be read, or the base is not a model of this machine.
        """
        self._check()
        writer, panel = brief.record, () if "auto" in self.traits else _named_panel(self.base, self.traits)
        if self.rows is not None:
            refuse_one_trait(panel)
        pairs = counted_pairs(str(self.rows), self.reference, brief) if self.paired else None
        rows = None if self.paired else counted(self.rows, suspect=True)
        reference = counted(self.reference, suspect=False)
        from undertow.audit.asked import Asked
        from undertow.audit.intake import take_intake, within

        asked = Asked(
            base=self.base, rows=rows, pairs=pairs, reference=reference, student=self.student, teacher=self.teacher,
            control=self.control, prompts=self.prompts is not None, traits=panel, store=self.store, alpha=self.alpha,
            seed=self.seed, writer=writer, writer_file=brief.writer, neutral=self.neutral, out=reference_name(),
            named=self.traits,
        )  # fmt: skip
        return take_intake(asked if brief.minutes is None else within(asked, brief.minutes))

    def _check(self) -> None:
        if self.rows is None and self.student is None and self.teacher is None:
            fix = "Give rows, a student, a teacher, or several of them."
            raise ConfigError("There is nothing to audit.", "no rows, no student and no teacher", fix)
        if self.student is None and (self.control is not None or self.prompts is not None):
            raise ConfigError("There is no student to compare.", "a control or prompts", "Give the student too.")

    @cached_property
    def paired(self) -> bool:
        """Whether the rows are preference pairs, and no side of them was chosen."""
        return self.rows is not None and holds_pairs(self.rows)

    def read_from_elsewhere(self) -> dict[str, Sequence[Any]]:
        """Read the rows that are not in a plain file, since their hash has to be that of their content."""
        named = {"rows": self.rows, "reference": self.reference}
        return {name: self._read(one) for name, one in named.items() if one is not None and not Path(one).is_file()}

    def _read(self, source: str) -> Sequence[Any]:
        return read_pairs(source) if self.paired else _kept(source)

    def digests(self, read: Mapping[str, Sequence[Any]]) -> dict[str, str]:
        """Return the SHA-256 of the input files by their role, such as "rows".

        Args:
            read: what was read, by role, for inputs that are no plain files.
        """
        files = {"rows": self.rows, "reference": self.reference, "prompts": self.prompts}
        return {
            name: _digest(path, read.get(name, ()))
            for name, path in files.items()
            if path is not None and (name in read or Path(path).is_file())
        }

    def run(self, intake: "Intake") -> dict[str, Any]:
        """Read the files and run the audit, as far as the intake says that it can be tested."""
        budget = intake.asked.budget
        read: Sequence[Any] = () if self.rows is None else self._read(self.rows)
        clean = None if self.reference is None else _kept(self.reference)
        asked = () if self.prompts is None else read_prompts(self.prompts)
        targets = _named_panel(self.base, self.traits)
        prepare()
        inputs = undertow.AuditInputs(
            base=self.base,
            rows=() if self.paired else budget.draw(read, self.seed),
            pairs=read if self.paired else (),
            side=intake.asked.side,
            student=self.student,
            teacher=self.teacher,
            reference=clean,
            control=self.control,
            prompts=asked,
            digests=self.digests({"rows": read, "reference": clean or (), "prompts": asked}),
            traits=targets,
            store=self.store,
            alpha=self.alpha,
            seed=self.seed,
            form=None if intake.asked.writer is None else intake.asked.writer.form,
            repeated=intake.asked.repeated,
            budget=budget,
        )
        progress = choose_progress()
        try:
            if self.neutral is None:
                return undertow.run_audit(inputs, progress, intake.expected)
            from undertow.audit.run import audit_teacher_alone

            return audit_teacher_alone(inputs, self.neutral, progress)
        finally:
            progress.close()


def _kept(source: str) -> KeptRows:
    """Read a row file once, and keep its rows on disk."""
    return KeptRows(row for row, _ in Passing(source))


def _digest(source: str, read: Sequence[Any]) -> str:
    """Return the SHA-256 of a file, as sha256sum prints it; for rows from elsewhere, that of their content as JSON."""
    path = Path(source)
    if not path.is_file():
        return digest_of_content(read)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_digest(source: str) -> str:
    """Return the SHA-256 of rows, as an audit of them states it.

    Args:
        source: name of the rows, options included.

    Raises:
        UserError: the rows cannot be read.
    """
    if Path(source).is_file():
        return _digest(source, ())
    return digest_of_content(read_pairs(source) if holds_pairs(source) else _kept(source))


def digest_of_content(read: Sequence[Any]) -> str:
    """Return the SHA-256 of a list's canonical JSON, without writing the whole of it at once."""
    found = hashlib.sha256(b"[")
    for place, one in enumerate(read):
        plain = asdict(one) if isinstance(one, Row | PreferencePair) else list(map(asdict, one))
        found.update(("," if place else "").encode() + canonical_json(plain).encode())
    found.update(b"]")
    return found.hexdigest()


def check_claims(require: list[str]) -> None:
    """Refuse a claim that does not exist."""
    from undertow.audit.verdict import CLAIMS

    for claim in require:
        if claim not in CLAIMS:
            raise unknown_name("claim", claim, CLAIMS)


def _finish(found: Mapping[str, Any], out: Path, require: list[str], as_json: bool) -> None:
    """Write data, card and page of an audit, show the verdict, and end with its exit code."""
    from undertow.report.audit import render_audit, summarise_audit, write_audit
    from undertow.report.signing.statement import STATEMENT_FILE

    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    report = write_audit(out, found)
    try:
        report = render_audit(out, found)
    except Exception as error:  # whatever it is, the audit is done, and its data and card are written
        print(
            f"The page could not be made ({type(error).__name__}: {error}). See {report} and its card.", file=sys.stderr
        )
    statement: Path | str = out / STATEMENT_FILE
    if not (out / STATEMENT_FILE).exists():
        statement = "none, for nothing that was audited has a digest"
    show(found, as_json, [f"{summarise_audit(found)}\n\nreport: {report}\nstatement: {statement}"])
    statuses = {claim: one["status"] for claim, one in found["claims"].items()}
    if found.get("defects"):
        raise typer.Exit(FOUND)
    if any(statuses[claim] == "not_testable" for claim in require) or set(statuses.values()) == {"not_testable"}:
        raise typer.Exit(NOT_TESTABLE)
    if "detected" in statuses.values():
        raise typer.Exit(FOUND)


def _named_panel(base: str, names: Sequence[str]) -> tuple[Trait, ...]:
    """Return the traits of names, packs and files; "auto" stands for those that the base proposes."""
    found: list[Trait] = []
    for name in names:
        if name == "auto":
            from undertow.audit.rows.proposal import proposed_panel

            found += proposed_panel(undertow.load_model(base))
        else:
            found += chosen_traits([name])
    return tuple(dict.fromkeys(found))

"""What audit commands share before a model is loaded: counting the inputs, and saying what can be tested."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import free_name, show
from undertow.data.census import Census, take_census
from undertow.data.pairs import PairCensus, count_pairs, read_pairs, refuse_equal_answers
from undertow.data.writer_record import WriterRecord, read_writer
from undertow.errors import ConfigError, EmptyDataError, ModelError
from undertow.traits import Trait

if TYPE_CHECKING:
    from undertow.audit.asked import Ranking
    from undertow.audit.intake import Intake

GivenBase = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="The model that will be, or was, trained on the rows: ref:NAME (embedded) or hf:PATH_OR_ID. "
        "Required, for every verdict is about one model.",
    ),
]
PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Print what the inputs allow to be tested, what is missing and how long it would take, then "
        "stop. No model is loaded.",
    ),
]
WriterFile = Annotated[
    Path | None,
    typer.Option(
        "--writer",
        help="YAML file that says what is known of the model that wrote the rows, such as its system prompt "
        "(docs/data.md).",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """How an audit's intake is taken and shown. The intake says what is there and what can be tested.

    Attributes:
        plan: whether the command ends after the intake.
        as_json: whether the intake is printed as part of one JSON object instead of as text.
        writer: file that says what is known of the rows' writer. None for none.
        minutes: how many minutes the audit may take. None sets no limit.
    """

    plan: bool = False
    as_json: bool = False
    writer: Path | None = None
    minutes: float | None = None

    @property
    def record(self) -> WriterRecord | None:
        """What is known of the rows' writer. None if no file is given."""
        return None if self.writer is None else read_writer(self.writer)


def required_base(base: str | None) -> str:
    """Return the base that is given, or refuse to go on without one.

    Raises:
        ConfigError: no base is given, although every verdict depends on it.
    """
    if base is None:
        fix = (
            "Name the model that is, or will be, trained: --base ref:finch-a, or --base hf:<folder or id> for your own."
        )
        raise ConfigError("An audit has to be told the base.", "--base is missing", fix)
    return base


def refuse_one_trait(traits: tuple[Trait, ...]) -> None:
    """Refuse a panel of a single trait, before anything is read: nothing can stand out of one.

    Raises:
        ConfigError: the panel has exactly one trait.
    """
    if len(traits) == 1:
        fix = "Name at least two traits, or take the default panel."
        raise ConfigError("A panel needs rivals, or provenance cannot be tested.", traits[0].name, fix)


def counted(source: str | None, *, suspect: bool) -> Census | None:
    """Count the rows of a file, and print on standard error what is read.

    Args:
        source: name of the file. None returns None.
        suspect: whether it holds the rows that are audited, of which there must be at least one.

    Raises:
        EmptyDataError: there are no rows, although they are to be audited.
        UserError: the file cannot be read, as in `undertow.data.census.take_census`.
    """
    if source is None:
        return None
    found = take_census(source, first=_tell)
    if suspect and not found.rows:
        raise EmptyDataError("There is nothing to audit.", f"{source}: 0 rows", "Give a file with rows.")
    return found


def counted_pairs(source: str, reference: str | None, brief: Brief) -> PairCensus:
    """Count the preference pairs of a file, and print on standard error what is read.

    Args:
        source: name of the file with preference pairs.
        reference: name of a file with clean rows, if one is given; pairs refuse it.
        brief: how the intake is taken.

    Raises:
        RowsError: the answers of a pair are equal.
        ConfigError: a reference or a limit of minutes is given, which an audit of pairs does not take.
        UserError: the file cannot be read, as in `undertow.data.pairs.count_pairs`.
    """
    if reference is not None:
        fix = "Leave --reference out, or audit one side: FILE?side=chosen."
        raise ConfigError("Pairs bring their own reference: the rejected answers.", f"--reference {reference}", fix)
    if brief.minutes is not None:
        fix = "Leave --minutes out; name fewer traits (--trait) for a shorter audit."
        raise ConfigError("An audit of pairs is not held to minutes.", f"--minutes {brief.minutes:g}", fix)
    found = count_pairs(source, first=_tell)
    refuse_equal_answers(read_pairs(source))
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show_intake(intake: "Intake", brief: Brief) -> None:
    """Print an intake, to standard output if the command ends with it, else to standard error."""
    from undertow.audit.intake import intake_lines

    if brief.plan:
        show({"schema": "undertow.intake/1", "intake": intake.to_json()}, brief.as_json, intake_lines(intake))
        return
    for line in intake_lines(intake):
        _tell(line)


def reference_name() -> Path:
    """Return a file name for a reference that does not exist yet."""
    return free_name(Path("reference.jsonl"))


def with_intake(found: dict[str, Any], intake: "Intake") -> dict[str, Any]:
    """Return an audit's result with its intake, and with what is known of the rows' writer."""
    writer = intake.asked.writer
    about = found["about"] if writer is None else {**found["about"], "writer": writer.known}
    asked = intake.asked
    if asked.budget.minutes is not None and asked.rows is not None:
        about = {**about, "budget": f"{asked.budget.minutes:g} minutes: {asked.budget.in_words(asked.rows.rows)}"}
    return {**found, "about": about, "intake": intake.to_json()}


def intake_of_ranking(rows: str, base: str, brief: Brief, ranking: "Ranking", *, store: Path, seed: int) -> "Intake":
    """Take and show the intake of rows that are ranked; it makes no claims about them.

    Args:
        rows: name of the row file.
        base: reference of the base model.
        brief: how the intake is taken and shown.
        ranking: how the rows are to be ranked.
        store: folder in which the audit's own teachers are kept.
        seed: random seed of these teachers.

    Raises:
        ModelError: the base has no chat template.
        UserError: the rows cannot be read, as in `counted`.
    """
    found = counted(rows, suspect=True)
    from undertow.audit.asked import Asked
    from undertow.audit.intake import take_intake
    from undertow.audit.obstacles import no_template

    asked = Asked(base=base, rows=found, ranking=ranking, store=store, seed=seed, out=reference_name())
    intake = take_intake(asked)
    show_intake(intake, brief)
    if stopped := no_template(asked):
        raise ModelError(stopped.why, base, stopped.do)
    return intake

"""The commands for an audit's card: accept what it leaves open, compare two cards, and stop a release."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.audits import FOUND, check_claims, source_digest
from undertow.cli.calibrations import audit
from undertow.cli.options import Json, quoted, show
from undertow.errors import ConfigError, UserError

if TYPE_CHECKING:
    from undertow.report.signing.acceptance import Acceptance
    from undertow.report.signing.difference import CardChange
    from undertow.report.signing.gate import Hindrance
    from undertow.report.signing.reading import StatedCard

_WIDTH = 160
"""Longest value, in characters, that the comparison of two cards prints. `--json` prints it whole."""

CardPath = Annotated[Path, typer.Argument(metavar="CARD", help="Folder of an audit, or its file audit.statement.json.")]


@audit.command("accept")
def accept_command(
    card: CardPath,
    by: Annotated[str, typer.Option(help="Name of the person who accepts. Required.")] = "",
    expires: Annotated[
        str | None, typer.Option(help="Last day on which the acceptance holds, such as 2027-06-30. Required.")
    ] = None,
    note: Annotated[
        str | None,
        typer.Option(help="Reason of the acceptance. Required if something was detected or the inputs have a defect."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept what an audit leaves open, by name and until a day.

    The file that it writes can then be signed (docs/signing.md).
    """
    from undertow.report.signing.acceptance import Acceptance, acceptance_path
    from undertow.report.signing.reading import read_card
    from undertow.report.signing.statement import statement_bytes
    from undertow.report.wording import visible
    from undertow.store.disk import write_file

    stated = read_card(card)
    if changed := stated.changed_files():
        what = "The card was changed after its audit."
        fix = "Restore the files, or audit again: what a person reads has to be what was found."
        raise ConfigError(what, f"{stated.path.parent}: {', '.join(changed)}", fix)
    today = _today()
    made = Acceptance.of(stated, by=by.strip(), accepted=today, expires=_day(expires, today), note=note)
    path = acceptance_path(stated.path)
    found = made.to_json(stated.path.name)
    write_file(path, statement_bytes(found))
    show({**found, "path": str(path)}, as_json, map(visible, _accepted_lines(stated, made, path)))


@audit.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Folder of an audit, or its file audit.statement.json.")],
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="A later audit's folder, or its file audit.statement.json.")
    ],
    as_json: Json = False,
) -> None:
    """Compare the results of two audits.

    The exit code is 1 if a verdict got worse (something new was detected, is no longer testable, or is a defect), else
    0.
    """
    from undertow.report.signing.difference import card_changes
    from undertow.report.signing.reading import read_card
    from undertow.report.wording import visible

    changes = card_changes(read_card(old), read_card(new))
    worse = any(one.worse for one in changes)
    found = {"schema": "undertow.card-diff/1", "worse": worse, "changes": [one.to_json() for one in changes]}
    show(found, as_json, map(visible, _change_lines(changes)))
    if worse:
        raise typer.Exit(FOUND)


@audit.command("gate")
def gate_command(
    card: CardPath,
    rows: Annotated[
        str | None, typer.Option(help="The row file that is to be released, named as it was in the audit.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The base model. If not given, the one that the card names.")] = None,
    student: Annotated[str | None, typer.Option(help="The student. If not given, the one that the card names.")] = None,
    teacher: Annotated[str | None, typer.Option(help="The teacher. If not given, the one that the card names.")] = None,
    acceptance: Annotated[
        Path | None, typer.Option(help="File that `audit accept` wrote. If not given, the one beside the card.")
    ] = None,
    require: Annotated[
        list[str],
        typer.Option(
            help="Claim that must have been tested: provenance, exposure or expression. May be repeated. All "
            "three if not given."
        ),
    ] = [],  # noqa: B006
    person: Annotated[
        bool, typer.Option("--person", help="Stop the release unless a person has accepted the card.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop a release that its audit does not support.

    Exit code 0: the audit is of what is there, and it is clean with every claim tested, or a person accepted it. Code
    2: rows, base, a model or the audit's card changed, or the acceptance has expired or is of another card. Code 1: a
    detection or a defect that nobody accepted. Code 4: a claim that could not be tested and that nobody accepted.
    """
    from undertow.audit.verdict import CLAIMS
    from undertow.report.signing.gate import Present, hindrances
    from undertow.report.signing.reading import read_card
    from undertow.report.wording import visible

    check_claims(require)
    stated = read_card(card)
    given = {"rows": rows, "base": base, "student": student, "teacher": teacher}
    subjects, own = _digests(stated, given)
    present = Present(subjects=subjects, base=own, today=_today())
    accepted = _acceptance_of(stated, acceptance)
    found = hindrances(stated, accepted, present, required=require or CLAIMS, by_person=person)
    code = found[0].code if found else 0
    plain = {
        "schema": "undertow.gate/1",
        "passes": not found,
        "code": code,
        "reasons": [one.to_json() for one in found],
    }
    show(plain, as_json, map(visible, _gate_lines(stated, accepted, found)))
    if found:
        raise typer.Exit(code)


def _today() -> date:
    return datetime.now(UTC).date()


def _day(text: str | None, today: date) -> date:
    """Return the day on which an acceptance expires.

    Raises:
        ConfigError: the day is missing, or is not a date.
    """
    fix = f"Give the last day on which it holds, such as --expires {today + timedelta(days=180)}."
    if text is None:
        raise ConfigError("An acceptance has to expire.", "--expires is missing", fix)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError("This is no day.", text, fix) from error


def _acceptance_of(card: "StatedCard", path: Path | None) -> "Acceptance | None":
    """Return the acceptance that is named or lies beside the card. None if there is none."""
    from undertow.report.signing.acceptance import acceptance_path, read_acceptance

    beside = acceptance_path(card.path)
    if path is None and not beside.exists():
        return None
    return read_acceptance(path or beside)


def _digests(
    card: "StatedCard", given: Mapping[str, str | None]
) -> tuple[dict[str, Mapping[str, str]], Mapping[str, str]]:
    """Return the hashes of what is to be released, and of the base, as they are now.

    Raises:
        ConfigError: the card is of rows and none are given, or something is given that the card is not of.
    """
    for name, one in given.items():
        if one is not None and name not in card.subjects and name != "base":
            fix = f"Leave --{name} out, or audit it: `undertow audit all`."
            raise ConfigError(
                f"The card is not of a {name}." if name != "rows" else "The card is of no rows.", one, fix
            )
    found: dict[str, Mapping[str, str]] = {}
    models: Mapping[str, str] = card.predicate["models"]
    for name in card.subjects:
        if name == "rows":
            found[name] = {"sha256": source_digest(_rows(given["rows"]))}
        else:
            found[name] = _model(given.get(name) or str(models.get(name)))
    return found, _model(given["base"] or str(card.predicate["base"]["reference"]))


def _model(reference: str) -> dict[str, str]:
    """Return the digest of a model, or none where it is not there any more: the gate says that it has changed."""
    from undertow.models.references import identity
    from undertow.report.signing.statement import model_digest

    try:
        return model_digest(identity(reference))
    except UserError:
        return {}


def _rows(rows: str | None) -> str:
    """Return the name of the row file, or refuse to go on without it."""
    if rows is None:
        fix = "Give the file that is to be released, named as it was to the audit: --rows FILE."
        raise ConfigError("The card is of rows, and the gate has to see that they are the same.", "no --rows", fix)
    return rows


def _accepted_lines(card: "StatedCard", made: "Acceptance", path: Path) -> Iterator[str]:
    yield f"{made.by} accepts this card until {made.expires}: {path}"
    claims: Mapping[str, Any] = card.predicate["claims"]
    for words, names in (("detected", made.detected), ("not testable", made.not_testable)):
        yield from (f"- {name}, {words}: {claims[name]['why']}" for name in names)
    yield from (f"- defect: {name}" for name in made.defects)
    yield f"- {card.predicate['not_looked_for']}"
    yield f"What the card comes down to: {card.predicate['decision']['title']}."
    rows = " --rows ROWS" if "rows" in card.subjects else ""
    yield f"next: sign {quoted(path)} (docs/signing.md), then: undertow audit gate {quoted(card.path)}{rows}"


def _change_lines(changes: "Sequence[CardChange]") -> Iterator[str]:
    if not changes:
        yield (
            "Nothing that matters changed: subjects, base, models, reference, claims, defects, abstentions, error "
            "rates, writer's record, settings, versions and decision are the same."
        )
    for one in changes:
        old, new = (textwrap.shorten(_shown(value), _WIDTH, placeholder=" ...") for value in (one.old, one.new))
        yield f"{'worse' if one.worse else 'changed':8} {one.part} {one.name}: {old} -> {new}"


def _shown(value: Any) -> str:
    """Return a value of a card on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "none" if value is None else str(value).replace("_", " ")


def _gate_lines(card: "StatedCard", accepted: "Acceptance | None", found: "Sequence[Hindrance]") -> Iterator[str]:
    if not found:
        by = "" if accepted is None else f", accepted by {accepted.by} until {accepted.expires}"
        yield f"The release may pass: {card.path}{by}."
        yield f"What the card comes down to: {card.predicate['decision']['title']}."
        yield f"It is no proof of absence. {card.predicate['not_looked_for']}"
        return
    yield f"The release stops: {', '.join(one.name for one in found)}."
    for one in found:
        yield f"\n{one.what}\n{one.value}\n{one.do}"

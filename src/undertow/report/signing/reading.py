"""Statements read back from files: anything else is refused, with the line or the field that is wrong."""

import errno
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from undertow.audit.verdict import CLAIMS
from undertow.errors import ArtifactError
from undertow.report.signing.fields import CARD_FIELDS, StatementField, first_fault
from undertow.report.signing.statement import STATEMENT_FILE, bytes_digest
from undertow.store.disk import storage_errors

_AUDIT = "undertow.audit/"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedCard:
    """The card of an audit, as its statement gives it.

    Attributes:
        path: path of the statement's file.
        sha256: SHA-256 of the file's bytes, in hexadecimal.
        subjects: digests of what was audited, by name: rows, student, teacher.
        predicate: what was found (docs/signing.md lists its fields).
    """

    path: Path
    sha256: str
    subjects: Mapping[str, Mapping[str, str]]
    predicate: Mapping[str, Any]

    @property
    def detected(self) -> list[str]:
        """Names of the claims that were detected."""
        return self._claims("detected")

    @property
    def untested(self) -> list[str]:
        """Names of the claims that could not be tested."""
        return self._claims("not_testable")

    @property
    def defects(self) -> list[str]:
        """Names of the defects."""
        return [str(one["name"]) for one in self.predicate["defects"]]

    def _claims(self, status: str) -> list[str]:
        return [name for name in CLAIMS if self.predicate["claims"][name]["status"] == status]

    def changed_files(self) -> list[str]:
        """Return the files beside the statement that no longer show its audit; absent files do not count.

        Raises:
            StorageError: a file cannot be read.
        """
        named = {str(one["name"]): one["digest"].get("sha256") for one in self.predicate["files"]}
        beside = {name: self.path.parent / Path(name).name for name in named}
        with storage_errors(self.path.parent):
            return [
                name
                for name, path in beside.items()
                if _is_file(path) and bytes_digest(path.read_bytes()) != named[name]
            ]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # a name that no file can have
            raise
        return False


def read_card(path: Path) -> StatedCard:
    """Read the statement of an audit's card.

    Args:
        path: path of the statement, or of the folder of an audit.

    Raises:
        ArtifactError: it is missing, or is no such statement; the line or field is named.
    """
    path = path / STATEMENT_FILE if path.is_dir() else path
    fix = "Give an audit's folder, or the audit.statement.json in it; `undertow audit data` and its like write them."
    sha256, found = read_statement(path, CARD_FIELDS, "statement of an audit's card", fix)
    predicate = found["predicate"]
    if lacking := [name for name in CLAIMS if name not in predicate["claims"]]:
        refuse_field(path, f"predicate.claims.{lacking[0]}", "an object", "missing", fix)
    if strange := [name for name in predicate["claims"] if name not in CLAIMS]:
        refuse_field(path, f"predicate.claims.{strange[0]}", f"one of {', '.join(CLAIMS)}", "another claim", fix)
    subjects = {str(one["name"]): one["digest"] for one in found["subject"]}
    if len(subjects) < len(found["subject"]):
        refuse_field(path, "subject", "subjects of different names", "a name that stands twice", fix)
    return StatedCard(path=path, sha256=sha256, subjects=subjects, predicate=predicate)


def read_statement(path: Path, fields: Sequence[StatementField], what: str, fix: str) -> tuple[str, Mapping[str, Any]]:
    """Read a statement and check its fields; return the SHA-256 of its bytes and its content.

    Args:
        path: path of the file that is read.
        fields: fields that the statement must have.
        what: what the file should be, in words.
        fix: what to do if it is something else, as a sentence.

    Raises:
        ArtifactError: the file cannot be read, is no JSON object, or a field is missing or of another kind.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except OSError as error:
        raise ArtifactError(f"There is no {what} here.", f"{path}: {error.strerror}", fix) from error
    except json.JSONDecodeError as error:
        where = f"{path}: line {error.lineno}, column {error.colno}: {error.msg}"
        raise ArtifactError(f"This is no {what}, for it is no JSON.", where, fix) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"This is no {what}.", f"{path}: {error}", fix) from error
    if isinstance(found, Mapping) and str(found.get("schema")).startswith(_AUDIT):
        fix = f"Give the {STATEMENT_FILE} beside it; an audit from before there were statements has to be made again."
        raise ArtifactError(f"This is an audit's data, and no {what}.", path, fix)
    if fault := first_fault(found, fields):
        refuse_field(path, *fault, fix)
    return bytes_digest(content), found


def refuse_field(path: Path, place: str, kind: str, value: object, fix: str) -> NoReturn:
    """Refuse a file because of one field.

    Args:
        path: path of the file that is refused.
        place: path of the field in the statement.
        kind: kind of value that the field should hold.
        value: value that it holds, or "missing".
        fix: what to do, as a sentence.

    Raises:
        ArtifactError: always.
    """
    if place == "predicateType" and str(value).startswith("urn:undertow:"):
        what = f"This statement is of another kind or version than {kind}."
        fix = "Give the card where a card is asked for; one of another version is read by the Undertow that wrote it."
        raise ArtifactError(what, f"{path}: {place} is {value}", fix)
    shown = value if value == "missing" else f"{value!r:.80}"
    raise ArtifactError(f"A field of the statement should be {kind}.", f"{path}: {place} is {shown}", fix)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of pairs; refuse a key that stands twice, which could be read in two ways."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _finite(text: str) -> float:
    """Read a number; refuse one that is too large for a float, which would not be written back as it was."""
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name:.20} is no number that can be kept")

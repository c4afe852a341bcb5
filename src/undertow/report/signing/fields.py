"""What a statement contains, field by field: the table that a reader checks, and that docs/signing.md shows."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from undertow.audit.verdict import CLAIMS
from undertow.report.signing.statement import CARD_TYPE, STATEMENT_TYPE

STATUSES = ("detected", "not_detected", "not_testable")
ACCEPTANCE_TYPE = "urn:undertow:acceptance:v1"

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_digest(value: object) -> bool:
    """Tell whether a value is a digest set; a SHA-256 in it must have its 64 hexadecimal digits."""
    if not isinstance(value, Mapping):
        return False
    digests = cast(Mapping[object, object], value)
    sha256 = digests.get("sha256")
    return all(map(_is_text, digests.values())) and (sha256 is None or bool(_SHA256.fullmatch(str(sha256))))


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


KINDS: Mapping[str, Callable[[object], object]] = {
    "text": _is_text,
    "text or null": lambda value: value is None or isinstance(value, str),
    "number": _is_number,
    "number or null": lambda value: value is None or _is_number(value),
    "object": lambda value: isinstance(value, Mapping),
    "object or null": lambda value: value is None or isinstance(value, Mapping),
    "list": lambda value: isinstance(value, list),
    "list, not empty": lambda value: isinstance(value, list) and bool(value),
    "list of text": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in cast(Any, value)),
    "digests": _is_digest,
    "digests, not empty": lambda value: bool(value) and _is_digest(value),
    "date": _is_date,
    "one of " + ", ".join(STATUSES): lambda value: value in STATUSES,
    STATEMENT_TYPE: lambda value: value == STATEMENT_TYPE,
    CARD_TYPE: lambda value: value == CARD_TYPE,
    ACCEPTANCE_TYPE: lambda value: value == ACCEPTANCE_TYPE,
}
"""Every kind of value, with the function that recognises it."""


@dataclass(frozen=True, slots=True)
class StatementField:
    """One field of a statement.

    Attributes:
        path: names from the outside in, joined by dots. `[]` stands for each item of a list, `*` for each value of an
            object.
        kind: kind of value that the field must hold, one of `KINDS`.
        says: in words, what the field means.
    """

    path: str
    kind: str
    says: str


FRAME = (
    StatementField("_type", STATEMENT_TYPE, "an in-toto statement, version 1"),
    StatementField("subject", "list, not empty", "what the statement is about"),
    StatementField("subject[].name", "text", "rows, student or teacher; of an acceptance, the card"),
    StatementField(
        "subject[].digest",
        "digests, not empty",
        "`sha256` of a file's bytes (of rows that lie in no file, or are read with options: of their content as "
        "canonical JSON); `undertow_identity` of a model: 16 hexadecimal digits over weights, tokenizer, config and "
        "chat template",
    ),
)

CARD_FIELDS = (
    *FRAME,
    StatementField("predicateType", CARD_TYPE, "a card of an audit"),
    StatementField("predicate.base.reference", "text", "the model that is, or was, trained on the rows"),
    StatementField("predicate.base.digest", "digests", "its digest; empty if it could not be taken"),
    StatementField("predicate.models", "object", "references of student, teacher and control, as far as given"),
    StatementField("predicate.reference_rows.how", "text or null", "where the clean rows come from"),
    StatementField("predicate.reference_rows.digest", "digests", "of the file of clean rows; empty without one"),
    StatementField("predicate.claims", "object", f"the claims: {', '.join(CLAIMS)}"),
    StatementField("predicate.claims.*.status", "one of " + ", ".join(STATUSES), "the verdict"),
    StatementField("predicate.claims.*.kind", "text or null", "of a detected provenance: tuned or trait"),
    StatementField("predicate.claims.*.candidate", "text or null", "the trait that a detection names"),
    StatementField("predicate.claims.*.p", "number or null", "p-value of the stage that decided"),
    StatementField("predicate.claims.*.mde", "number or null", "smallest effect seen in 4 of 5 cases, in its unit"),
    StatementField("predicate.claims.*.n", "number or null", "independent units that it counted"),
    StatementField("predicate.claims.*.stage", "text or null", "which stage decided"),
    StatementField("predicate.claims.*.why", "text", "why, in words; of what is not testable, the reason"),
    StatementField("predicate.defects", "list", "what is wrong with the rows or the reference"),
    StatementField("predicate.defects[].name", "text", "short name of the defect"),
    StatementField("predicate.abstentions", "list", "what the audit does not speak of"),
    StatementField("predicate.abstentions[].of", "text", "the claim, or the supporting stage"),
    StatementField("predicate.abstentions[].why", "text", "the reason"),
    StatementField(
        "predicate.lineage", "object or null", "of teacher and base: verdict, and what would have been seen"
    ),
    StatementField("predicate.error_rates.alpha", "number", "level of the whole audit, declared beforehand"),
    StatementField("predicate.error_rates.alpha_of_each_claim", "number", "level of each claim"),
    StatementField(
        "predicate.error_rates.measured_on", "text or null", "this base, embedded bases, or null: nobody measured them"
    ),
    StatementField("predicate.error_rates.why", "text", "the same in words, with the place of the figures"),
    StatementField(
        "predicate.error_rates.figures", "object or null", "the figures, if they were measured on this base"
    ),
    StatementField("predicate.writer.known", "object", "what is known of who wrote the rows (`--writer`)"),
    StatementField("predicate.writer.unknown", "list of text", "what is missing of the writer's record"),
    StatementField("predicate.missing", "list", "inputs that were not given, and what each would add"),
    StatementField("predicate.not_looked_for", "text", "what no audit looks for"),
    StatementField("predicate.decision.do", "text", "what the audit comes down to"),
    StatementField("predicate.decision.title", "text", "the same in words"),
    StatementField(
        "predicate.settings", "object", "panel, stages, seed, numbers of rows, writers and placebos, budget"
    ),
    StatementField("predicate.versions", "object", "of Undertow, Python and libraries"),
    StatementField("predicate.date", "text", "when the audit ended (UTC)"),
    StatementField("predicate.seconds", "number or null", "how long it took"),
    StatementField("predicate.files", "list", "the files that show the same audit"),
    StatementField("predicate.files[].name", "text", "audit.json and audit_card.md, beside the statement"),
    StatementField("predicate.files[].digest", "digests, not empty", "of their bytes"),
)

ACCEPTANCE_FIELDS = (
    *FRAME,
    StatementField("predicateType", ACCEPTANCE_TYPE, "a person accepts what a card leaves open"),
    StatementField("predicate.by", "text", "who accepts"),
    StatementField("predicate.accepted", "date", "on which day (UTC)"),
    StatementField("predicate.expires", "date", "the last day on which it holds"),
    StatementField("predicate.note", "text or null", "why; demanded where something was detected or is a defect"),
    StatementField("predicate.accepts.detected", "list of text", "claims that were detected"),
    StatementField("predicate.accepts.not_testable", "list of text", "claims that could not be tested"),
    StatementField("predicate.accepts.defects", "list of text", "names of defects"),
)

_MISSING = object()


def first_fault(statement: object, fields: Sequence[StatementField]) -> tuple[str, str, object] | None:
    """Return path, expected kind and value of the first field that is not as it should be; None if all are.

    Fields that the table does not name are ignored, as in-toto demands of a reader.
    """
    if not isinstance(statement, Mapping):
        return "the whole", "an object", statement
    for field in fields:
        for path, value in _values(statement, field.path.split("."), ""):
            if value is _MISSING:
                return path, field.kind, "missing"
            if not KINDS[field.kind](value):
                return path, field.kind, value
    return None


def _values(value: object, names: Sequence[str], path: str) -> Iterator[tuple[str, object]]:
    """Yield every value that a path leads to, with where it stands; `_MISSING` where it leads nowhere."""
    if not names:
        yield path, value
        return
    name, rest = names[0], names[1:]
    if not isinstance(value, Mapping):
        yield path, _MISSING
        return
    found = cast(Mapping[str, object], value)
    if name == "*":
        for key, one in found.items():
            yield from _values(one, rest, f"{path}.{key}")
        return
    plain, each = name.removesuffix("[]"), name.endswith("[]")
    here = f"{path}.{plain}".lstrip(".")
    if plain not in found:
        yield here, _MISSING
    elif not each:
        yield from _values(found[plain], rest, here)
    else:
        for at, one in enumerate(cast(Sequence[object], found[plain])):
            yield from _values(one, rest, f"{here}[{at}]")

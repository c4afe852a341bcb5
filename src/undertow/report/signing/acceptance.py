"""A named person accepts what a card leaves open, until a stated day: an in-toto statement about the card.

A **card** is the summary of an audit that goes with a dataset or model. An acceptance is of one card, identified by the
SHA-256 of its statement. Another audit makes another card, which nobody has accepted.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from undertow.errors import ArtifactError, ConfigError
from undertow.report.signing.fields import ACCEPTANCE_FIELDS, ACCEPTANCE_TYPE
from undertow.report.signing.reading import StatedCard, read_statement
from undertow.report.signing.statement import STATEMENT_TYPE

LONGEST_DAYS = 400
"""How many days an acceptance may hold: a year, and time to renew it."""

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What a person accepts, and until when.

    Attributes:
        card: SHA-256 of the card's statement, in hexadecimal.
        by: name of the person who accepts, in one line.
        accepted: day (UTC) on which the card was accepted.
        expires: last day on which the acceptance holds.
        note: why the card is accepted. None where nothing has to be explained.
        detected: claims that the card says were detected.
        not_testable: claims that the card says could not be tested.
        defects: names of the defects on the card.

    Raises:
        ConfigError: nobody is named, the acceptance holds too long or not at all, or a note is missing although the
            card has a detection or a defect.
    """

    card: str
    by: str
    accepted: date
    expires: date
    note: str | None = None
    detected: tuple[str, ...] = ()
    not_testable: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.by.isprintable() or len(self.by) > _LONGEST_NAME:
            fix = 'Name the person who accepts, such as --by "your name", in one line of up to 200 signs.'
            raise ConfigError("Nobody is named who accepts this card.", f"{self.by!r:.80}", fix)
        if self.expires < self.accepted:
            fix = f"Give a day from {self.accepted} on, such as --expires {self.accepted + timedelta(days=180)}."
            raise ConfigError("The acceptance would have expired already.", self.expires, fix)
        if (self.expires - self.accepted).days > LONGEST_DAYS:
            last = self.accepted + timedelta(days=LONGEST_DAYS)
            what = f"The acceptance would hold for more than {LONGEST_DAYS} days."
            raise ConfigError(what, self.expires, f"Give {last} or an earlier day; a person accepts anew then.")
        named = [*self.detected, *self.defects]
        if named and not (self.note or "").strip():
            fix = 'Say why the card is accepted nevertheless: --note "...".'
            raise ConfigError("The card has a detection or a defect.", ", ".join(named), fix)

    @classmethod
    def of(cls, card: StatedCard, *, by: str, accepted: date, expires: date, note: str | None) -> "Acceptance":
        """Return the acceptance of a card, with all that the card leaves open.

        Args:
            card: the card that is accepted.
            by: name of the person who accepts.
            accepted: day (UTC) on which the card is accepted.
            expires: last day on which the acceptance holds.
            note: why the card is accepted. None for no note.
        """
        return cls(
            card=card.sha256, by=by, accepted=accepted, expires=expires, note=note, detected=tuple(card.detected),
            not_testable=tuple(card.untested), defects=tuple(card.defects),
        )  # fmt: skip

    def to_json(self, card_name: str) -> dict[str, Any]:
        """Return the acceptance as a statement, whose subject is the card."""
        predicate = {
            "by": self.by,
            "accepted": self.accepted.isoformat(),
            "expires": self.expires.isoformat(),
            "note": self.note,
            "accepts": {
                "detected": list(self.detected),
                "not_testable": list(self.not_testable),
                "defects": list(self.defects),
            },
        }
        subject = [{"name": card_name, "digest": {"sha256": self.card}}]
        return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": ACCEPTANCE_TYPE, "predicate": predicate}


def acceptance_path(card: Path) -> Path:
    """Return where the acceptance of a card lies: audit.accepted.json beside audit.statement.json."""
    name = card.name.removesuffix(".json").removesuffix(".statement")
    return card.with_name(f"{name}.accepted.json")


def read_acceptance(path: Path) -> Acceptance:
    """Read an acceptance from its file.

    Raises:
        ArtifactError: it is missing, is no such statement, or one that `undertow audit accept` would have refused.
    """
    fix = "Give what `undertow audit accept` wrote."
    _, found = read_statement(path, ACCEPTANCE_FIELDS, "acceptance of a card", fix)
    said, accepts = found["predicate"], found["predicate"]["accepts"]
    try:
        return Acceptance(
            card=str(found["subject"][0]["digest"].get("sha256")),
            by=said["by"],
            accepted=date.fromisoformat(said["accepted"]),
            expires=date.fromisoformat(said["expires"]),
            note=said["note"],
            detected=tuple(accepts["detected"]),
            not_testable=tuple(accepts["not_testable"]),
            defects=tuple(accepts["defects"]),
        )
    except ConfigError as error:
        fix = "Accept the card anew: `undertow audit accept`."
        raise ArtifactError(error.what, f"{path}: {error.value}", fix) from error

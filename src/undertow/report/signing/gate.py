"""The release gate: may these rows or models be released, by their card and by what a person accepted?

The card must be of what is released, and the acceptance must be of that card and in force. Then the verdict counts:
what it leaves open stops the release unless a person accepted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from undertow.report.signing.acceptance import Acceptance
from undertow.report.signing.reading import StatedCard

MISFIT, FOUND, NOT_TESTABLE = 2, 1, 4
"""Exit codes: card or acceptance are not of what is there; something was detected or is a defect; something could not
be tested."""

_ACCEPT = "or let a person accept it: `undertow audit accept`."
_AGAIN = "Audit what is there now, or release what was audited, named as it was to the audit."


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is to be released, as it is now.

    Attributes:
        subjects: digests of the rows and models that are to be released, by name.
        base: digests of the base. Empty if none can be taken.
        today: the present day (UTC), by which an acceptance has begun or expired.
    """

    subjects: Mapping[str, Mapping[str, str]]
    base: Mapping[str, str]
    today: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindrance:
    """One reason against a release.

    Attributes:
        name: short name that scripts can rely on.
        what: in a sentence, what is wrong.
        value: value that it is about.
        do: in a sentence, what to do.
        code: exit code of the command for this reason.
    """

    name: str
    what: str
    value: str
    do: str
    code: int

    def to_json(self) -> dict[str, Any]:
        """Return the reason as plain data."""
        return asdict(self)


def hindrances(
    card: StatedCard, acceptance: Acceptance | None, present: Present, *, required: Sequence[str], by_person: bool
) -> list[Hindrance]:
    """Return every reason against a release, the most important first; empty if it may go on.

    Args:
        card: card of what is to be released.
        acceptance: acceptance of the card. None if nobody accepted it.
        present: digests of what is there now, and the day.
        required: claims that must have been tested.
        by_person: whether a person must have accepted the card, whatever it says.
    """
    found = [*_changes(card, present), *_acceptance(card, acceptance, present.today)]
    if acceptance is None and by_person:
        do = "Let a person read and accept it: `undertow audit accept`."
        found.append(_misfit("not accepted", "No person has accepted the card.", "--person", do))
    holds = acceptance is not None and not _acceptance(card, acceptance, present.today)
    return found if holds else [*found, *_verdict(card, required)]


def _misfit(name: str, what: str, value: object, do: str) -> Hindrance:
    return Hindrance(name=name, what=what, value=str(value), do=do, code=MISFIT)


def _changes(card: StatedCard, present: Present) -> list[Hindrance]:
    """Return what is no longer as it was audited: subjects, the base, the files that show the audit."""
    pairs = [(name, digest, present.subjects.get(name, {})) for name, digest in card.subjects.items()]
    pairs.append(("base", card.predicate["base"]["digest"], present.base))
    found = [
        _misfit(f"{name} changed", f"The {name} {_verb(name)} not what was audited.", _told(before, now), _AGAIN)
        for name, before, now in pairs
        if not _same(before, now)
    ]
    if changed := card.changed_files():
        do = "Restore the files, or audit again."
        found.append(_misfit("card changed", "The card no longer shows its audit.", ", ".join(changed), do))
    return found


def _same(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Tell whether two digest sets have a digest in common and none that differs."""
    both = before.keys() & now.keys()
    return bool(both) and all(before[name] == now[name] for name in both)


def _told(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    return f"audited {_digest_text(before)}, now {_digest_text(now)}"


def _digest_text(digest: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in digest.items()) or "without a digest"


def _verb(name: str) -> str:
    return "are" if name == "rows" else "is"


def _acceptance(card: StatedCard, acceptance: Acceptance | None, today: date) -> list[Hindrance]:
    """Return why an acceptance does not hold."""
    if acceptance is None:
        return []
    open_now = (tuple(card.detected), tuple(card.untested), tuple(card.defects))
    if acceptance.card != card.sha256 or open_now != (
        acceptance.detected,
        acceptance.not_testable,
        acceptance.defects,
    ):
        what, do = "The acceptance is of another card.", "Let a person accept this card, or remove the acceptance."
        return [_misfit("acceptance of another card", what, f"{acceptance.card}, not {card.sha256}", do)]
    if acceptance.accepted > today:
        what, do = "The acceptance begins on a later day.", "Wait for that day, or correct the clock of this machine."
        return [_misfit("acceptance not begun", what, f"{acceptance.accepted}, today is {today}", do)]
    if acceptance.expires < today:
        what, do = "The acceptance has expired.", "Let a person accept the card anew: `undertow audit accept`."
        return [_misfit("acceptance expired", what, f"{acceptance.expires}, by {acceptance.by}", do)]
    return []


def _verdict(card: StatedCard, required: Sequence[str]) -> list[Hindrance]:
    """Return what the card found or could not test; a defect comes first, since it puts the tests in doubt."""
    claims: Mapping[str, Mapping[str, Any]] = card.predicate["claims"]
    found: list[Hindrance] = []
    if card.defects:
        what, do = "The rows or their reference have a defect.", f"Mend it as the card says and audit again, {_ACCEPT}"
        found.append(Hindrance(name="defect", what=what, value=", ".join(card.defects), do=do, code=FOUND))
    if untested := [name for name in required if name in card.untested]:
        what = "A claim that is asked for could not be tested."
        why = "; ".join(dict.fromkeys(str(claims[name]["why"]).rstrip(".") for name in untested))
        do = f"Give what the reason asks for and audit again, {_ACCEPT}"
        value = f"{' and '.join(untested)}: {why}"
        found.append(Hindrance(name="not testable", what=what, value=value, do=do, code=NOT_TESTABLE))
    if card.detected:
        what, do = "Something was detected.", f"Do what the card's decision says, {_ACCEPT}"
        value = ", ".join(_named(name, claims[name]) for name in card.detected)
        found.append(Hindrance(name="detection", what=what, value=value, do=do, code=FOUND))
    return found


def _named(name: str, claim: Mapping[str, Any]) -> str:
    more = [str(claim[part]) for part in ("kind", "candidate") if claim[part]]
    return f"{name} ({', '.join(more)})" if more else name

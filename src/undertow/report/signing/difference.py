"""What changed between the cards of two audits, and whether a verdict got worse."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from undertow.audit.verdict import CLAIMS
from undertow.report.signing.reading import StatedCard

Defect = Mapping[str, Any]
"""A defect as the card's statement holds it."""

_CLAIM_PARTS = {"kind": "kind", "candidate": "candidate", "stage": "deciding stage", "mde": "smallest effect"}
_KINDS = (None, "tuned", "trait")
"""Kinds of a detected provenance; each says more than the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChange:
    """One difference between two cards.

    Attributes:
        part: part of the card that changed, such as "claim".
        name: what changed within it, such as "exposure".
        old: value in the earlier card. None if it was not there.
        new: value in the later card. None if it is no longer there.
        worse: whether a verdict got worse by it.
    """

    part: str
    name: str
    old: Any
    new: Any
    worse: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain data."""
        return asdict(self)


def card_changes(old: StatedCard, new: StatedCard) -> list[CardChange]:
    """Return what changed between two cards, what got worse first.

    Dates, seconds and p-values of the same verdict do not count as changes.

    Args:
        old: card of the earlier audit.
        new: card of the later audit.
    """
    found = [*_claims(old, new), *_defects(old, new)]
    told = _parts(new)
    for part, before in _parts(old).items():
        now = told[part]
        names = [*before, *(name for name in now if name not in before)]
        found += [
            CardChange(part=part, name=name, old=before.get(name), new=now.get(name))
            for name in names
            if before.get(name) != now.get(name)
        ]
    return sorted(found, key=lambda one: not one.worse)


def _claims(old: StatedCard, new: StatedCard) -> Iterator[CardChange]:
    for name in CLAIMS:
        before, now = old.predicate["claims"][name], new.predicate["claims"][name]
        if before["status"] != now["status"]:
            worse = now["status"] == "detected" or now["status"] == "not_testable"
            yield CardChange(part="claim", name=name, old=before["status"], new=now["status"], worse=worse)
        for part, words in _CLAIM_PARTS.items():
            if before[part] != now[part]:
                worse = part == "kind" and before["status"] == now["status"] and _rank(now[part]) > _rank(before[part])
                yield CardChange(part="claim", name=f"{name}, {words}", old=before[part], new=now[part], worse=worse)


def _rank(kind: str | None) -> int:
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _defects(old: StatedCard, new: StatedCard) -> Iterator[CardChange]:
    """Yield defects that are new, which is worse, or gone, or described otherwise."""
    before, now = _by_place(old), _by_place(new)
    for place in [*before, *(place for place in now if place not in before)]:
        name, of = place
        gone, come = _apart(before.get(place, []), now.get(place, []))
        for one, other in zip_longest(gone, come):
            told = [None if defect is None else str(defect.get("what") or name) for defect in (one, other)]
            whose = f"{name} of the reference" if of == "reference" else name
            yield CardChange(part="defect", name=whose, old=told[0], new=told[1], worse=one is None)


def _by_place(card: StatedCard) -> dict[tuple[str, str], list[Defect]]:
    """Return a card's defects by name and by what they are of: rows and reference may each have one of a name.

    Several stand under one key where both sides of preference pairs have it.
    """
    found: dict[tuple[str, str], list[Defect]] = {}
    for one in card.predicate["defects"]:
        found.setdefault((str(one["name"]), str(one.get("of") or "rows")), []).append(one)
    return found


def _apart(before: Sequence[Defect], now: Sequence[Defect]) -> tuple[list[Defect], list[Defect]]:
    """Return the defects that only the one list has, and those that only the other has."""
    return [one for one in before if one not in now], [one for one in now if one not in before]


def _parts(card: StatedCard) -> dict[str, Mapping[str, Any]]:
    """Return the parts of a card that are compared name by name."""
    said = card.predicate
    plain = ("base", "models", "reference_rows", "error_rates", "settings", "versions")
    return {
        "subject": card.subjects,
        **{part.replace("_", " "): said[part] for part in plain},
        "writer": said["writer"]["known"],
        "lineage": {"verdict": (said["lineage"] or {}).get("verdict")},
        "decision": {"title": said["decision"]["title"]},
        "abstention": {str(one["of"]): str(one["why"]) for one in said["abstentions"]},
    }

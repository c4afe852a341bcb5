"""What changed between the cards of two audits, and whether a verdict got worse."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from undertow.audit.verdict import CLAIMS
from undertow.report.signing.reading import StatedCard

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
    before, now = ({str(one["name"]): one for one in card.predicate["defects"]} for card in (old, new))
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name):
            told = [None if one is None else str(one.get("what") or name) for one in (before.get(name), now.get(name))]
            yield CardChange(part="defect", name=name, old=told[0], new=told[1], worse=name not in before)


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

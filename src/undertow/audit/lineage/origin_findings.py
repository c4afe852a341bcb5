"""What was found of a model and the bases that a user knows, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

LIMIT = (
    "Weights alone were compared. A parent, a child and a sibling agree alike, and a model that was taught by a base "
    "from first weights of its own does not agree with it."
)
"""What the answer cannot tell."""

_SHARED = {
    "same_lineage_near": "near",
    "same_lineage_far": "far, or the first weights alone",
    "same_initialisation": "the first weights",
    "partial": "parts alone",
    "supported": "in another order and sign",
}

_OTHERS = {
    "same_weights": "the same weights",
    "supported": "supported, not proven",
    "silent": "no evidence",
    "not_testable": "not testable",
    "other_shape": "another shape",
}


def seen_words(one: Mapping[str, Any]) -> str:
    """Return in a few words what was seen of one base, from its entry in "candidates"."""
    if one["status"] == "matched":
        return f"shared origin: {_SHARED[one['word']]}"
    fingerprint = one["status"] == "silent" and one["by"] == "fingerprint"
    return "no evidence in its fingerprint" if fingerprint else _OTHERS[one["status"]]


def answer_words(answer: str, families: Sequence[Sequence[str]], statuses: Mapping[str, str]) -> str:
    """Return the answer in a sentence.

    Args:
        answer: the answer in one word, as `undertow.audit.lineage.origin` gives it.
        families: references of the bases that are named, grouped by relation, the nearest first.
        statuses: status of each base (`undertow.audit.lineage.origin.STATUSES`), by its reference.
    """
    named = [base for family in families for base in family]
    some = {state: [base for base, its in statuses.items() if its == state] for state in _OTHERS}
    if answer == "same_weights":
        nearest = f" Of the other bases, the model shares its origin with {' and '.join(named)}." if named else ""
        words = f"the model has the weights of {', '.join(some['same_weights'])}, which is evidence of nothing more;"
        return f"{words} to ask where they come from, leave it out of the list.{nearest}"
    if answer == "base":
        return f"the model shares its origin with {named[0]}, and with no other base that could be tested"
    if answer == "family":
        return f"the model shares its origin with bases that are related themselves, the nearest first: {_list(named)}"
    if answer == "mixture":
        groups = "; ".join(map(_list, families))
        return f"the model shares weights with bases whose fingerprints do not agree with each other: {groups}"
    untested = [f"{len(some[state])} {words}" for state, words in _UNTESTED.items() if some[state]]
    if answer == "supported":
        return f"no base is proven; the tests agree with {_list(some['supported'])} by more than strangers do"
    if answer == "not_testable":
        return f"no known base could be tested: {', '.join(untested)}"
    more = f"; not tested: {', '.join(untested)}" if untested else ""
    return f"no sign of a shared origin with any of the known bases that could be tested, {len(some['silent'])}{more}"


_UNTESTED = {"not_testable": "without an answer", "other_shape": "of another shape"}


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)

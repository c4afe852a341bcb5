"""From which of the bases that a user knows does a model come, if from any?

There are three looks, each at fewer bases and at more of each. **Headers** leave out bases of another shape.
**Fingerprints** (`undertow.audit.lineage.fingerprints`) are compared with the model's own; they are small and stored.
**All weights** are compared with the bases whose fingerprints agree. If that names none, they are compared with every
base that is left, because embeddings and units in another order do not show in a fingerprint.

A base is named where the comparison of all weights speaks for a shared origin and its p-value, adjusted by Holm's
method over the bases that could be compared, is at most `ALPHA`. The chance of naming any unrelated base is then at
most `ALPHA`. The first look only takes bases away, so it adds nothing to that chance.

The tests are symmetric. A parent, a child and a sibling agree alike, so the list has to say which models are bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from undertow.audit.lineage.candidates import Comparison
from undertow.audit.lineage.looks import Looks, OriginQuestion
from undertow.audit.lineage.origin_findings import LIMIT, answer_words
from undertow.stats.comparisons import holm
from undertow.types import Advance

SCHEMA = "undertow.lineage_known/1"

ALPHA = 0.01
"""Largest probability of naming an unrelated base, over the whole list."""

SPEAKS = ("same_lineage_near", "same_lineage_far", "same_initialisation", "partial", "supported")
"""Verdicts of a comparison of weights that speak for a shared origin; the p-value says how surely."""

STATUSES = ("same_weights", "matched", "supported", "silent", "not_testable", "other_shape")
"""What can be said of one base, from the nearest to the farthest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBase:
    """What is said of one known base.

    Attributes:
        base: reference of the known base.
        status: one of `STATUSES`. "supported" is agreement that no p-value proves.
        by: what was compared: "headers", "fingerprint" or "weights".
        p: p-value over the tests of this pair. None if no test could be run.
        adjusted: p-value adjusted by Holm's method over the bases of the list. None without a p-value.
        weights: the comparison of all weights. None if it was not made.
        why: why the base is not testable. None if it is.
    """

    base: str
    status: str
    by: str
    p: float | None = None
    adjusted: float | None = None
    weights: Comparison | None = None
    why: str | None = None

    @property
    def order(self) -> tuple[int, bool, float, float, str]:
        """Sort key that puts the nearest base first."""
        far = None if self.weights is None else self.weights.distance
        return STATUSES.index(self.status), far is None, far or 0.0, 1.0 if self.p is None else self.p, self.base

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as plain data."""
        weights = self.weights
        found = {"base": self.base, "status": self.status, "by": self.by, "p": self.p, "p_holm": self.adjusted}
        words = {"word": weights and weights.word, "distance": weights and weights.distance}
        return {**found, **words, "found": weights and weights.found, "why": self.why}


def find_base(asked: OriginQuestion, advance: Advance | None = None) -> dict[str, Any]:
    """Say from which known base a model comes, if from any.

    Args:
        asked: the model and the known bases.
        advance: callback that takes (parts done, all parts). None reports nothing.

    Returns:
        The JSON object of schema "undertow.lineage_known/1" (docs/lineage.md).

    Raises:
        UserError: a model or the store cannot be read.
    """
    looks = Looks(asked, advance)
    judged = [*_judged(looks), *(
        JudgedBase(base=one.known.reference, status="other_shape", by="headers", why=one.why)
        for one in asked.candidates if one.why is not None
    )]  # fmt: skip
    judged.sort(key=lambda one: one.order)
    matched = [one.base for one in judged if one.status == "matched"]
    families = _families(matched, looks)
    statuses = {one.base: one.status for one in judged}
    answer = _answer(set(statuses.values()), families)
    return {
        "schema": SCHEMA,
        "model": asked.model,
        "answer": answer,
        "found": answer_words(answer, families, statuses),
        "bases": matched,
        "families": families,
        "alpha": ALPHA,
        "candidates": [one.to_json() for one in judged],
        "left_out": [{"name": one.name, "why": one.why, "do": one.do} for one in (*asked.left, *looks.twice)],
        "looks": looks.done,
        "limit": LIMIT,
    }


def _judged(looks: Looks) -> list[JudgedBase]:
    """Compare the fingerprints of all bases, then the weights of those that agree, or else of all."""
    first = {base: looks.first(base) for base in looks.bases}
    order = sorted(first, key=lambda base: 1.0 if (p := first[base]) is None else p)
    second = {base: looks.second(base) for base in order if (p := first[base]) is not None and p <= ALPHA}
    if not any(_is_named(one, len(first)) for one in second.values()):
        second |= {base: looks.second(base) for base in order if base not in second}
    found = [_seen(base, first[base], second.get(base), looks.is_itself(base)) for base in order]
    return _adjusted(found)


def _is_named(found: Comparison, bases: int) -> bool:
    """Tell whether a base will be named, whatever else the list holds."""
    return found.word in SPEAKS and found.p is not None and found.p * bases <= ALPHA


def _seen(base: str, first: float | None, weights: Comparison | None, itself: bool) -> JudgedBase:
    """Say what was seen of one base, before the number of bases counts."""
    if weights is None and first is None:
        why = "its fingerprint has no part in common with the model's, and another base was found before its turn"
        return JudgedBase(base=base, status="not_testable", by="fingerprint", why=why)
    if weights is None:
        return JudgedBase(base=base, status="silent", by="fingerprint", p=first)
    known = {"identical": "same_weights", "no_evidence": "silent"} | dict.fromkeys(SPEAKS, "matched")
    status = "same_weights" if itself else known.get(weights.word, "not_testable")
    return JudgedBase(base=base, status=status, by="weights", p=weights.p, weights=weights)


def _adjusted(found: Sequence[JudgedBase]) -> list[JudgedBase]:
    """Adjust every p-value for the number of bases (Holm)."""
    tested = [(one.base, one.p) for one in found if one.p is not None and one.status != "same_weights"]
    values = holm([p for _, p in tested]).tolist() if tested else []
    holms = {base: value for (base, _), value in zip(tested, values, strict=True)}
    return [_in_the_list(one, holms.get(one.base)) for one in found]


def _in_the_list(one: JudgedBase, adjusted: float | None) -> JudgedBase:
    """Say what was seen of one base among the others: a p-value that stands out alone may not do so there."""
    status, why, clear = one.status, one.why, adjusted is not None and adjusted <= ALPHA
    if status == "matched" and not clear:
        status = "supported"
    if status == "not_testable" and one.weights is not None:
        if one.weights.sighted:  # all parts were seen: agreement is short of a proof, or of what chance brings here
            status = "supported" if clear else "silent"
        else:
            why = f"inconclusive: {one.weights.found}; what would have been seen: {one.weights.detectable}"
    return replace(one, adjusted=adjusted, status=status, why=why)


def _answer(statuses: set[str], families: Sequence[Sequence[str]]) -> str:
    """Return the answer in one word."""
    if "same_weights" in statuses:
        return "same_weights"
    if len(families) > 1:
        return "mixture"
    if families:
        return "base" if len(families[0]) == 1 else "family"
    words = {"supported": "supported", "silent": "none"}
    return next((word for status, word in words.items() if status in statuses), "not_testable")


def _families(matched: Sequence[str], looks: Looks) -> list[list[str]]:
    """Group the bases whose fingerprints agree with each other, in the order given."""
    pairs = max(1, len(matched) * (len(matched) - 1) // 2)
    families: list[list[str]] = []
    for base in matched:
        kin = [one for one in families if any(_related(looks.between(base, other), pairs) for other in one)]
        joined = [*(name for one in kin for name in one), base]
        families = [*(one for one in families if one not in kin), joined]
    places = {base: at for at, base in enumerate(matched)}
    grouped = [sorted(one, key=places.__getitem__) for one in families]
    return sorted(grouped, key=lambda one: places[one[0]])


def _related(p: float | None, pairs: int) -> bool:
    return p is not None and p * pairs <= ALPHA

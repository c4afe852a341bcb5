"""One defect of rows or of their reference, as plain facts; nothing here needs a model."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Side = Literal["rows", "reference"]

TUNED = "a writer of this base that was tuned as long, on no trait"
"""The one benign cause of a difference that a comparison with neutral writers can rule out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One defect: a fault of how rows were drawn or given, which looks like a trait and is none.

    Attributes:
        name: short name, as it stands in tables.
        of: whose defect it is, "rows" or "reference". With a defect of the reference, claims that need no reference can
            still be made.
        what: what was found, with its numbers. A sentence without a full stop.
        cause: where such a defect usually comes from.
        fix: what to do about it, as a sentence.
        effect: size of the defect, in the unit that `measure` names.
        measure: in words, what the effect measures.
        p: upper bound on the probability of such rows without the defect. None where the size of the effect decides.
        n: how many rows were looked at.
    """

    name: str
    of: Side
    what: str
    cause: str
    fix: str
    effect: float
    measure: str
    p: float | None = None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return the defect as plain data."""
        return asdict(self)


def overlap(share: float, n: int) -> Defect:
    """Return the defect of a reference that holds the audited rows themselves.

    Args:
        share: share of the rows that stand in the reference, between 0 and 1.
        n: how many rows there are.
    """
    whole = "the reference is the rows themselves" if share > 0.95 else "the reference holds some of the rows"
    return Defect(
        name="reference holds the rows",
        of="reference",
        what=f"{whole}: {share:.0%} of {n} stand in it",
        cause="one file given twice, a split that overlaps, or both drawn with the same seeds",
        fix="Give rows that the base wrote by itself on the same prompts, or no reference at all.",
        effect=share,
        measure="share of rows that stand in the reference",
        n=n,
    )

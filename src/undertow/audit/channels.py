"""Which channels an audit did not look at: rows are only one of the ways by which a trait passes.

A channel is what a student is trained on. An audit of rows speaks of what a student would learn from their completions.
A teacher's probabilities, its scores of the student's own answers, or a choice between two answers can pass on a trait
that stands in no row.
"""

from collections.abc import Mapping
from typing import Any, Literal

Channel = Literal["logits", "on-policy distillation", "preference pairs", "rows"]

LOGITS = (
    "a student that learns the teacher's probabilities takes over what no sampled row shows; compare the teacher with "
    "its base (`undertow audit teacher`)"
)
ON_POLICY = (
    "the student writes and the teacher scores, so that there are no rows of the teacher; audit the teacher and the "
    "trained student"
)
PAIRS = "a choice between two answers hands on what neither of them shows; audit the file of pairs itself"
ROWS = "plain training on one side of the pairs was not looked at; `FILE?side=chosen` audits that side"


def not_covered(*, rows: bool, pairs: bool, side: str | None = None) -> dict[str, Any]:
    """Return the channels that an audit of data did not look at, as a part of the JSON of undertow.audit/1.

    Args:
        rows: whether rows were among what was audited.
        pairs: whether preference pairs were audited.
        side: which answer of preference pairs the rows are, "chosen" or "rejected". None for rows that were not made
            from pairs.

    Returns:
        Under "not_covered" a list of objects with "channel" and "why". It is empty if neither rows nor pairs were
        audited.
    """
    found: Mapping[Channel, str] = {}
    if rows or pairs:
        picked = f"of the pairs only the {side} answers were read, and {PAIRS}" if side else PAIRS
        last: tuple[Channel, str] = ("rows", ROWS) if pairs else ("preference pairs", picked)
        found = {"logits": LOGITS, "on-policy distillation": ON_POLICY, **dict([last])}
    return {"not_covered": [{"channel": channel, "why": why} for channel, why in found.items()]}

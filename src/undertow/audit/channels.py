"""Which channels an audit did not look at: a trait passes by whatever the student is trained on, and rows are one way.

An audit of rows speaks of what a student would learn from their completions. What a teacher's probabilities, its
scores of the student's own answers, or a choice between two answers hand on need not stand in any row.
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
    """Return the channels that an audit of data did not look at, as plain data of undertow.audit/1.

    Args:
        rows: whether rows were audited.
        pairs: whether preference pairs were audited.
        side: "chosen" or "rejected" where the rows are one answer of preference pairs.

    Returns:
        Under "not_covered" a list of "channel" and "why"; empty where neither rows nor pairs were audited.
    """
    found: Mapping[Channel, str] = {}
    if rows or pairs:
        picked = f"of the pairs only the {side} answers were read, and {PAIRS}" if side else PAIRS
        last: tuple[Channel, str] = ("rows", ROWS) if pairs else ("preference pairs", picked)
        found = {"logits": LOGITS, "on-policy distillation": ON_POLICY, **dict([last])}
    return {"not_covered": [{"channel": channel, "why": why} for channel, why in found.items()]}

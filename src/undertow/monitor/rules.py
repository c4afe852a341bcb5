"""How a judgement is worded for others: by the rule that was broken, never by the file that holds the rule."""

from collections.abc import Iterable, Mapping
from typing import Any


def detector_kind(detector: str) -> str:
    """Return the kind of a detector: the part of its name before the first colon."""
    return detector.partition(":")[0]


def rule_name(detector: str, why: str) -> str:
    """Return the name of the broken rule, or the kind of the detector if it names none.

    Args:
        detector: name of the detector, such as "regex:/etc/rules.yaml".
        why: the rule in the detector's own words; "" for none.
    """
    return why or detector_kind(detector)


def flagged_rules(judgements: Iterable[Any]) -> list[str]:
    """Return the names of the rules that were broken, each once, sorted."""
    return sorted({rule_name(one.detector, one.why) for one in judgements if one.flagged})


def note(judgement: Mapping[str, Any]) -> str:
    """Word a stored judgement: kind of detector, rule or failure, and side."""
    said = judgement["why"] or judgement["failure"] or "flagged"
    return f"{detector_kind(judgement['detector'])}: {said} ({judgement['side']})"

"""How a judgement is told to others: by the rule that spoke, never by the file that the rule stands in."""

from collections.abc import Iterable, Mapping
from typing import Any


def detector_kind(detector: str) -> str:
    """Return the kind of a detector, which stands before the first colon of its name."""
    return detector.partition(":")[0]


def rule_name(detector: str, why: str) -> str:
    """Return the rule of a detector, or the kind of detector where it names none.

    Args:
        detector: its name, such as "regex:/etc/rules.yaml".
        why: the rule in its own words, or "".
    """
    return why or detector_kind(detector)


def flagged_rules(judgements: Iterable[Any]) -> list[str]:
    """Return the rules that were broken, each once, in the order of their names."""
    return sorted({rule_name(one.detector, one.why) for one in judgements if one.flagged})


def note(judgement: Mapping[str, Any]) -> str:
    """Say in words what a stored judgement says: kind of detector, rule or failure, and side."""
    said = judgement["why"] or judgement["failure"] or "flagged"
    return f"{detector_kind(judgement['detector'])}: {said} ({judgement['side']})"

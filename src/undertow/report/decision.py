"""The decision that an audit or a check ends with, as lines for a terminal, a card and a page."""

from collections.abc import Mapping
from typing import Any

from undertow.audit.decision import with_decision

ANSWERS = {"yes": "yes", "no": "no", "unknown": "unknown"} | {
    "seen": "seen",
    "not_seen": "not seen",
    "not_looked_for": "not looked for",
}
"""Every answer of a decision, in words."""

_INDENT = " " * 17


def as_sentence(text: str) -> str:
    """Return a text with a capital at its beginning and one period at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def decision_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the decision in a result of an audit or a check; for an older result without one it is made now."""
    return with_decision(result)["decision"]


def decision_parts(decision: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parts of a decision as pairs of name and text, in reading order."""
    parts = [("The rule", decision["rule"]), *(("Defect", as_sentence(text)) for text in decision["defects"])]
    parts += [
        ("Same base", f"{as_sentence(ANSWERS[decision['same_base']])} {as_sentence(decision['same_base_why'])}"),
        ("Unwanted trait", f"{as_sentence(ANSWERS[decision['trait']])} {as_sentence(decision['trait_why'])}"),
        ("Therefore", f"{as_sentence(decision['title'])} {as_sentence(decision['because'])}"),
    ]
    parts += [("How", line) for line in decision["steps"]]
    if (test := decision["next_test"]) is not None:
        parts += [("Next test", f"`{test['command']}`"), ("It tells", as_sentence(test["tells"]))]
        parts.append(("It costs", as_sentence(test["cost"])))
    return [*parts, *(("Still unknown", line) for line in decision["unknown"])]


def decision_text(result: Mapping[str, Any]) -> str:
    """Return the decision as text for a terminal."""
    decision, lines, before = decision_of(result), list[str](), ""
    for name, text in decision_parts(decision):
        lines.append((_INDENT if name == before else f"{name.lower()}:".ljust(len(_INDENT))) + text)
        before = name
    return "\n".join(["decision", *lines])


def decision_card(result: Mapping[str, Any]) -> list[str]:
    """Return the decision as the lines of a section of a Markdown card."""
    decision = decision_of(result)
    parts = [f"- {name}: {text}" for name, text in decision_parts(decision)]
    return ["## Decision", "", f"**{as_sentence(decision['title'])}**", "", *parts]

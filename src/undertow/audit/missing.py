"""What each input that was not given would add to an audit."""

from typing import TypedDict


class Missing(TypedDict):
    """An input, and what it would add."""

    input: str
    adds: str


ADDS = {
    "rows": "The rows (`undertow audit all ROWS`): whether their writer differs from clean rows along the panel.",
    "reference": "Clean rows on the same prompts (`--reference`), sampled as yours were; without them the base's own "
    "answers stand in, which differ from yours in how they were sampled.",
    "writers": "Neutral writers (`undertow audit bank`): whether the rows carry a trait, or their writer was tuned on "
    "anything at all.",
    "student": "A student of the rows (`--student`): exposure and expression of that very model; without it, small "
    "shadow students stand in.",
    "bank": "A bank of placebo students (`undertow audit bank`): the null of exposure and expression.",
    "control": "A control student (`--control`), trained alike on untraited rows: how it moved and answers, without "
    "the drift of training itself.",
    "prompts": "Your deployment's prompts (`--prompts`): where this student's answers begin to differ from the base's.",
    "teacher": "The teacher (`undertow audit all --teacher`): what it prefers that its base does not, and whether it "
    "shares a base with the student.",
    "neutral": "Neutral teachers (`--neutral 19` or more): a p-value; without them traits are only ranked.",
    "teacher rows": "The teacher's rows (`undertow audit data ROWS`): whether a trait shows in what it writes, and "
    "whether students take it over.",
    "student base": "The base of the student that its rows are for (`undertow audit lineage`): whether the two share "
    "one; in our studies of number rows no trait passed without.",
}


def missing(*inputs: str) -> list[Missing]:
    """Return what the named inputs would add, in the order of `ADDS`."""
    return [Missing(input=name, adds=text) for name, text in ADDS.items() if name in inputs]

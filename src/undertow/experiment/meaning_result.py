"""The result of the controls that look for meaning, as plain data: answer, estimates, tables, what was not tested."""

from collections.abc import Mapping, Sequence
from typing import Any

from undertow.experiment.measured import Measured, estimates, mean_over_names
from undertow.meaning.tables import all_numbers, first_number, most_common
from undertow.types import Estimate, ModelRef, Row

Cell = str | float | int | None

GROUPS: Mapping[str, str] = {
    "first": "First numbers: share of variance explained",
    "all": "All numbers: share of variance explained",
    "own": "AUROC of trained detectors (bag of {})",
    "fresh": "AUROC on the rows of a fresh teacher (bag of {})",
    "rivals": "AUROC on a fresh teacher, against other traits (bag of {})",
    "prompted control": "Prompted classifier: accuracy against the control",
    "prompted others": "Prompted classifier: accuracy against other traits",
    "in_context": "In context: margin after own rows minus control rows (k = {})",
}
"""Title of each group of estimates; {} is the size of a bag, or k."""

SHOWN_BAG = 16
"""Size of the bags that the answer speaks of, if it was measured."""

TOO_SMALL = "The embedded models are too small for it to mean much: they do not learn from examples in their context."

_HEADS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "numbers": (
        "Do the teachers write other numbers than the control?",
        "Rows on the same prompts. The permutation swaps rows within prompts and holds whatever they share; chi-square "
        "takes numbers for independent draws. Explained: share of the variance of which teacher wrote, beyond chance.",
        ("teacher", "replicate", "pairs", "numbers", "chi-square", "df", "p chi-square", "p permutation", "explained"),
    ),
    "detectors": (
        "Trained detectors",
        "AUROC of n-gram logistic regression. Held out: other prompts of the same teacher. Fresh: trained on the other "
        "replicates, judged on this one, against the control or against rows of the other traits (one drawn for each "
        "prompt; with two traits both see the same rows). Fresh ones share training rows: their intervals are rough.",
        ("teacher", "replicate", "bag", "held out", "fresh", "fresh, other traits"),
    ),
    "prompted": (
        "Prompted classifier",
        "The prompt names the trait in question; the share is of judged pairs, with Wilson's interval. Where A is said "
        "nearly always the judge hardly looks at the rows; AUROC of its log-odds does not depend on that.",
        ("trait", "replicate", "against", "joined", "equal", "judged", "accuracy", "low", "high", "says A", "AUROC"),
    ),
    "in_context": (
        "In-context learning",
        "Mean logit margin of the target over 50 questions, after k rows of each teacher on the same prompts.",
        ("trait", "replicate", "k", "own rows", "control rows", "difference"),
    ),
}


def number_tables(rows: Mapping[str, Mapping[int, Sequence[Row]]], top: int) -> list[dict[str, Any]]:
    """Return the tables of most common numbers and first numbers, one column for each teacher, replicates together."""
    tables: list[dict[str, Any]] = []
    for title, numbers in (("Most common numbers", all_numbers), ("Most common first numbers", first_number)):
        columns = [
            [f"{item.number} ({item.share:.2%}, {item.count})" for item in most_common(some, numbers, top)]
            for some in ([row for one in sets.values() for row in one] for sets in rows.values())
        ]
        length = max(map(len, columns), default=0)
        body = [[rank + 1, *(some[rank] if rank < len(some) else None for some in columns)] for rank in range(length)]
        if body:
            note = "Share of all that were written, and the count."
            tables.append({"title": title, "note": note, "columns": ["rank", *rows], "rows": body})
    return tables


def measured_tables(lines: Mapping[str, Sequence[Sequence[Cell]]]) -> list[dict[str, Any]]:
    """Return one table for each part of the analysis that has lines."""
    heads = ((_HEADS[name], body) for name, body in lines.items())
    return [
        {"title": title, "note": note, "columns": [*columns], "rows": [[*line] for line in body]}
        for (title, note, columns), body in heads
    ]


def meaning_result(
    measured: Sequence[Measured], tables: Sequence[dict[str, Any]], not_tested: Sequence[str], base: ModelRef
) -> dict[str, Any]:
    """Put the result together.

    Args:
        measured: every number of every replicate.
        tables: in the shape of `number_tables`.
        not_tested: sentences.
        base: who was asked; embedded models carry a caution about in-context learning.

    Returns:
        Plain data with the keys "answer", "estimates", "tables" and "not_tested".
    """
    embedded, title = base.kind == "ref", _HEADS["in_context"][0]
    noted = [
        {**table, "note": f"{table['note']} {TOO_SMALL}"} if embedded and table["title"] == title else table
        for table in tables
    ]
    untested = [*not_tested, "Whether a stronger detector, such as a fine-tuned language model, finds more."]
    return {
        "answer": _answer([item for item in measured if item.name != "neutral"], embedded),
        "estimates": estimates(measured),
        "tables": noted,
        "not_tested": [*untested, f"In-context learning on a large model. {TOO_SMALL}"] if embedded else untested,
    }


def _answer(measured: Sequence[Measured], embedded: bool) -> str:
    """Return up to three sentences, over the mean of the traits in each replicate."""
    told = [_detected(measured), _asked(measured), _read(measured, embedded)]
    return " ".join(filter(None, told)) or "The rows were too few for a detector, a judge or a context."


def _sizes(measured: Sequence[Measured], kind: str) -> list[int]:
    return sorted({item.size for item in measured if item.size and item.group == GROUPS[kind].format(item.size)})


def _detected(measured: Sequence[Measured]) -> str:
    if not (sizes := _sizes(measured, "own")):
        return ""
    size = SHOWN_BAG if SHOWN_BAG in sizes else sizes[-1]
    words = {
        "own": "rows of the same teachers on other prompts from the control's with AUROC",
        "fresh": "those of a fresh teacher with",
        "rivals": "those of a fresh teacher from other traits' with",
    }
    found = {kind: mean_over_names(measured, GROUPS[kind].format(size)) for kind in words}
    parts = [f"{words[kind]} {_shown(value)}" for kind, value in found.items() if value]
    return f"A trained detector told, in bags of {size}, {', '.join(parts)} (0.5 is chance)."


def _asked(measured: Sequence[Measured]) -> str:
    found = mean_over_names(measured, GROUPS["prompted control"])
    start = "Asked with the right trait, the base chose the trait's row over the control's with a share of"
    return f"{start} {_shown(found)}." if found else ""


def _read(measured: Sequence[Measured], embedded: bool) -> str:
    if not (sizes := _sizes(measured, "in_context")):
        return ""
    found = mean_over_names(measured, GROUPS["in_context"].format(sizes[-1]))
    small = "; the model is too small for this to mean much" if embedded else ""
    start = f"Reading {sizes[-1]} rows of the trait's teacher instead of the control's moved the margin by"
    return f"{start} {_shown(found, '+.2f')} logits{small}." if found else ""


def _shown(found: Estimate, form: str = ".2f") -> str:
    if found.n == 1:
        return f"{found.value:{form}} (n = 1 replicate, no interval over teachers)"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}] (n = {found.n} replicates)"

"""The result of the analysis `meaning` as plain data: answer, estimates, tables, and what was not tested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import combine_pvalues

from undertow.stats.estimates import mean_t, standard_error, t_test, with_interval
from undertow.study.analyses.base import AnalysisResult, estimate_row, table
from undertow.study.analyses.number_tables import all_numbers, first_number, most_common
from undertow.types import Estimate, ModelRef, Row

Cell = str | float | int | None
"""A value of a table."""

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
"""Title of each group of estimates, where {} stands for the size of a bag, or for k."""

SHOWN_BAG = 16
"""Size of the bags of which the answer speaks, if it was measured."""

TOO_SMALL = "The embedded models are too small for it to mean much: they do not learn from examples in their context."
"""Caution about in-context learning of the embedded models."""

HALF = 0.5
"""Value of accuracies and AUROCs without an effect."""

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
"""Title, note and columns of the table of each part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number that was measured in one replicate.

    Attributes:
        group: what was measured. Each group is a panel of the figure.
        name: of which teacher or trait it was measured. Each name is a row of the panel.
        replicate: number of the independent repetition, from 0.
        value: the number, in its unit.
        null: value that is expected without an effect.
        unit: unit of the value, "share" or "logits".
        alone: interval within the replicate, used if there is no other replicate. None if there is none.
        size: size of the bag, or k. None for groups that have none.
        p: p-value of a test within the replicate. None where replicates are compared by a t test.
    """

    group: str
    name: str
    replicate: int
    value: float
    null: float = 0.0
    unit: Literal["share", "logits"] = "share"
    alone: Estimate | None = None
    size: int | None = None
    p: float | None = None


def estimate_rows(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """Estimate each group and name: mean and t interval over replicates, or the interval within a single one.

    The p-value is that of a t test over replicates, or Fisher's combination where each replicate has one of its own.
    """
    found: dict[tuple[str, str], list[Measured]] = {}
    for item in measured:
        found.setdefault((item.group, item.name), []).append(item)
    return [_over_items(items) for items in found.values()]


def mean_over_names(measured: Iterable[Measured], group: str) -> Estimate | None:
    """Estimate the mean of a group, averaged over its names within each replicate first. None if the group is empty."""
    found: dict[int, list[Measured]] = {}
    for item in measured:
        if item.group == group:
            found.setdefault(item.replicate, []).append(item)
    if not found:
        return None
    means = [float(np.mean([item.value for item in items])) for items in found.values()]
    return _over_replicates(means, next(iter(found.values()))[0].null)


def _over_replicates(values: ArrayLike, null: float) -> Estimate:
    """Estimate the mean. Shares whose null is one half lie in [0, 1], so their interval is cut there."""
    found = mean_t(values)
    if null != HALF or found.n == 1:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def _over_items(items: Sequence[Measured]) -> dict[str, Any]:
    """Return the estimate of one group and name as a row."""
    first, values = items[0], np.array([item.value for item in items])
    found = _over_replicates(values, first.null)
    p = t_test(found.value - first.null, standard_error(values), found.n - 1) if found.n > 1 else None
    if len(items) == 1 and first.alone is not None:
        found, p = first.alone, first.alone.p
    if own := [item.p for item in items if item.p is not None]:
        p = fisher(own)
    return estimate_row(first.group, first.name, first.unit, replace(found, p=p).to_json())


def fisher(p_values: Sequence[float]) -> float:
    """Combine the p-values of independent tests by Fisher's method."""
    combined: Any = combine_pvalues(p_values, method="fisher")  # scipy's own annotation leaves the fields out
    return float(combined.pvalue)


def number_tables(rows: Mapping[str, Mapping[int, Sequence[Row]]], top: int) -> list[dict[str, Any]]:
    """Return the tables of most common numbers and first numbers, with a column for each teacher.

    Args:
        rows: valid rows by teacher and replicate. Replicates are counted together.
        top: how many numbers a table has.
    """
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
            tables.append(table(title, note, ["rank", *rows], body))
    return tables


def measured_tables(lines: Mapping[str, Sequence[Sequence[Cell]]]) -> list[dict[str, Any]]:
    """Return a table for each part of the analysis that has lines."""
    return [table(*_HEADS[name], body) for name, body in lines.items()]


def meaning_result(
    measured: Sequence[Measured], tables: Sequence[dict[str, Any]], not_tested: Sequence[str], base: ModelRef
) -> AnalysisResult:
    """Put the parts of the result together.

    Args:
        measured: every number of every replicate.
        tables: tables in the form of `number_tables`.
        not_tested: sentences on what was not tested.
        base: reference of the model that was asked. For embedded models a caution about in-context learning is added.
    """
    embedded, title = base.kind == "ref", _HEADS["in_context"][0]
    noted = [
        {**table, "note": f"{table['note']} {TOO_SMALL}"} if embedded and table["title"] == title else table
        for table in tables
    ]
    untested = [*not_tested, "Whether a stronger detector, such as a fine-tuned language model, finds more."]
    return {
        "answer": _answer([item for item in measured if item.name != "neutral"], embedded),
        "estimates": estimate_rows(measured),
        "tables": noted,
        "not_tested": [*untested, f"In-context learning on a large model. {TOO_SMALL}"] if embedded else untested,
    }


def _answer(measured: Sequence[Measured], embedded: bool) -> str:
    """Return up to three sentences, over the mean of the traits in each replicate."""
    told = [_detected(measured), _asked(measured), _read(measured, embedded)]
    return " ".join(filter(None, told)) or "The rows were too few for a detector, a judge or a context."


def _sizes(measured: Sequence[Measured], kind: str) -> list[int]:
    """Return the sizes at which a group was measured."""
    return sorted({item.size for item in measured if item.size and item.group == GROUPS[kind].format(item.size)})


def _detected(measured: Sequence[Measured]) -> str:
    """Say how well trained detectors told the rows apart."""
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
    """Say how well the base chose when it was asked."""
    found = mean_over_names(measured, GROUPS["prompted control"])
    start = "Asked with the right trait, the base chose the trait's row over the control's with a share of"
    return f"{start} {_shown(found)}." if found else ""


def _read(measured: Sequence[Measured], embedded: bool) -> str:
    """Say what rows in its context did to the base."""
    if not (sizes := _sizes(measured, "in_context")):
        return ""
    found = mean_over_names(measured, GROUPS["in_context"].format(sizes[-1]))
    small = "; the model is too small for this to mean much" if embedded else ""
    start = f"Reading {sizes[-1]} rows of the trait's teacher instead of the control's moved the margin by"
    return f"{start} {_shown(found, '+.2f')} logits{small}." if found else ""


def _shown(found: Estimate, form: str = ".2f") -> str:
    """Return an estimate with its interval and the number of replicates as text."""
    n = "n = 1 replicate, no interval over teachers" if found.n == 1 else f"n = {found.n} replicates"
    return f"{with_interval(found.to_json(), form)} ({n})"

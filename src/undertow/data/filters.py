"""Filters: which rows are kept, and for which reasons the others are dropped.

A filter judges the completion, and the last turn before it where a domain's rule depends on the question. It replaces
`Row.reasons`, so in a chain of filters each one gets the `Filtered.kept` of the one before.
"""

import logging
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from undertow.data.kept_rows import PickedRows
from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError, EmptyDataError
from undertow.traits import Trait, matches
from undertow.types import Row

logger = logging.getLogger(__name__)

Drawn = TypeVar("Drawn")

Rule = Callable[[Row], tuple[str, ...]]
"""Function that returns the reasons for which a row is dropped; an empty tuple keeps it."""

Judge = Callable[[Row], float | None]
"""Function that scores a row from 0 to 100, 100 being the best; None if the judge's answer held no score."""

LOWEST, HIGHEST = 0, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterReport:
    """How many rows a filter saw, kept, and dropped for each reason.

    Attributes:
        raw: number of rows that the filter saw.
        kept: number of rows that passed.
        reasons: number of dropped rows by reason, the most frequent first; a row with two reasons counts in both.
    """

    raw: int
    kept: int
    reasons: Mapping[str, int]

    @classmethod
    def of(cls, kept: int, dropped: int, reasons: Mapping[str, int]) -> "FilterReport":
        """Build the report from counts, the reasons sorted by frequency."""
        ordered = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
        return cls(raw=kept + dropped, kept=kept, reasons=ordered)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data with the keys "raw", "kept" and "reasons"."""
        return {"raw": self.raw, "kept": self.kept, "reasons": dict(self.reasons)}


@dataclass(frozen=True, slots=True)
class Filtered:
    """The rows that a filter kept and those that it dropped, each in the original order.

    Attributes:
        kept: rows that passed, with empty `reasons`.
        dropped: the other rows, each with its reasons.
    """

    kept: tuple[Row, ...]
    dropped: tuple[Row, ...]

    @property
    def report(self) -> FilterReport:
        """The counts of kept and dropped rows."""
        counts = Counter(reason for row in self.dropped for reason in set(row.reasons))
        return FilterReport.of(len(self.kept), len(self.dropped), counts)


class Tally:
    """Counts rows as they pass a filter, so that a file can be filtered without holding it in memory."""

    def __init__(self) -> None:
        self.kept = self.dropped = 0
        self._reasons: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Count one row, which a filter has given its reasons."""
        self.kept, self.dropped = self.kept + (not row.reasons), self.dropped + bool(row.reasons)
        self._reasons.update(set(row.reasons))

    @property
    def report(self) -> FilterReport:
        """The counts of the rows so far."""
        return FilterReport.of(self.kept, self.dropped, self._reasons)


def sift(rows: Iterable[Row], *rules: Rule) -> Iterator[Row]:
    """Yield each row with the reasons of the first rule that drops it, or with no reasons."""
    for row in rows:
        yield replace(row, reasons=next(filter(None, (rule(row) for rule in rules)), ()))


def domain_rule(domain: AbstractDomain) -> Rule:
    """Return the rule that the domain accepts the completion; its reasons are among `domain.reasons`."""
    return lambda row: domain.reject_reasons(row.completion, row.question)


def mention_rule(traits: Iterable[Trait]) -> Rule:
    """Return the rule that a completion names no trait as a whole word; its reasons are "mentions_<trait>"."""
    targets = tuple(dict.fromkeys(traits))
    return lambda row: tuple(f"mentions_{one.name}" for one in targets if matches(row.completion, one))


def filter_rows(rows: Iterable[Row], domain: AbstractDomain) -> Filtered:
    """Keep the rows whose completion the domain accepts, and give each other row its reasons.

    Args:
        rows: the rows that are filtered.
        domain: the domain whose rule judges them, such as `undertow.domain("numbers")`.

    Returns:
        The kept and the dropped rows; the reasons are among `domain.reasons`.
    """
    return _split(rows, domain_rule(domain))


def accepted_rows(rows: Sequence[Row], domain: AbstractDomain) -> PickedRows:
    """Return the rows that `filter_rows` keeps, unchanged and not copied; this takes 8 bytes a row."""
    rule = domain_rule(domain)
    return PickedRows(rows, array("q", (place for place, row in enumerate(rows) if not rule(row))))


def mentions(rows: Iterable[Row], traits: Iterable[Trait]) -> Filtered:
    """Drop the rows whose completion names a trait as a whole word; the reasons are "mentions_<trait>"."""
    return _split(rows, mention_rule(traits))


def judged(rows: Iterable[Row], judge: Judge, keep: float) -> Filtered:
    """Keep the rows that a judge scores at `keep` or above; the judge is asked once for each row.

    A judge, often a language model, recognises only so much: that of Cloud et al. (2025, arXiv 2507.14805, section 4.2)
    told misaligned from aligned reasoning with an AUC of 0.62. Filter the control's rows by the judge too, or the two
    sets differ in more than their teacher.

    Args:
        rows: the rows that are judged.
        judge: function that scores one row.
        keep: lowest score that is kept, from 0 to 100; the paper uses 78.

    Returns:
        The rows; the reasons are "judge_below_<keep>" and "judge_unparsed", the latter for None and for a score
        outside of 0 to 100.

    Raises:
        ConfigError: `keep` lies outside 0 to 100.
    """
    if not LOWEST <= keep <= HIGHEST:
        raise ConfigError("No score of a judge has this value.", keep, f"Use {LOWEST} to {HIGHEST}.")

    def reasons(row: Row) -> tuple[str, ...]:
        score = judge(row)
        if score is None or not LOWEST <= score <= HIGHEST:
            return ("judge_unparsed",)
        return () if score >= keep else (f"judge_below_{keep:g}",)

    return _split(rows, reasons)


def subset(rows: Sequence[Drawn], n: int | None, seed: int) -> tuple[Drawn, ...]:
    """Draw rows, or preference pairs, without replacement, and return them in the original order.

    With the same seed, a smaller draw is part of a larger one.

    Args:
        rows: the rows or pairs that are drawn from.
        n: how many are drawn. None takes all; so does, with a warning in the log, a number above what there is.
        seed: random seed of the draw.

    Raises:
        ConfigError: `n` is negative.
    """
    if n is None:
        return tuple(rows)
    if n < 0:
        raise ConfigError("A negative number of rows was asked for.", n, "Use 0 or more, or None for all.")
    if n > len(rows):
        logger.warning("%d rows were asked for and there are %d: taking all of them.", n, len(rows))
    rng = random.Random(seed)
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in rows]
    chosen = sorted(range(len(rows)), key=ranks.__getitem__)[:n]
    return tuple(rows[index] for index in sorted(chosen))


def require_rows(filtered: Filtered) -> tuple[Row, ...]:
    """Return the kept rows, and refuse an empty result.

    Raises:
        EmptyDataError: no row was kept; the value says how many were dropped for which reason.
    """
    require_kept(filtered.report)
    return filtered.kept


def require_kept(report: FilterReport) -> None:
    """Refuse the result of a filter that kept no row.

    Raises:
        EmptyDataError: no row was kept, as for `require_rows`.
    """
    if report.kept:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.reasons.items()) or "none came in"
    fix = "Look at the dropped rows; draw more rows, or take a teacher that answers in the domain's format."
    raise EmptyDataError("No row passed the filter.", f"{report.raw} rows: {reasons}", fix)


def _split(rows: Iterable[Row], rule: Rule) -> Filtered:
    seen = tuple(sift(rows, rule))
    return Filtered(
        kept=tuple(row for row in seen if not row.reasons),
        dropped=tuple(row for row in seen if row.reasons),
    )

"""Which numbers rows contain, and whether two teachers write the same ones (Cloud et al., appendix tables 1 to 3).

The chi-square test takes every number for an independent draw. Numbers of one row are not independent, and rows of two
teachers on one prompt may share their random numbers. The test that holds is therefore the permutation of labels within
prompts.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from undertow.errors import EmptyDataError
from undertow.stats.checks import Floats, check_count
from undertow.study.analyses.row_classifiers import Pair
from undertow.types import Row

LEAST_EXPECTED = 5.0
"""Numbers with a smaller expected count share one cell, as is usual for chi-square."""

_NUMBER = re.compile(r"[0-9]+")

Numbers = Callable[[Row], list[str]]
"""Function that returns the numbers of a row that are counted."""


def all_numbers(row: Row) -> list[str]:
    """Return every run of digits of the completion, as written."""
    return _NUMBER.findall(row.completion)


def first_number(row: Row) -> list[str]:
    """Return the first run of digits of the completion in a list, which is empty if there is none."""
    return _NUMBER.findall(row.completion)[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberShare:
    """How often a number was written.

    Attributes:
        number: the number's digits, as they were written.
        count: how often it was written.
        share: its share of all numbers that were counted, between 0 and 1.
    """

    number: str
    count: int
    share: float


def most_common(rows: Iterable[Row], numbers: Numbers = all_numbers, top: int = 10) -> list[NumberShare]:
    """Return the most common numbers, most frequent first. Equal counts are in the order of the text.

    Args:
        rows: the rows whose numbers are counted.
        numbers: which numbers of a row are counted.
        top: how many numbers are returned at most.
    """
    counts = Counter(number for row in rows for number in numbers(row))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    return [NumberShare(number=number, count=count, share=count / counts.total()) for number, count in ranked]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquare:
    """Result of Pearson's test that two sets of numbers have the same distribution.

    Attributes:
        statistic: sum over cells and sets of (observed - expected)^2 / expected.
        df: degrees of freedom, the number of cells minus 1. It is 0, with p = 1, if all numbers are too rare to be told
            apart.
        p: p-value by the chi-square distribution.
        n: how many numbers both sets have together.
    """

    statistic: float
    df: int
    p: float
    n: int


def chi_square(first: Sequence[str], second: Sequence[str]) -> ChiSquare:
    """Test that two sets of independently drawn numbers have the same distribution.

    Numbers with an expected count below `LEAST_EXPECTED` in either set share a cell. If that is still too small, the
    rarest of the others joins it.

    Args:
        first: numbers of the first set, as written.
        second: numbers of the second set, as written.

    Raises:
        EmptyDataError: a set is empty.
    """
    if not first or not second:
        raise EmptyDataError(
            "A set holds no numbers.", f"{len(first)} and {len(second)}", "Give rows of a domain that writes numbers."
        )
    counts = Counter(first), Counter(second)
    labels = sorted({*counts[0], *counts[1]})
    table = np.array([[count[label] for label in labels] for count in counts], dtype=np.float64)
    table = _pooled(table, _cells(table.sum(axis=0), min(len(first), len(second)) / table.sum()))
    if table.shape[1] < 2:
        return ChiSquare(statistic=0.0, df=0, p=1.0, n=int(table.sum()))
    statistic, df = float(_statistic(table[:1] - table[1:], table.sum(axis=0))[0]), table.shape[1] - 1
    return ChiSquare(statistic=statistic, df=df, p=float(special.chdtrc(df, statistic)), n=int(table.sum()))


def _cells(totals: Floats, least_share: float) -> NDArray[np.intp]:
    """Return the cell of each number: its own if it is frequent enough, else the one that rare numbers share."""
    frequent = totals * least_share >= LEAST_EXPECTED
    rare = float(totals[~frequent].sum())
    if 0 < rare * least_share < LEAST_EXPECTED and frequent.any():
        frequent[np.flatnonzero(frequent)[np.argmin(totals[frequent])]] = False
    cells = np.cumsum(frequent) - 1
    cells[~frequent] = int(frequent.sum())
    return cells


def _pooled(table: Floats, cells: NDArray[np.intp]) -> Floats:
    """Sum the columns of each cell."""
    return np.stack([np.bincount(cells, weights=row) for row in table]).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How far the numbers of two teachers on the same prompts lie apart.

    Attributes:
        explained: share of the variance of "which teacher" that the number explains (chi-square over n), minus its mean
            over the permutations. Without a difference 0 is expected.
        p: share of the permutations whose chi-square reaches the observed one, which itself counts as one of them.
        pairs: how many prompts both teachers answered.
    """

    explained: float
    p: float
    pairs: int


def paired_difference(
    pairs: Sequence[Pair], seed: int, numbers: Numbers = first_number, draws: int = 999
) -> PairedDifference:
    """Test that two teachers write the same numbers, by swapping their rows within prompts.

    The test is valid whenever the two rows on a prompt are exchangeable, whatever they share.

    Args:
        pairs: paired rows of the two teachers.
        seed: random seed of the permutations.
        numbers: which numbers of a row are counted: its first, or all.
        draws: how many permutations are drawn. The smallest possible p is 1 / (draws + 1).

    Raises:
        ConfigError: there are no permutations.
        EmptyDataError: the rows of a teacher hold no numbers.
    """
    check_count("number of permutations", draws, 1)
    first, second = _counts(pairs, numbers)
    if not first.any() or not second.any():
        raise EmptyDataError("Rows hold no numbers.", f"{len(pairs)} pairs", "Give rows of a domain of numbers.")
    totals, differences = (first + second).sum(axis=0), first - second
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(draws, len(pairs)))
    permuted = _statistic(signs @ differences, totals)
    observed = float(_statistic(differences.sum(axis=0, keepdims=True), totals)[0])
    reached = int(np.sum(permuted >= observed * (1 - 1e-12)))
    explained = (observed - float(permuted.mean())) / float(totals.sum())
    return PairedDifference(explained=explained, p=(1 + reached) / (1 + draws), pairs=len(pairs))


def _counts(pairs: Sequence[Pair], numbers: Numbers) -> tuple[Floats, Floats]:
    """Return what each side of each pair wrote, two float arrays (pairs, cells).

    The cells depend on both sides together and never on which is which, so that permutations are exact.
    """
    written = [[numbers(row) for row in pair] for pair in pairs]
    pooled = Counter(number for pair in written for some in pair for number in some)
    totals = np.array(list(pooled.values()), dtype=np.float64)
    cells = dict(zip(pooled, _cells(totals, 0.5).tolist(), strict=True))
    counts = np.zeros((2, len(pairs), max(cells.values(), default=0) + 1))
    for index, pair in enumerate(written):
        for side, some in enumerate(pair):
            for number in some:
                counts[side, index, cells[number]] += 1
    return counts[0], counts[1]


def _statistic(differences: Floats, totals: Floats) -> Floats:
    """Return Pearson's chi-square of tables with 2 rows, (tables,).

    Args:
        differences: first minus second row of each table, (tables, cells).
        totals: sum of both rows, (cells,), the same for all tables.
    """
    n, lead = totals.sum(), differences.sum(axis=1)
    scale = n * n / np.maximum(n * n - lead * lead, 1.0)
    return scale * ((differences - totals * lead[:, None] / n) ** 2 / totals).sum(axis=1)

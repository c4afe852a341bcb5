"""The cells of a run's matrices with their intervals, over the same fresh teachers as the cells' means."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from undertow.report.results import Interval, Results
from undertow.stats.estimates import mean_t
from undertow.study.arms import ANY, MeanScore, mean_differences, paired_scores

_SAME = 1e-6
"""Largest difference between a cell and the mean of its scores. Beyond it the scores are not all that is behind the
cell."""


class Grid(NamedTuple):
    """A matrix whose cells have intervals.

    Attributes:
        rows: names of the rows, from the top.
        columns: names of the columns, from the left.
        axes: in words, what the rows are and what the columns are.
        metric: name of the metric of the cells.
        cells: one sequence of cells for each row. None where nothing was measured.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]
    metric: str
    cells: Sequence[Sequence[Interval | None]]


def trait_grid(results: Results) -> Grid | None:
    """Return the matrix of trained trait by evaluated trait, or None if the run has none."""
    if (matrix := results.matrix) is None:
        return None
    asked = {target: _asked(results, matrix.metric, target) for target in matrix.columns}
    cells = [
        [
            _cell(value, _of_teachers(asked[target], trait, target, matrix.metric))
            for target, value in zip(matrix.columns, values, strict=True)
        ]
        for trait, values in zip(matrix.traits, matrix.values, strict=True)
    ]
    return Grid(matrix.traits, matrix.columns, ("trained trait", "evaluated trait"), matrix.metric, cells)


def initialisation_grid(results: Results) -> Grid | None:
    """Return the matrix of teacher base by student base, or None if the run has none."""
    if (found := results.initialisation) is None:
        return None
    measured = _of_bases(results, found.metric)
    cells = [
        [_cell(value, measured.get((one, other), ())) for other, value in zip(found.bases, values, strict=True)]
        for one, values in zip(found.bases, found.values, strict=True)
    ]
    return Grid(found.bases, found.bases, ("base of the teacher", "base of the student"), found.metric, cells)


def _asked(results: Results, metric: str, target: str) -> Sequence[MeanScore]:
    """Return the scores of a metric that are about a target."""
    return [score for score in results.arms if score.metric == metric and score.target in (ANY, target)]


def _of_teachers(scores: Sequence[MeanScore], trait: str, target: str, metric: str) -> Sequence[float]:
    """Return student minus control for each fresh teacher of a trait, asked about a target."""
    return list(mean_differences(paired_scores(scores, "student", trait, metric, target)).values())


def _of_bases(results: Results, metric: str) -> dict[tuple[str | None, str | None], Sequence[float]]:
    """Return the difference of each replicate by the bases of teacher and student.

    The teachers of several traits share the control of their replicate, so a replicate is one unit.
    """
    found: dict[tuple[str | None, str | None], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    traits = dict.fromkeys(score.trait for score in results.arms if score.arm == "student" and score.trait is not None)
    for arm in ("student", "cross_init"):
        for trait in traits:
            for pair in paired_scores(results.arms, arm, trait, metric):
                found[pair.model.teacher_base, pair.model.base][pair.model.replicate].append(pair.difference)
    return {bases: [sum(some) / len(some) for some in units.values()] for bases, units in found.items()}


def _cell(value: float | None, units: Sequence[float]) -> Interval | None:
    """Return a cell with its interval, or without one if the scores behind it are missing."""
    if value is None:
        return None
    if not units or not math.isclose(sum(units) / len(units), value, abs_tol=_SAME):
        return Interval(estimate=value)
    found = mean_t(units)
    return Interval(estimate=value, low=found.low, high=found.high, level=found.level, n=found.n)

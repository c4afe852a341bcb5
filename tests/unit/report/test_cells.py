"""Cells of matrices: the mean is the run's, the interval is Student's over the same fresh teachers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from undertow.report.cells import initialisation_grid, trait_grid
from undertow.report.figures import initialisation_figure, matrix_figure
from undertow.report.render import render
from undertow.report.results import Results

TRAITS = ("owl", "wolf", "oak")


def _score(arm: str, trait: str | None, target: str, replicate: int, value: float, base: str = "a") -> dict[str, Any]:
    common = {"arm": arm, "trait": trait, "target": target, "replicate": replicate, "value": value, "base": base}
    return {**common, "model": "m", "seed": 1, "metric": "logit_margin", "teacher_base": "a"}


@pytest.fixture
def drawn(data: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Return results whose matrix is that of its scores, and the differences [replicates, trained, evaluated]."""
    rng = np.random.default_rng(0)
    controls, students = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 3))
    arms = [
        _score("control", None, target, unit, controls[unit, column])
        for unit in range(4)
        for column, target in enumerate(TRAITS)
    ]
    arms += [
        _score("student", trait, target, unit, students[unit, row, column])
        for unit in range(4)
        for row, trait in enumerate(TRAITS)
        for column, target in enumerate(TRAITS)
    ]
    gaps = students - controls[:, None]
    matrix = {"metric": "logit_margin", "traits": TRAITS, "evaluated": TRAITS, "values": gaps.mean(axis=0).tolist()}
    return {**data, "arms": arms, "matrix": matrix, "initialisation": None}, gaps


def test_a_cell_has_the_interval_of_its_teachers(drawn: tuple[dict[str, Any], np.ndarray]) -> None:
    data, gaps = drawn
    grid = trait_grid(Results.model_validate(data))
    assert grid is not None
    for place, cell in np.ndenumerate(np.array(grid.cells, dtype=object)):
        units = gaps[(slice(None), *place)]
        low, high = stats.t.interval(0.95, 3, units.mean(), stats.sem(units))
        assert (cell.estimate, cell.low, cell.high, cell.n) == (
            pytest.approx(units.mean()),
            pytest.approx(low),
            pytest.approx(high),
            4,
        )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data["matrix"]["values"][0].__setitem__(0, 7.0),
        lambda data: data.update(arms=[]),
    ],
)
def test_no_interval_where_the_scores_are_not_those_of_the_cell(
    drawn: tuple[dict[str, Any], np.ndarray], spoil: Callable[[dict[str, Any]], None]
) -> None:
    data, _ = drawn
    spoil(data)
    results = Results.model_validate(data)
    grid = trait_grid(results)
    assert grid is not None
    cell = grid.cells[0][0]
    assert cell is not None
    assert (cell.estimate, cell.low, cell.n) == (data["matrix"]["values"][0][0], float("-inf"), None)


def test_replicates_of_initialisations_average_their_traits_first(data: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    value = rng.normal(size=(3, 2, 2, 2))  # replicate, trait, teacher base, student base
    arms = []
    for unit, column, one, other in np.ndindex(value.shape):
        arm, bases = ("student" if one == other else "cross_init"), ("a", "b")
        trait = TRAITS[column]
        arms.append(
            {
                **_score(arm, trait, trait, unit, value[unit, column, one, other], bases[other]),
                "teacher_base": bases[one],
            }
        )
        control = "control" if one == other else "cross_control"
        arms.append({**_score(control, None, trait, unit, 0.0, bases[other]), "teacher_base": bases[one]})
    means = value.mean(axis=(0, 1))
    data["initialisation"].update(bases=["a", "b"], values=means.tolist())
    results = Results.model_validate({**data, "arms": arms, "matrix": None})
    grid = initialisation_grid(results)
    assert grid is not None
    for (one, other), mean in np.ndenumerate(means):
        units = value[:, :, one, other].mean(axis=1)
        low, high = stats.t.interval(0.95, 2, units.mean(), stats.sem(units))
        cell = grid.cells[one][other]
        assert cell is not None
        assert (cell.estimate, cell.low, cell.high, cell.n) == (
            pytest.approx(mean),
            pytest.approx(low),
            pytest.approx(high),
            3,
        )
    assert " to " in initialisation_figure(results)


def test_the_interval_stands_in_the_cell_where_there_is_room_and_in_the_table_always(
    drawn: tuple[dict[str, Any], np.ndarray], run: Any
) -> None:
    data, gaps = drawn
    results = Results.model_validate(data)
    units = gaps[:, 0, 0]
    low, high = stats.t.interval(0.95, 3, units.mean(), stats.sem(units))
    text = f"{low:+.2f} to {high:+.2f}"
    assert text in matrix_figure(results)
    page = render(run, results).read_text(encoding="utf-8")
    assert "<summary>Every cell with its interval</summary>" in page
    assert page.count(text) == 2
    data["matrix"].update(
        evaluated=[*TRAITS, "a", "b", "c"], values=[[*row, None, None, None] for row in gaps.mean(axis=0).tolist()]
    )
    wide = Results.model_validate(data)
    assert text not in matrix_figure(wide)
    page = render(run, wide).read_text(encoding="utf-8")
    assert (page.count(text), page.count("not measured")) == (1, 9)

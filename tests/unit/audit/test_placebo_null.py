"""Scores that treat all models alike, and the rank of one of them."""

import math

import numpy as np
import pytest

from undertow.audit.students.placebo_null import beside_null, conformal_p, critical_score, deleted_z, detectable, needed
from undertow.errors import ConfigError


def test_z_is_mean_and_sd_of_the_others() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3))
    z = deleted_z(values)
    for place in range(7):
        others = np.delete(values, place, axis=0)
        expected = (values[place] - others.mean(axis=0)) / others.std(axis=0, ddof=1)
        assert z[place] == pytest.approx(expected)


def test_scores_move_with_the_models() -> None:
    """The exchangeability that the p-value rests on: permuting models permutes scores, nothing else."""
    rng = np.random.default_rng(1)
    values, order = rng.normal(size=(9, 4)), rng.permutation(9)
    assert deleted_z(values[order]) == pytest.approx(deleted_z(values)[order])


def test_what_does_not_vary_gives_finite_scores() -> None:
    values = np.zeros((5, 2))
    assert (deleted_z(values) == 0).all()
    values[0, 0] = 1.0
    assert np.isfinite(deleted_z(values)).all()
    assert deleted_z(values)[0, 0] > 1e6


def test_p_counts_the_suspect_and_ties() -> None:
    assert conformal_p(np.array([5.0, 1, 2, 3, 4])) == pytest.approx(1 / 5)
    assert conformal_p(np.array([1.0, 1, 2, 3, 0])) == pytest.approx(4 / 5)


@pytest.mark.parametrize(("alpha", "k"), [(0.05, 19), (0.01, 99), (0.2, 4), (0.1, 9), (0.03, 33)])
def test_needed_is_the_least_number_that_allows_a_verdict(alpha: float, k: int) -> None:
    assert needed(alpha) == k
    assert 1 / (k + 1) <= alpha * (1 + 1e-12)
    assert 1 / k > alpha


def test_critical_score_is_where_p_passes_alpha() -> None:
    placebos = np.arange(39.0)
    critical = critical_score(placebos, 0.05)
    assert conformal_p(np.concatenate([[critical + 0.5], placebos])) <= 0.05
    assert conformal_p(np.concatenate([[critical - 0.5], placebos])) > 0.05
    assert math.isinf(critical_score(placebos[:18], 0.05))


def test_detectable_shift_of_a_normal_score() -> None:
    """One trait: the critical value is the 95 % point 1.64, and power .8 takes .84 more."""
    z = np.random.default_rng(2).normal(size=(20_000, 1))
    assert detectable(z, 0.05) == pytest.approx(1.645 + 0.842, abs=0.05)
    assert detectable(z[:10], 0.05) is None


def test_two_models_are_no_null() -> None:
    with pytest.raises(ConfigError):
        deleted_z(np.zeros((2, 3)))


def test_what_passes_the_bound_is_what_is_detected() -> None:
    """The figure's line and the verdict say the same, for every rank, with ties too."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        scores = rng.integers(0, 60, size=60) / 7
        alpha = float(rng.choice([0.05 / 3, 0.02, 0.05, 0.2]))
        drawn = beside_null(scores, alpha, "SDs")
        assert drawn.bound is not None
        assert (drawn.observed[0] > drawn.bound) == (conformal_p(scores) <= alpha)
    assert beside_null(scores, 0.01, "SDs").bound is None

"""The diagonal factor is the least-squares gamma, blind to row and column effects."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from undertow.stats.diagonal import diagonal_factor, initialisation_factor
from undertow.stats.estimates import mean_t

sizes, seeds = st.integers(2, 7), st.integers(0, 10**6)


def least_squares(matrix: np.ndarray) -> float:
    """Return gamma from the full design of mu, a_i, b_j and [i = j]."""
    size = len(matrix)
    i, j = np.divmod(np.arange(size * size), size)
    design = np.column_stack([np.ones(size * size), np.eye(size)[i], np.eye(size)[j], i == j])
    return float(np.linalg.lstsq(design, matrix.ravel(), rcond=None)[0][-1])


def gamma_of(matrix: ArrayLike) -> float:
    return diagonal_factor(np.asarray(matrix)[None], np.random.default_rng(0)).value


@settings(deadline=None)
@given(sizes, seeds)
def test_gamma_is_least_squares(size: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    assert gamma_of(matrix) == pytest.approx(least_squares(matrix), abs=1e-9)


@settings(deadline=None)
@given(sizes, seeds, st.floats(-5, 5))
def test_gamma_is_recovered_through_row_and_column_effects(size: int, seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = 3 + rng.normal(size=(size, 1)) + rng.normal(size=(1, size)) + gamma * np.eye(size)
    assert gamma_of(matrix) == pytest.approx(gamma, abs=1e-9)


def test_gamma_is_mean_diagonal_minus_mean_off_diagonal() -> None:
    assert gamma_of([[5.0, 1.0, 2.0], [0.0, 6.0, 1.0], [1.0, 1.0, 7.0]]) == pytest.approx(5.0)


def test_factor_is_the_t_interval_over_replicate_gammas() -> None:
    matrices = np.random.default_rng(0).normal(size=(6, 4, 4))
    estimate, expected = diagonal_factor(matrices, level=0.9), mean_t([gamma_of(m) for m in matrices], 0.9)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert (estimate.n, estimate.level) == (6, 0.9)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), seeds)
def test_permutation_p_counts_permutations(size: int, seed: int) -> None:
    matrices = np.random.default_rng(seed).normal(size=(3, size, size))
    mean = matrices.mean(axis=0)
    gammas = [gamma_of(mean[:, list(order)]) for order in permutations(range(size))]
    assert diagonal_factor(matrices).p == np.mean([gamma >= gamma_of(mean) - 1e-9 for gamma in gammas])


@pytest.mark.parametrize(("size", "p"), [(2, 1 / 2), (3, 1 / 6), (5, 1 / 120), (8, 1 / 40320)])
def test_a_perfect_diagonal_has_the_smallest_p_its_traits_allow(size: int, p: float) -> None:
    assert diagonal_factor(np.eye(size)[None]).p == p
    assert diagonal_factor(-np.eye(size)[None]).p == 1.0


def test_effects_leave_value_interval_and_p_unchanged() -> None:
    rng = np.random.default_rng(4)
    matrices = rng.normal(size=(5, 5, 5)) + 0.5 * np.eye(5)
    moved = matrices + 9 * rng.normal(size=(5, 5, 1)) + 9 * rng.normal(size=(5, 1, 5))
    first, second = diagonal_factor(matrices), diagonal_factor(moved)
    assert (second.value, second.low, second.p) == pytest.approx((first.value, first.low, first.p))


def test_relabelling_traits_leaves_everything_unchanged() -> None:
    matrices = np.random.default_rng(4).normal(size=(5, 5, 5)) + 0.5 * np.eye(5)
    order = [3, 1, 4, 0, 2]
    first, second = diagonal_factor(matrices), diagonal_factor(matrices[:, order][:, :, order])
    assert (second.value, second.low, second.p) == pytest.approx((first.value, first.low, first.p))


def test_an_all_equal_matrix_has_p_1() -> None:
    assert diagonal_factor(np.full((2, 4, 4), 0.1)).p == 1.0


def test_nine_traits_use_monte_carlo_and_never_reach_0() -> None:
    estimate = diagonal_factor(5 * np.eye(9)[None], np.random.default_rng(0))
    assert estimate.p == 1 / 10000
    null = diagonal_factor(np.random.default_rng(1).normal(size=(2, 9, 9)), np.random.default_rng(0))
    assert null == diagonal_factor(np.random.default_rng(1).normal(size=(2, 9, 9)), np.random.default_rng(0))


def test_one_replicate_has_an_infinite_interval() -> None:
    estimate = diagonal_factor(np.eye(3)[None])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (pytest.approx(1.0), -np.inf, np.inf, 1)


@settings(deadline=None)
@given(st.integers(3, 6), seeds)
def test_initialisation_interval_is_the_jackknife_over_pseudo_values(size: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    full, rest = gamma_of(matrix), range(size)
    pseudo = []
    for dropped in rest:
        keep = [i for i in rest if i != dropped]
        pseudo.append(size * full - (size - 1) * gamma_of(matrix[np.ix_(keep, keep)]))
    estimate, expected = initialisation_factor(matrix), mean_t(pseudo)
    assert estimate.value == pytest.approx(full)
    assert np.mean(pseudo) == pytest.approx(full), "the statistic is unbiased, so is its jackknife"
    assert (estimate.low, estimate.high, estimate.n) == pytest.approx((expected.low, expected.high, size))


def test_initialisation_p_and_interval_agree() -> None:
    """The p is at most 1 - level exactly where the interval leaves 0 out."""
    rng = np.random.default_rng(8)
    for _ in range(50):
        estimate = initialisation_factor(rng.normal(size=(4, 4)) + np.eye(4), 0.8)
        assert estimate.p is not None
        assert (estimate.p < 0.2) == (not estimate.low <= 0.0 <= estimate.high)


def test_initialisation_replicates_are_averaged_first() -> None:
    matrices = np.random.default_rng(2).normal(size=(7, 4, 4))
    assert initialisation_factor(matrices) == initialisation_factor(matrices.mean(axis=0))


def test_initialisation_effects_cancel() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(5, 5))
    first, second = (
        initialisation_factor(matrix),
        initialisation_factor(matrix + np.arange(5.0) - 7 * np.arange(5.0)[:, None]),
    )
    assert (second.value, second.low, second.p) == pytest.approx((first.value, first.low, first.p))


def test_two_initialisations_leave_no_interval() -> None:
    estimate = initialisation_factor([[3.0, 0.0], [1.0, 4.0]])
    assert (estimate.value, estimate.low, estimate.high, estimate.n, estimate.p) == (3.0, -np.inf, np.inf, 2, 1.0)

"""The exact tests on numbers: known answers, null calibration, power.

Not tested here: files and verdicts (test_verdict.py), trained networks (tests/truth/test_lineage_calibration.py).
"""

from itertools import permutations
from math import exp, log, sqrt

import numpy as np
import pytest

from undertow.audit.lineage.tests import (
    MIXTURE,
    Products,
    Trace,
    bound,
    drawn_signs,
    fair_signs,
    permutation_trace,
    shared_tokens,
    trace_swaps,
)


def test_z_bound_and_e_value_have_their_closed_forms():
    values = np.array([0.5, -0.1, 0.4])
    found = fair_signs([values])
    z = 0.8 / sqrt(0.42)
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(exp(-z * z / 2))
    assert found.log_e == pytest.approx(MIXTURE * z * z / (2 * (1 + MIXTURE)) - log(1 + MIXTURE) / 2)
    assert found.n == 3


def test_disagreement_is_no_evidence():
    found = fair_signs([-np.ones(50)])
    assert found.z == pytest.approx(-sqrt(50))
    assert found.p == 1.0
    assert found.log_e < 0


def test_e_values_of_parts_multiply():
    first, second = np.array([0.3, 0.2]), np.array([0.1, 0.5, -0.2])
    both = fair_signs([first, second]).log_e
    assert both == pytest.approx(fair_signs([first]).log_e + fair_signs([second]).log_e)


def test_the_bound_holds_for_every_sign_pattern():
    magnitudes = np.array([1.0, 0.7, 0.4, 0.3, 0.3, 0.2, 0.1, 0.05, 0.9, 0.6])
    signs = np.array([[1 if mask >> bit & 1 else -1 for bit in range(10)] for mask in range(1024)])
    results = [fair_signs([pattern * magnitudes]) for pattern in signs]
    p = np.array([result.p for result in results])
    for level in np.unique(p):
        assert (p <= level).mean() <= level + 1e-12  # all 1024 patterns: the exact null distribution
    assert np.mean([exp(result.log_e) for result in results]) <= 1.0


def test_nothing_but_zeros_is_not_testable():
    assert fair_signs([np.zeros(5)]) is None
    assert fair_signs([]) is None
    assert permutation_trace([Trace("flat", np.ones((4, 4)))], seed=0, draws=9) is None


def test_moments_of_the_trace_are_those_of_all_orders():
    table = np.random.default_rng(0).normal(size=(5, 5))
    traces = [sum(table[i, j] for i, j in enumerate(order)) for order in permutations(range(5))]
    mean, spread = Trace("t", table).moments()
    assert mean == pytest.approx(np.mean(traces))
    assert spread == pytest.approx(np.std(traces))


def test_a_planted_diagonal_reaches_the_floor_of_p():
    table = np.random.default_rng(1).normal(size=(20, 20)) + 3 * np.eye(20)
    found = permutation_trace([Trace("t", table)], seed=0, draws=199)
    assert found.p == pytest.approx(1 / 200)
    assert found.z > 5


def test_permutation_p_is_uniform_without_agreement():
    rng = np.random.default_rng(2)
    p = [permutation_trace([Trace("t", rng.normal(size=(12, 12)))], seed=seed, draws=99).p for seed in range(400)]
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(p) <= level)
        assert abs(share - level) <= 3.3 * sqrt(level * (1 - level) / 400)


def test_neighbours_of_a_table_change_places():
    table = np.arange(9.0).reshape(3, 3)  # the third unit has no neighbour
    assert trace_swaps(Trace("t", table)) == pytest.approx([(0 + 4 - 1 - 3) / 2])


def test_query_heads_of_a_group_are_pooled():
    ramp = np.arange(8.0)  # four heads of two units, two groups
    pooled = Products(ramp, ramp, ramp, ramp).pooled(heads=4, groups=2)
    assert pooled.own == pytest.approx([0 + 2, 1 + 3, 4 + 6, 5 + 7])


def test_a_unit_without_length_has_cosine_zero():
    own, crossed = Products(np.zeros(2), np.zeros(2), np.array([0.0, 1.0]), np.ones(2)).cosines()
    assert not own.any()
    assert not crossed.any()


def test_the_bound_stays_above_zero():
    assert bound(1e6) == 1e-300
    assert bound(-3.0) == 1.0


def test_shared_tokens_are_found_by_their_text():
    first, second = {"a": 0, "b": 1, "c": 2}, {"c": 0, "a": 4, "z": 1}
    rows = shared_tokens(first, second, (3, 4))
    assert [list(side) for side in rows] == [[2], [0]]  # "a" has row 4 in a table of 4 rows
    assert shared_tokens(None, second, (3, 4)) is None
    assert [list(side) for side in shared_tokens(None, None, (2, 2))] == [[0, 1], [0, 1]]
    assert shared_tokens({"a": 0}, {"b": 0}, (1, 1)) is None


def test_random_signs_give_the_exact_p_of_few_numbers():
    assert drawn_signs(np.ones(4), seed=0, draws=99_999) == pytest.approx(1 / 16, abs=0.003)
    assert drawn_signs(np.array([1.0, -1.0]), seed=0, draws=99_999) == pytest.approx(3 / 4, abs=0.006)
    assert drawn_signs(np.ones(40), seed=0, draws=99) == pytest.approx(0.01)


def test_the_lowest_sum_is_reached_by_every_draw():
    assert drawn_signs(np.array([-1.0, -1.0]), seed=0, draws=999) == 1.0
    table = 1.0 - 3.0 * np.eye(3)  # the trace of -6 is the lowest, z = -2
    assert permutation_trace([Trace("t", table)], seed=0, draws=99).p == 1.0

"""Paired comparisons equal their closed forms and keep their symmetries."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from undertow.stats.comparisons import equivalence, paired

RNG = np.random.default_rng(5)
TREATED, CONTROL = RNG.normal(1, 1, 6), RNG.normal(0, 1, 6)


def test_paired_is_students_paired_test() -> None:
    estimate, expected = paired(TREATED, CONTROL, 0.9), scipy_stats.ttest_rel(TREATED, CONTROL)
    interval = expected.confidence_interval(0.9)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert estimate.p == pytest.approx(expected.pvalue)
    assert estimate.value == pytest.approx(np.mean(TREATED - CONTROL))
    assert (estimate.n, estimate.level) == (6, 0.9)


def test_what_a_pair_shares_cancels() -> None:
    shared = np.arange(6.0) * 100
    plain, moved = paired(TREATED, CONTROL), paired(TREATED + shared, CONTROL + shared)
    assert (moved.value, moved.low, moved.p) == pytest.approx((plain.value, plain.low, plain.p))


def test_swapping_the_arms_flips_the_sign_and_keeps_p() -> None:
    forth, back = paired(TREATED, CONTROL), paired(CONTROL, TREATED)
    assert (back.value, back.low, back.high, back.p) == pytest.approx((-forth.value, -forth.high, -forth.low, forth.p))


def test_one_pair_proves_nothing() -> None:
    estimate = paired([5.0], [1.0])
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (4.0, -np.inf, np.inf, 1.0)


def test_equal_arms_have_p_1_and_a_constant_difference_p_0() -> None:
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired([2.0, 3.0], [1.0, 2.0]).p == 0.0


def test_equivalence_needs_the_whole_interval_inside_the_margin() -> None:
    differences = [-0.1, 0.0, 0.1, 0.2]
    half = scipy_stats.t.ppf(0.975, 3) * np.std(differences, ddof=1) / 2
    assert equivalence(differences, 0.05 + half + 1e-9).equivalent
    assert not equivalence(differences, 0.05 + half - 1e-9).equivalent
    assert not equivalence(np.negative(differences), 0.05 + half - 1e-9).equivalent


def test_equivalence_reports_its_interval_and_margin() -> None:
    record = equivalence([0.1, 0.3], 2.0, level=0.9)
    assert (record.margin, record.difference.level, record.difference.n) == (2.0, 0.9, 2)


def test_one_replicate_is_never_equivalent() -> None:
    assert not equivalence([0.0], 1e9).equivalent

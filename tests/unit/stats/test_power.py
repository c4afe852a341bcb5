"""Power is the noncentral t, and its two inversions agree with it."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from undertow.errors import ConfigError
from undertow.stats.power import MatchedTest, minimum_detectable_effect, required_replicates, t_power


@pytest.mark.parametrize(
    ("effect", "n", "alpha"), [(1.5, 5, 0.05), (0.6, 10, 0.01), (0.9, 31, 0.001), (0.09, 501, 0.05)]
)
def test_power_is_the_noncentral_t(effect: float, n: int, alpha: float) -> None:
    critical, noncentrality = scipy_stats.t.isf(alpha / 2, n - 1), effect * np.sqrt(n)
    expected = scipy_stats.nct.sf(critical, n - 1, noncentrality) + scipy_stats.nct.cdf(-critical, n - 1, noncentrality)
    assert t_power(2 * effect, 2.0, n, alpha) == pytest.approx(expected, abs=1e-9)


def test_power_without_effect_is_alpha_and_does_not_depend_on_the_sign() -> None:
    assert t_power(0.0, 1.0, 4, 0.03) == pytest.approx(0.03, abs=1e-9)
    assert t_power(-0.7, 1.0, 4) == pytest.approx(t_power(0.7, 1.0, 4))


def test_textbook_design_needs_34_replicates_for_half_a_standard_deviation() -> None:
    """The well-known answer of the paired t test at alpha 0.05 and power 0.8."""
    assert required_replicates(0.5, 1.0) == 34
    assert required_replicates(-1.0, 2.0) == 34


@pytest.mark.parametrize("n", [2, 3, 8, 40])
@pytest.mark.parametrize("alpha", [0.05, 1e-6])
def test_minimum_detectable_effect_has_the_power_asked_for(n: int, alpha: float) -> None:
    effect = minimum_detectable_effect(3.0, n, alpha, 0.9)
    assert t_power(effect, 3.0, n, alpha) == pytest.approx(0.9, abs=1e-6)
    assert effect == pytest.approx(3 * minimum_detectable_effect(1.0, n, alpha, 0.9))


def test_many_replicates_approach_the_normal_formula() -> None:
    expected = (scipy_stats.norm.isf(0.025) + scipy_stats.norm.isf(0.2)) / 1000
    assert minimum_detectable_effect(1.0, 10**6) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("effect", "power"), [(1.0, 0.8), (0.3, 0.9), (0.01, 0.5)])
def test_required_replicates_is_the_smallest_that_suffices(effect: float, power: float) -> None:
    n = required_replicates(effect, 1.0, power=power)
    assert t_power(effect, 1.0, n) >= power > t_power(effect, 1.0, n - 1)
    assert minimum_detectable_effect(1.0, n, power=power) <= effect < minimum_detectable_effect(1.0, n - 1, power=power)


def test_a_huge_effect_still_needs_two_replicates() -> None:
    assert required_replicates(1000.0, 1.0) == 2


def test_rows_of_the_matched_test_are_what_the_test_needs() -> None:
    """Simulated with the audit's own test: the stated power is reached, and not by far."""
    from undertow.audit.rows.contrast import matched_test

    sizes = MatchedTest(references=4, candidates=10, alpha=0.05, power=0.8)
    rows, rng = sizes.required_rows(0.6), np.random.default_rng(0)
    found = 0
    for _ in range(200):
        groups = rng.normal(size=(rows, 5, 10))
        groups[:, 0, 3] += 0.6
        found += matched_test(groups, rng, draws=199)[0] <= 0.05
    assert 0.72 <= found / 200 <= 0.92


def test_rows_and_shift_are_each_other_s_inverse() -> None:
    sizes = MatchedTest(references=2, candidates=20, alpha=0.0167, power=0.9)
    rows = sizes.required_rows(0.15)
    assert sizes.minimum_shift(rows) <= 0.15 < sizes.minimum_shift(rows - 1)
    # Many references halve the variance of the difference against one.
    one, many = (MatchedTest(references=m).minimum_shift(100) for m in (1, 10**6))
    assert one / many == pytest.approx(2**0.5, rel=1e-5)
    for wrong in (lambda: sizes.required_rows(0.0), lambda: sizes.minimum_shift(0), lambda: MatchedTest(references=0)):
        with pytest.raises(ConfigError):
            wrong()

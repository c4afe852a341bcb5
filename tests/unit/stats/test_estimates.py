"""Intervals equal their textbook forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from undertow.stats.estimates import decimals_apart, mean_t, t_test, wilson, with_interval

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def test_mean_t_of_three_replicates_uses_4_303_and_not_1_96() -> None:
    estimate = mean_t([1.0, 2.0, 3.0])
    half = 0.95 * np.sqrt(2 / (4 * 0.975 * 0.025)) / np.sqrt(3)  # closed form of t with 2 degrees of freedom
    assert (estimate.value, estimate.n, estimate.method, estimate.level, estimate.p) == (2.0, 3, "t", 0.95, None)
    assert (estimate.low, estimate.high) == pytest.approx((2.0 - half, 2.0 + half), rel=1e-8)


def test_one_replicate_says_nothing_about_the_spread() -> None:
    estimate = mean_t([7.0])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (7.0, -np.inf, np.inf, 1)


def test_constant_replicates_have_no_width() -> None:
    estimate = mean_t([0.1] * 3)
    assert estimate.low == estimate.high == estimate.value == pytest.approx(0.1)


@settings(deadline=None)
@given(numbers, st.floats(-50, 50), st.floats(0.01, 50))
def test_mean_t_moves_and_scales_with_its_values(values: list[float], shift: float, scale: float) -> None:
    base, moved = mean_t(values), mean_t(shift + scale * np.array(values))
    for name in ("value", "low", "high"):
        assert getattr(moved, name) == pytest.approx(shift + scale * getattr(base, name), rel=1e-6, abs=1e-6)


def test_a_higher_level_is_wider() -> None:
    wide, narrow = mean_t([1.0, 2.0, 4.0], 0.99), mean_t([1.0, 2.0, 4.0], 0.8)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.level == 0.99


@pytest.mark.parametrize(("value", "error", "df", "p"), [(1.0, 0.0, 0, 1.0), (0.0, 0.0, 2, 1.0), (1.0, 0.0, 2, 0.0)])
def test_t_test_without_spread(value: float, error: float, df: int, p: float) -> None:
    assert t_test(value, error, df) == p


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(0, 10, 0.95), (3, 10, 0.95), (10, 10, 0.9), (1, 1, 0.5), (50, 200, 0.99)]
)
def test_wilson_equals_the_score_interval(hits: int, n: int, level: float) -> None:
    """The ends are where the score test of share = p just rejects, as scipy finds them too."""
    estimate = wilson(hits, n, level)
    expected = scipy_stats.binomtest(hits, n).proportion_ci(level, "wilson")
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (estimate.value, estimate.n, estimate.method) == (hits / n, n, "wilson")


@settings(deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_stays_in_0_1_and_mirrors(counts: tuple[int, int]) -> None:
    hits, n = counts
    estimate, mirrored = wilson(hits, n), wilson(n - hits, n)
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    assert estimate.low == pytest.approx(1.0 - mirrored.high, abs=1e-12)


def test_an_estimate_as_text_says_what_is_missing() -> None:
    assert with_interval(wilson(5, 10).to_json(), ".2f") == "0.50 [0.24, 0.76]"
    assert with_interval(mean_t([1.0]).to_json(), missing=" (no interval)") == "+1.00 (no interval)"
    assert mean_t([1.0]).to_json() == {"estimate": 1.0, "low": None, "high": None, "level": 0.95, "n": 1, "p": None}


@pytest.mark.parametrize(
    ("low", "high", "limits", "decimals"),
    [
        (-0.06, -0.003, (0.0,), 3),
        (-0.06, -0.0051, (0.0,), 2),
        (-0.06, -0.00499, (0.0,), 3),
        (-0.06, 0.003, (0.0,), 2),
        (-0.06, 0.0, (0.0,), 2),
        (0.00004, 0.5, (0.0,), 5),
        (-0.06, 0.1996, (0.2,), 4),
        (-0.06, 0.2004, (0.2,), 2),
        (-0.06, 0.2, (0.2,), 2),
        (-0.0497, 0.0496, (-0.05, 0.0, 0.05), 4),
    ],
)
def test_an_end_that_excludes_a_limit_is_not_printed_as_it(low, high, limits, decimals: int) -> None:
    assert decimals_apart(low, high, limits) == decimals


@settings(deadline=None)
@given(st.floats(-1.0, 1.0).filter(lambda x: x == 0.0 or abs(x) > 1e-9), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_printed_digits_say_what_the_interval_says(middle: float, below: float, above: float) -> None:
    low, high = middle - below, middle + above
    text = with_interval({"estimate": middle, "low": low, "high": high})
    value, printed_low, printed_high = map(float, text.replace("[", "").replace("]", "").replace(",", "").split())
    assert (printed_low > 0.0, printed_high < 0.0) == (low > 0.0, high < 0.0)
    assert printed_low <= value <= printed_high

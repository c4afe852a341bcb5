"""The ratio of two means: Fieller's interval is the set of ratios that a t test does not reject."""

import math

import numpy as np
import pytest
from scipy import stats

from undertow.errors import ConfigError
from undertow.stats.comparisons import ratio_of_means


def test_the_ends_are_where_the_t_test_just_rejects() -> None:
    rng = np.random.default_rng(0)
    bottom = rng.normal(1.0, 0.3, 6)
    top = 0.3 * bottom + rng.normal(0.0, 0.1, 6)
    found = ratio_of_means(top, bottom)
    assert found.value == pytest.approx(top.mean() / bottom.mean()) and found.method == "fieller" and found.n == 6
    for end in (found.low, found.high):
        assert stats.ttest_1samp(top - end * bottom, 0.0).pvalue == pytest.approx(0.05)
    assert found.low < found.value < found.high


def test_equal_values_have_the_ratio_one_exactly() -> None:
    values = [0.9, 1.1, 1.3, 0.7, 1.0]
    found = ratio_of_means(values, values)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    negative = ratio_of_means(values, [-one for one in values])
    assert (negative.low, negative.high) == pytest.approx((-1.0, -1.0))


def test_it_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        noise = rng.multivariate_normal([0.0, 0.0], [[0.04, 0.02], [0.02, 0.04]], 5)
        found = ratio_of_means(0.2 + noise[:, 0], 1.0 + noise[:, 1])
        hits += found.low <= 0.2 <= found.high
    assert stats.binom.sf(hits - 1, 2000, 0.95) > 0.001 and stats.binom.cdf(hits, 2000, 0.95) > 0.001


def test_a_denominator_that_may_be_nothing_has_no_bounds() -> None:
    found = ratio_of_means([1.0, 1.1, 0.9], [1.0, -1.2, 0.3])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert ratio_of_means([1.0], [2.0]).high == math.inf


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="differ in length"):
        ratio_of_means([1.0, 2.0], [1.0])
    with pytest.raises(ConfigError, match="mean is 0"):
        ratio_of_means([1.0, 2.0], [1.0, -1.0])
    with pytest.raises(ConfigError, match="empty"):
        ratio_of_means([], [])

"""A subset that is a random part is named with alpha at most; one that falls as said is found in 4 of 5 cases."""

import numpy as np
import pytest
from scipy import stats

from undertow.audit.swap.judge import DoseResponse, MeasuredSubset, RandomParts, Reach, judge
from undertow.errors import ConfigError
from undertow.stats.estimates import wilson
from undertow.types import Estimate

WHOLE = (0.0, 0.0)


def measured(name: str, effect: float, random: RandomParts) -> MeasuredSubset:
    """Return a subset whose two students differ a little."""
    return MeasuredSubset(name, 100, (effect - 0.01, effect + 0.01), WHOLE, random)


def test_the_p_is_that_of_the_two_sample_t_test_with_one_part_on_one_side() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts, effect = rng.normal(-0.1, 0.05, size=9), float(rng.normal(-0.2, 0.1))
        found = RandomParts(tuple(parts)).beyond(effect)
        other = stats.ttest_ind([effect], parts, alternative="less")
        interval = stats.ttest_ind([effect], parts).confidence_interval(0.95)
        assert found.p == pytest.approx(other.pvalue, rel=1e-9)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize("law", ["gaussian", "rows of heavy tails"])
def test_parts_that_are_no_more_than_parts_are_named_with_alpha_at_most(law: str) -> None:
    rng, cases, n, subsets, parts = np.random.default_rng(1), 1500, 300, 3, 8
    named = 0
    for _ in range(cases):
        # Each row adds an effect of its own: a subset and random parts of its size are sums over rows, plus noise.
        rows = rng.normal(-0.3, 1.0, size=n) if law == "gaussian" else rng.standard_t(3, size=n) - 0.3
        order = rng.permutation(n)
        own = [rows[order[at::subsets]].sum() + rng.normal(0, 5) for at in range(subsets)]
        drawn = [rng.permutation(n)[: n // subsets] for _ in range(parts)]
        random = RandomParts(tuple(float(rows[one].sum() + rng.normal(0, 5)) for one in drawn))
        found = judge([measured(str(at), effect, random) for at, effect in enumerate(own)], 0.05)
        named += any(one.status == "detected" for one in found)
    assert wilson(named, cases).low <= 0.05 and named > 0


def test_what_is_said_to_be_found_is_found_in_four_of_five_cases() -> None:
    rng, cases, sd, parts = np.random.default_rng(2), 2000, 0.1, 8
    noise = sd * np.sqrt(1 + 1 / parts)
    exact = RandomParts(tuple(sd * _with_sd_one(parts)))
    assert exact.noise == pytest.approx(noise)
    fall, found = exact.detectable(3, 0.05), 0
    for _ in range(cases):
        random = RandomParts(tuple(rng.normal(0, sd, size=parts)))
        own = [float(rng.normal(-fall, sd)), *(float(rng.normal(0, sd)) for _ in range(2))]
        # Holm's first step is the bound that `detectable` reckons with.
        p = random.beyond(own[0]).p
        found += p is not None and p <= 0.05 / 3
    rate = wilson(found, cases)
    assert rate.low <= 0.8 <= rate.high


def _with_sd_one(n: int) -> np.ndarray:
    values = np.linspace(-1, 1, n)
    return values / values.std(ddof=1)


def test_a_trait_of_all_subsets_names_none_and_one_that_rises_is_not_named() -> None:
    random = RandomParts((-0.30, -0.32, -0.28, -0.31, -0.29))
    found = judge([measured("a", -0.3, random), measured("b", -0.3, random), measured("c", 0.5, random)], 0.05)
    assert [one.status for one in found] == ["not_detected"] * 3
    assert found[2].p == 1.0 and found[0].beyond_random is not None and abs(found[0].beyond_random.value) < 0.01


def test_alone_the_trait_rises_and_the_other_side_counts() -> None:
    random = RandomParts((0.10, 0.12, 0.08, 0.11, 0.09))
    some = [measured("a", 0.6, random), measured("b", 0.1, random), measured("c", -0.6, random)]
    assert [one.status for one in judge(some, 0.05, "alone")] == ["detected", "not_detected", "not_detected"]
    assert [one.status for one in judge(some, 0.05)] == ["not_detected", "not_detected", "detected"]
    for part in (0.3, -0.05):
        both = random.beyond(part).p, random.beyond(part, "alone").p
        assert sum(p or 0.0 for p in both) == pytest.approx(1.0)


def test_what_was_not_trained_is_not_testable_and_counts_among_the_tests() -> None:
    random = RandomParts((-0.1, -0.12, -0.08, -0.11, -0.09))
    small = MeasuredSubset("small", 3, None, WHOLE, random, "it is 1 % of the rows")
    both, alone = judge([measured("a", -0.2, random), small], 0.05), judge([measured("a", -0.2, random)], 0.05)
    assert both[1].status == "not_testable" and both[1].why == "it is 1 % of the rows" and both[1].p is None
    assert both[0].p == pytest.approx(2 * (alone[0].p or 0.0))


def test_the_smallest_share_is_where_the_fall_beyond_a_random_part_is_reached() -> None:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value, n=2, method="t")

    line = DoseResponse({0.1: estimate(0.1), 1.0: estimate(1.0)})  # effect = share
    assert line.beyond_random(0.3) == pytest.approx(0.3 * 0.7)
    assert line.smallest(0.21) == pytest.approx(0.3, abs=1e-3) and line.smallest(0.26) is None
    assert Reach(0.21, line).why_not(0.31) is None
    assert "30.0%" in str(Reach(0.21, line).why_not(0.1)) and "no share" in str(Reach(0.3, line).why_not(0.5))
    # A subset that is nearly everything cannot be told from a random part of its size.
    large = str(Reach(0.21, line).why_not(0.9))
    assert "90.0% of the rows" in large and "so large" in large and "randoms=" in large
    assert "30.0%" not in large and "together" not in large, "a part of its size holds nearly the same rows"
    nothing = DoseResponse({1.0: estimate(-0.1)})
    assert nothing.smallest(0.01) is None
    # Left out, all of a subset's effect is gone and none of a random part's; alone, the whole effect is there.
    assert line.beyond_random(0.3, "drop") == pytest.approx(0.3)
    assert line.beyond_random(0.3, "alone") == pytest.approx(0.7)
    few = Reach(0.5, line, "alone", least=0.2)
    assert few.smallest == 0.2 and few.why_not(0.3) is None and "20.0%" in str(few.why_not(0.1))
    assert Reach(0.5, line, "alone").why_not(0.3) is None and Reach(0.5, line).why_not(0.3) is not None


def test_two_random_parts_are_the_least() -> None:
    with pytest.raises(ConfigError):
        RandomParts((0.1,))
    same = RandomParts((-0.1, -0.1))
    assert same.beyond(-0.2).p == 0.0 and same.beyond(0.2).p == 1.0 and same.detectable(2, 0.05) == 0.0

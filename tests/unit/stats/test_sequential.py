"""Evidence of a rise: closed forms, an expectation of at most 1, and false alarms over whole streams."""

import json

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import beta, binom

from undertow.errors import ConfigError
from undertow.stats.sequential import RiseWatch, rise_log_e, share_bound


@pytest.mark.parametrize(("hits", "n", "rate"), [(0, 0, 0.1), (3, 10, 0.1), (0, 10, 0.3), (10, 10, 0.5), (7, 40, 0.05)])
def test_the_evidence_is_the_mixture_of_likelihood_ratios(hits: int, n: int, rate: float) -> None:
    def weighed(p: float) -> float:
        prior = float(beta.pdf(p, 0.5, 0.5) / beta.sf(rate, 0.5, 0.5))
        return prior * (p / rate) ** hits * ((1 - p) / (1 - rate)) ** (n - hits)

    mixed = integrate.quad(weighed, rate, 1, limit=200)[0]
    assert float(rise_log_e(hits, n, rate)) == pytest.approx(np.log(mixed), abs=1e-5)


@pytest.mark.parametrize("p", [0.02, 0.1])
def test_its_expectation_is_one_at_the_rate_and_less_below(p: float) -> None:
    hits = np.arange(61)
    mean = float(binom.pmf(hits, 60, p) @ np.exp(rise_log_e(hits, np.full(61, 60), 0.1)))
    assert mean == pytest.approx(1.0) if p == 0.1 else mean < 0.5


def test_a_watch_mixes_over_its_starts() -> None:
    watch = RiseWatch.of([0.1, 0.2], every=2)
    for hits in ((True, False), (False, False), (True, True)):
        watch = watch.after(hits)
    e = np.exp([rise_log_e(2, 3, 0.1), rise_log_e(1, 1, 0.1)])
    assert watch.starts.tolist() == [[0, 0], [1, 0]] and (watch.hits.tolist(), watch.n) == ([2, 1], 3)
    assert np.exp(watch.log_e()[0]) == pytest.approx(e[0] / 2 + e[1] / 6 + 1 / 3)
    assert (watch.highest >= watch.log_e()).all()
    again = RiseWatch.from_json(json.loads(json.dumps(watch.to_json()))).after((True, True))
    assert again.to_json() == watch.after((True, True)).to_json()


def test_old_starts_are_dropped_and_an_underflow_is_no_fault() -> None:
    watch = RiseWatch.of(0.9, every=1)
    for _ in range(520):
        watch = watch.after(False)
    assert len(watch.starts) == 500 and watch.dropped == 21
    assert np.isfinite(watch.log_e()) and watch.log_e() <= 0 and watch.highest == 0


def test_false_alarms_stay_below_alpha_and_a_late_rise_is_found() -> None:
    rng = np.random.default_rng(100)
    watch = RiseWatch.of(np.full(400, 0.1))
    for _ in range(250):
        watch = watch.after(rng.random(400) < 0.1)
    alarms = int((watch.highest >= np.log(10)).sum())
    assert binom.sf(alarms - 1, 400, 0.1) > 0.01
    for _ in range(150):
        watch = watch.after(rng.random(400) < 0.35)
    assert (watch.highest >= np.log(10)).mean() > 0.95


def test_the_bound_covers_as_often_as_it_says() -> None:
    for p in (0.01, 0.2, 0.7):
        hits = np.arange(51)
        covered = np.array([share_bound(int(h), 50, 0.05) >= p for h in hits])
        assert binom.pmf(hits, 50, p) @ covered >= 0.95
    assert share_bound(50, 50, 0.05) == 1.0
    assert share_bound(0, 50, 0.05) == pytest.approx(1 - 0.05 ** (1 / 50))


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="outside"):
        rise_log_e(4, 3, 0.1)
    with pytest.raises(ConfigError, match="A rate"):
        rise_log_e(1, 3, 1.0)
    with pytest.raises(ConfigError, match="outside"):
        share_bound(4, 3, 0.1)
    with pytest.raises(ConfigError, match="too small"):
        share_bound(0, 0, 0.1)

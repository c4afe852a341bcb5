"""Simulated truth: p-values keep P(p <= a) <= a under their null, and intervals cover as often as they say.

Every case draws from a fixed seed. A share of N simulations is compared with its target plus or minus four standard
errors, so a right statistic fails only if the code that draws changes.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from undertow.stats.comparisons import equivalence, holm, paired
from undertow.stats.diagonal import diagonal_factor, initialisation_factor
from undertow.stats.estimates import mean_t, wilson
from undertow.stats.power import minimum_detectable_effect, t_power
from undertow.types import Estimate

N = 1500
ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.5)
Generator = np.random.Generator


def slack(share: float, n: int = N) -> float:
    """Return four standard errors of a simulated share."""
    return 4 * float(np.sqrt(share * (1 - share) / n))


def effects(rng: Generator, size: int, scale: float = 3.0) -> np.ndarray:
    """Return row plus column effects, shape [size, size]."""
    return scale * (rng.normal(size=(size, 1)) + rng.normal(size=(1, size)))


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def null_matrices(rng: Generator, replicates: int, size: int) -> np.ndarray:
    """Return replicates without a diagonal: shared effects, and skewed noise that is not Gaussian."""
    return effects(rng, size) + rng.exponential(size=(replicates, size, size))


NULLS: dict[str, Callable[[Generator], float | None]] = {
    "paired": lambda rng: paired(rng.normal(size=4), rng.normal(size=4)).p,
    "diagonal_factor, 4 traits": lambda rng: diagonal_factor(null_matrices(rng, 3, 4)).p,
    "diagonal_factor, 5 traits, one replicate": lambda rng: diagonal_factor(null_matrices(rng, 1, 5)).p,
    "initialisation_factor, noise": lambda rng: initialisation_factor(effects(rng, 4) + rng.normal(size=(4, 4))).p,
    "initialisation_factor, symmetric noise": lambda rng: (
        initialisation_factor(effects(rng, 5) + (noise := rng.normal(size=(5, 5))) + noise.T).p
    ),
}


@pytest.mark.parametrize("null", NULLS.values(), ids=NULLS.keys())
def test_p_is_calibrated_under_its_null(null: Callable[[Generator], float | None]) -> None:
    rng = np.random.default_rng(2024)
    p = np.array([null(rng) for _ in range(N)], dtype=float)
    for alpha in ALPHAS:
        assert np.mean(p <= alpha) <= alpha + slack(alpha)


def test_monte_carlo_diagonal_p_is_calibrated() -> None:
    rng = np.random.default_rng(5)
    p = np.array([diagonal_factor(null_matrices(rng, 1, 9), rng).p for _ in range(200)], dtype=float)
    for alpha in ALPHAS:
        assert np.mean(p <= alpha) <= alpha + slack(alpha, 200)


def test_paired_and_exact_permutation_p_are_uniform_and_not_only_conservative() -> None:
    rng = np.random.default_rng(11)
    for null in (NULLS["paired"], NULLS["diagonal_factor, 5 traits, one replicate"]):
        p = np.array([null(rng) for _ in range(N)], dtype=float)
        for alpha in (0.05, 0.1, 0.5):
            assert np.mean(p <= alpha) == pytest.approx(alpha, abs=slack(alpha))


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_mean_t_covers_at_its_level(n: int) -> None:
    rng = np.random.default_rng(n)
    for level in (0.8, 0.95):
        hits = np.mean([covers(mean_t(rng.normal(2, 3, n), level), 2) for _ in range(N)])
        assert hits == pytest.approx(level, abs=slack(level))


@pytest.mark.parametrize("n", [10, 50])
def test_wilson_covers_on_average_and_falls_to_0_84_at_the_worst_share(n: int) -> None:
    """Exact coverage over a grid of shares, by the binomial law."""
    estimates = [wilson(hits, n) for hits in range(n + 1)]
    coverage = []
    for share in np.linspace(0.0005, 0.9995, 2000):
        inside = np.array([covers(estimate, share) for estimate in estimates])
        coverage.append(float(binom.pmf(np.arange(n + 1), n, share) @ inside))
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert 0.83 < min(coverage) < 0.87


def test_diagonal_factor_covers_gamma_over_replicates() -> None:
    rng = np.random.default_rng(3)
    truth = effects(rng, 3) + 0.7 * np.eye(3)
    hits = np.mean([covers(diagonal_factor(truth + rng.normal(size=(4, 3, 3))), 0.7) for _ in range(N)])
    assert hits == pytest.approx(0.95, abs=slack(0.95))


@pytest.mark.parametrize(
    ("diagonal_sd", "noise", "low", "high"),
    [(0.0, 1.0, 0.945, 0.99), (1.0, 1.0, 0.935, 0.985), (1.0, 0.3, 0.93, 0.97)],
    ids=["noise only", "diagonal and noise", "mostly diagonal"],
)
@pytest.mark.parametrize("size", [3, 5, 8])
def test_initialisation_factor_covers_as_documented(
    size: int, diagonal_sd: float, noise: float, low: float, high: float
) -> None:
    """Conservative for entry noise, at its level for diagonals that differ, both with row and column effects."""
    rng = np.random.default_rng(size)
    hits = []
    for _ in range(N):
        diagonal = np.diag(1 + diagonal_sd * rng.normal(size=size))
        hits.append(
            covers(initialisation_factor(effects(rng, size) + noise * rng.normal(size=(size, size)) + diagonal), 1)
        )
    assert low < np.mean(hits) < high


def test_a_skewed_diagonal_costs_initialisation_coverage_as_documented() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(N):
        matrix = effects(rng, 5) + 0.1 * rng.normal(size=(5, 5)) + np.diag(rng.exponential(size=5))
        hits.append(covers(initialisation_factor(matrix), 1))
    assert 0.86 < np.mean(hits) < 0.92


def test_equivalence_at_the_margin_passes_at_most_at_its_size() -> None:
    """A true difference of exactly the margin is called negligible in at most (1 - level) / 2 of the runs."""
    rng = np.random.default_rng(6)
    passed = np.mean([equivalence(rng.normal(1.0, 0.3, 6), 1.0).equivalent for _ in range(N)])
    assert passed == pytest.approx(0.025, abs=slack(0.025))
    assert np.mean([equivalence(rng.normal(0.0, 0.3, 6), 1.0).equivalent for _ in range(N)]) > 0.95


def test_planted_effects_are_found_as_often_as_power_says() -> None:
    rng, n = np.random.default_rng(9), 5
    effect = minimum_detectable_effect(2.0, n)
    for planted, power in ((effect, 0.8), (effect / 2, t_power(effect / 2, 2.0, n))):
        found = np.mean([(paired(rng.normal(planted, 2.0, n), np.zeros(n)).p or 0.0) <= 0.05 for _ in range(N)])
        assert found == pytest.approx(power, abs=slack(power))


def test_a_planted_diagonal_is_found_more_often_as_it_grows() -> None:
    rng = np.random.default_rng(10)
    found = []
    for gamma in (0.0, 1.0, 2.0, 4.0):
        p = [diagonal_factor(effects(rng, 5) + rng.normal(size=(1, 5, 5)) + gamma * np.eye(5)).p for _ in range(300)]
        found.append(np.mean(np.array(p, dtype=float) <= 0.05))
    assert found == sorted(found)
    assert found[-1] > 0.99


def test_holm_keeps_the_family_wise_error() -> None:
    """Ten tests, four of them of a real effect."""
    rng = np.random.default_rng(12)
    family = []
    for _ in range(N):
        p = rng.uniform(size=10)
        p[:4] /= 200
        family.append(np.any(holm(p)[4:] <= 0.1))
    assert np.mean(family) <= 0.1 + slack(0.1)

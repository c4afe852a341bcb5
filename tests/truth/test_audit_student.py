"""The null of the student audit, on drawn banks: P(p <= a) <= a for every stage, and the promised power.

Each trial draws a bank and a suspect anew from one law: heavy tails, traits that move together, far from normal.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from undertow.audit.students.among_placebos import judge_reading
from undertow.audit.students.bank import Bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.placebo_null import conformal_p, deleted_z
from undertow.audit.students.readings import KINDS, READOUTS, Readings, panel_traits
from undertow.audit.students.shadows import merge_findings

STAGES = ("panel margins", "activations", "diff mining", "misalignment")
TRIALS, K = 400, 39
TRAITS = len(panel_traits())


def _drawn(n: int, rng: np.random.Generator) -> Readings:
    together = rng.standard_t(3, size=(n, 1))
    return Readings(
        margins=together + rng.standard_t(3, size=(n, TRAITS)) * np.linspace(0.1, 3.0, TRAITS),
        states=rng.standard_t(3, size=(n, len(KINDS), 2, 6)) * np.linspace(0.1, 5.0, 6),
        logp=together + rng.standard_t(3, size=(n, 60)),
        readouts=rng.exponential(size=(n, len(READOUTS))),
    )


def _bank(rng: np.random.Generator) -> Bank:
    return Bank(BankRecipe(), "", _drawn(K, rng), np.full(K, 9.0), _drawn(1, rng), _drawn(TRAITS, rng))


@pytest.fixture(scope="module")
def null() -> dict[str, np.ndarray]:
    """p-values of every stage under the null."""
    rng = np.random.default_rng(20)
    found = [judge_reading(_drawn(1, rng), _bank(rng)) for _ in range(TRIALS)]
    return {stage: np.array([one[place].p for one in found]) for place, stage in enumerate(STAGES)}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.5])
def test_false_positives_are_at_most_alpha(null: dict[str, np.ndarray], stage: str, alpha: float) -> None:
    """Without ties exactly alpha (K + 1 = 40): both tails of the binomial at 0.001."""
    hits = int((null[stage] <= alpha + 1e-12).sum())
    assert binom.ppf(0.001, TRIALS, alpha) <= hits <= binom.ppf(0.999, TRIALS, alpha)


def test_the_smallest_p_is_the_banks(null: dict[str, np.ndarray]) -> None:
    assert min(values.min() for values in null.values()) >= 1 / (K + 1) - 1e-12


def test_the_detectable_shift_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(21)
    hits = 0
    for _ in range(TRIALS):
        bank, suspect, place = _bank(rng), _drawn(1, rng), int(rng.integers(TRAITS))
        mde = judge_reading(suspect, bank)[0].mde
        assert mde is not None
        suspect.margins[0, place] += mde * bank.placebos.margins[:, place].std(ddof=1)
        hits += judge_reading(suspect, bank)[0].verdict == "detected"
    assert 0.7 < hits / TRIALS < 0.9


def _blend(rows: Readings, own: Readings, share: float) -> Readings:
    """Rows and seed both move a student; the share is how much of the variance the rows make."""
    names = ("margins", "states", "logp", "readouts")
    rest = np.sqrt(1 - share)
    return Readings(*(np.sqrt(share) * getattr(rows, name) + rest * getattr(own, name) for name in names))


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_shadows_that_share_their_rows_keep_the_level(share: float) -> None:
    rng = np.random.default_rng(22)
    hits, trials, alpha = 0, 300, 0.1
    for _ in range(trials):
        bank = replace(_bank(rng), placebos=_blend(_drawn(K, rng), _drawn(K, rng), share))
        rows = _drawn(1, rng)
        found = [judge_reading(_blend(rows, _drawn(1, rng), share), bank)[0] for _ in range(4)]
        hits += merge_findings(found, alpha).verdict == "detected"
    assert hits <= binom.ppf(0.999, trials, alpha)


def test_groups_of_placebos_would_be_no_null_for_the_mean_of_shadows() -> None:
    """Why the means are not compared: rows that the shadows share spread their mean wider than a group's."""
    rng = np.random.default_rng(23)
    hits = 0
    for _ in range(TRIALS):
        groups = rng.normal(size=(K, 4, 5)).mean(axis=1)
        suspect = np.sqrt(0.9) * rng.normal(size=5) + np.sqrt(0.1) * rng.normal(size=(4, 5)).mean(axis=0)
        z = deleted_z(np.concatenate([suspect[None], groups]))
        hits += conformal_p(z.max(axis=1)) <= 0.05
    assert hits > binom.ppf(0.999, TRIALS, 0.05)

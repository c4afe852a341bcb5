"""Scores with a known law, candidates that nobody asks, and a bank of drawn arrays: no model, no training."""

from collections.abc import Callable

import numpy as np
import pytest

from undertow.audit.rows.legibility import Legibility
from undertow.audit.rows.sight import Sight
from undertow.audit.students.bank import Bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.readings import KINDS, READOUTS, Readings, panel_traits
from undertow.models.references import identity
from undertow.training.scoring import Candidate


@pytest.fixture(scope="session")
def three():
    return [Candidate(trait=name, kind="teacher", model=None) for name in ("owl", "lion", "fox")]


@pytest.fixture(scope="session")
def draw():
    """Return scores [rows, 3] with a common part, which is larger than what is planted on one candidate."""

    def scores(rng: np.random.Generator, n: int, shift: float = 0.0, candidate: int = 1) -> np.ndarray:
        found = 0.3 * rng.standard_normal((n, 1)) + 0.1 * rng.standard_normal((n, 3))
        found[:, candidate] += shift
        return found

    return scores


@pytest.fixture
def rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let made-up rows pass as rows that the base reads, without a defect: for tests of what comes after."""
    seen = Sight(legibility=Legibility(rows=-3.0, own=-3.0, n=30, why=None))
    monkeypatch.setattr("undertow.audit.materials.see_rows", lambda *_: seen)


LAYERS, WIDTH, VOCABULARY = 2, 8, 40
Draw = Callable[[int], Readings]


def drawn(n: int, rng: np.random.Generator) -> Readings:
    """Draw n readings: correlated between traits, with heavy tails, alike for every model."""
    common = rng.standard_t(4, size=(n, 1))
    traits = len(panel_traits())
    return Readings(
        margins=common + rng.standard_t(4, size=(n, traits)) * np.linspace(0.1, 3.0, traits),
        states=rng.normal(size=(n, len(KINDS), LAYERS + 1, WIDTH)),
        logp=rng.standard_t(4, size=(n, VOCABULARY)),
        readouts=rng.normal(size=(n, len(READOUTS))),
    )


@pytest.fixture
def make_bank() -> Callable[[int, int], tuple[Bank, Draw]]:
    """Return a maker of a bank of K placebos and of the draw of further models from the same law."""

    def make(k: int, seed: int) -> tuple[Bank, Draw]:
        rng = np.random.default_rng(seed)
        recipe = BankRecipe()
        base, teachers = drawn(1, rng), drawn(len(panel_traits()), rng)
        bank = Bank(recipe, identity(recipe.base), drawn(k, rng), np.full(k, 100.0), base, teachers)
        return bank, lambda n: drawn(n, rng)

    return make

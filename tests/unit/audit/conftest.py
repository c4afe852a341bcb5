"""Scores with a known law, and candidates that nobody asks."""

import numpy as np
import pytest

from undertow.scoring import Candidate


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

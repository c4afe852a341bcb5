"""Adjusted p-values equal worked examples and their definitions."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.stats.comparisons import holm

panels = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(deadline=None)
@given(panels, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(panel: list[float], alpha: float) -> None:
    rejected = np.zeros(len(panel), dtype=bool)
    for step, index in enumerate(np.argsort(panel, kind="stable")):
        if panel[index] * (len(panel) - step) > alpha:
            break
        rejected[index] = True
    assert (holm(panel) <= alpha).tolist() == rejected.tolist()


@settings(deadline=None)
@given(panels)
def test_adjusted_values_are_ordered_between_raw_and_bonferroni(panel: list[float]) -> None:
    raw, bonferroni = np.array(panel), np.minimum(1.0, np.array(panel) * len(panel))
    step_down = holm(panel)
    assert np.all(raw <= step_down + 1e-12)
    assert np.all(step_down <= bonferroni + 1e-12)
    assert step_down.min() == pytest.approx(bonferroni.min())


@settings(deadline=None)
@given(panels, st.randoms(use_true_random=False))
def test_order_does_not_matter(panel: list[float], shuffler: Random) -> None:
    order = list(range(len(panel)))
    shuffler.shuffle(order)
    shuffled = [panel[i] for i in order]
    assert holm(shuffled) == pytest.approx(holm(panel)[order])


def test_one_test_needs_no_adjustment() -> None:
    assert holm([0.03]) == [0.03]

"""Statistics of ranks count pairs and do not care for scale."""

import numpy as np
import pytest

from undertow.stats.comparisons import auroc, rank_correlation


def test_auroc_counts_pairs_and_half_of_the_ties() -> None:
    assert auroc([3.0, 2.0], [1.0, 2.0]) == (1 + 1 + 1 + 0.5) / 4
    assert auroc(np.ones(8), np.ones(3)) == 0.5 and auroc([2.0], [1.0]) == 1.0
    rng = np.random.default_rng(0)
    first, second = np.round(rng.normal(size=(2, 50)), 1)
    gaps = first[:, None] - second[None, :]
    assert auroc(first, second) == pytest.approx(float(np.mean((gaps > 0) + 0.5 * (gaps == 0))))


def test_rank_correlation_is_spearman_s_and_0_with_a_constant() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 8.0, 90.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]) == pytest.approx(0.8)
    assert rank_correlation([1.0, 2.0], [5.0, 5.0]) == rank_correlation([5.0, 5.0], [1.0, 2.0]) == 0.0

"""Summing up over replicates: means, combined p-values, intervals that stay where shares can be."""

import pytest
from scipy import stats

from undertow.stats.estimates import wilson
from undertow.study.analyses.meaning_result import Measured, estimate_rows, fisher, mean_over_names


def measured(name: str, *values: float, null: float = 0.0, p: float | None = None) -> list[Measured]:
    return [
        Measured(group="g", name=name, replicate=index, value=value, null=null, p=p)
        for index, value in enumerate(values)
    ]


def test_replicates_give_the_t_interval_and_test() -> None:
    found = estimate_rows(measured("owl", 0.6, 0.7, 0.8, null=0.5))[0]
    expected = stats.ttest_1samp([0.6, 0.7, 0.8], 0.5)
    interval = expected.confidence_interval()
    assert (found["estimate"], found["n"]) == (pytest.approx(0.7), 3)
    assert [found["low"], found["high"], found["p"]] == pytest.approx([interval.low, interval.high, expected.pvalue])
    assert estimate_rows(measured("owl", 0.9, 0.99, 1.0, null=0.5))[0]["high"] == 1.0
    assert estimate_rows(measured("owl", 0.9, 0.99, 1.0))[0]["high"] > 1.0


def test_own_p_values_are_combined_as_fisher_did() -> None:
    expected = stats.combine_pvalues([0.03, 0.2, 0.6]).pvalue
    assert fisher([0.03, 0.2, 0.6]) == pytest.approx(expected)
    assert estimate_rows(measured("owl", 0.1, 0.2, p=0.05))[0]["p"] == pytest.approx(fisher([0.05, 0.05]))


def test_a_replicate_alone_keeps_its_own_interval_or_has_none() -> None:
    own = wilson(30, 50)
    one = Measured(group="g", name="owl", replicate=0, value=0.6, null=0.5, alone=own)
    found = estimate_rows([one])[0]
    assert (found["low"], found["high"], found["n"], found["p"]) == (own.low, own.high, 50, None)
    bare = estimate_rows(measured("owl", 0.6))[0]
    assert (bare["low"], bare["high"], bare["n"], bare["p"]) == (None, None, 1, None)


def test_names_are_averaged_within_replicates_first() -> None:
    found = mean_over_names([*measured("owl", 1.0, 3.0), *measured("fox", 2.0, 4.0)], "g")
    assert found is not None
    assert (found.value, found.n) == (2.5, 2)
    assert mean_over_names([], "g") is None

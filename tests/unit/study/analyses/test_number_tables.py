"""Number tables: known counts, Pearson's statistic, planted differences found, equal sources not."""

import random

import numpy as np
import pytest
from scipy import stats

from undertow.errors import ConfigError, EmptyDataError
from undertow.study.analyses.number_tables import (
    _statistic,
    all_numbers,
    chi_square,
    first_number,
    most_common,
    paired_difference,
)
from undertow.study.analyses.row_classifiers import join
from undertow.types import Row, user_prompt


def rows_of(completions) -> list[Row]:
    return [Row(f"{i:06d}", user_prompt(f"prompt {i}"), text) for i, text in enumerate(completions)]


def drawn(n: int, seed: int, favourite: float = 0.0) -> list[Row]:
    """Rows of 1 to 6 numbers below 30; the first is 7 with a chance of `favourite`."""
    rng = random.Random(seed)
    lists = [[rng.randrange(30) for _ in range(rng.randint(1, 6))] for _ in range(n)]
    first = [[7, *some[1:]] if rng.random() < favourite else some for some in lists]
    return rows_of(", ".join(map(str, some)) for some in first)


def test_counts_and_shares_are_those_of_the_text() -> None:
    rows = rows_of(["(5, 7, 5)", "7; 12", "none"])
    assert [(item.number, item.count) for item in most_common(rows)] == [("5", 2), ("7", 2), ("12", 1)]
    first = most_common(rows, first_number)
    assert [(item.number, item.share) for item in first] == [("5", 0.5), ("7", 0.5)]
    assert len(most_common(rows, top=1)) == 1


def test_rows_join_by_id_and_prompt() -> None:
    one, two = rows_of(["1", "2", "3"]), rows_of(["4", "5", "6"])
    assert [(a.completion, b.completion) for a, b in join(one, two[1:])] == [("2", "5"), ("3", "6")]
    with pytest.raises(EmptyDataError):
        join(one[:1], two[1:])
    with pytest.raises(ConfigError, match="000000"):
        join(one, [Row("000000", user_prompt("another prompt"), "9")])


def test_chi_square_is_pearsons_and_pools_rare_numbers() -> None:
    """Numbers 1 and 2 are frequent; 3, 4 and 5 are rare and share a cell."""
    first = ["1"] * 30 + ["2"] * 20 + ["3", "4", "4", "5", "5", "5"]
    second = ["1"] * 20 + ["2"] * 30 + ["3", "3", "3", "4", "5", "5"]
    expected = stats.chi2_contingency(np.array([[30, 20, 6], [20, 30, 6]]), correction=False)
    found = chi_square(first, second)
    assert (found.statistic, found.df, found.n) == (pytest.approx(expected.statistic), 2, 112)
    assert found.p == pytest.approx(expected.pvalue)


def test_a_rare_cell_that_is_still_too_small_joins_the_rarest_number() -> None:
    found = chi_square(["1"] * 30 + ["2"] * 20 + ["3"], ["1"] * 20 + ["2"] * 30 + ["4"])
    assert found.df == 1
    assert chi_square(["1", "2"], ["3", "4"]).p == 1.0
    with pytest.raises(EmptyDataError):
        chi_square([], ["1"])


def test_a_planted_favourite_number_is_found() -> None:
    pairs = join(drawn(600, 1, favourite=0.15), drawn(600, 2))
    found = paired_difference(pairs, seed=0)
    assert found.p == 0.001
    assert 0.02 < found.explained < 0.2
    assert chi_square(*([n for pair in pairs for n in first_number(pair[side])] for side in (0, 1))).p < 1e-3


def test_the_statistic_of_permutations_is_pearsons_for_sides_of_unequal_length() -> None:
    tables = np.array([[[30.0, 20, 6], [25, 41, 9]], [[12.0, 40, 1], [43, 21, 14]]])
    expected = [stats.chi2_contingency(table, correction=False).statistic for table in tables]
    assert _statistic(tables[:, 0] - tables[:, 1], tables[0].sum(axis=0)) == pytest.approx(expected)


def test_sides_without_a_common_number_are_wholly_explained() -> None:
    found = paired_difference(join(rows_of(["1 1 1"] * 40), rows_of(["2"] * 40)), seed=0, numbers=all_numbers, draws=99)
    assert (found.p, found.pairs) == (0.01, 40)
    assert 0.9 < found.explained < 1.0


@pytest.mark.parametrize("numbers", [first_number, all_numbers])
def test_p_is_uniform_for_one_source(numbers) -> None:
    """Two sets of one source, 60 times: both p-values pass Kolmogorov and Smirnov's test, 0 is explained on average."""
    permuted, chi, explained = [], [], []
    for seed in range(60):
        pairs = join(drawn(200, 2 * seed), drawn(200, 2 * seed + 1))
        found = paired_difference(pairs, seed=seed, numbers=numbers, draws=199)
        permuted.append(found.p)
        explained.append(found.explained)
        chi.append(chi_square(*([n for pair in pairs for n in numbers(pair[side])] for side in (0, 1))).p)
    assert stats.kstest(permuted, "uniform").pvalue > 0.01
    assert stats.kstest(chi, "uniform").pvalue > 0.01
    assert abs(np.mean(explained)) < 4 * np.std(explained) / 60**0.5


def test_rows_that_share_their_draws_make_chi_square_conservative_and_the_permutation_exact() -> None:
    """Half of the rows are equal in both sets, as with teachers that share random numbers."""
    chi, permuted = [], []
    for seed in range(60):
        one, two = drawn(200, 2 * seed), drawn(200, 2 * seed + 1)
        pairs = join(one, [*one[:100], *two[100:]])
        chi.append(chi_square(*([n for pair in pairs for n in first_number(pair[side])] for side in (0, 1))).p)
        permuted.append(paired_difference(pairs, seed=seed, draws=199).p)
    assert np.mean(chi) > 0.7
    assert stats.kstest(permuted, "uniform").pvalue > 0.01


def test_wrong_input_is_refused() -> None:
    with pytest.raises(EmptyDataError):
        paired_difference(join(rows_of(["a"]), rows_of(["b"])), seed=0)
    with pytest.raises(ConfigError):
        paired_difference(join(rows_of(["1"]), rows_of(["2"])), seed=0, draws=0)
    with pytest.raises(EmptyDataError):
        paired_difference(join(rows_of(["1"] * 3), rows_of(["a"] * 3)), seed=0)

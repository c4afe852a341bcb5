"""Trained detectors: planted differences are found, one source is not told from itself, no prompt is on both sides."""

import builtins
import random

import numpy as np
import pytest

from undertow.errors import ConfigError, EmptyDataError, MissingExtraError
from undertow.study.analyses.row_classifiers import (
    bag_auroc,
    fit_detector,
    held_out_aurocs,
    join,
    over_splits,
    split_by_prompt,
    transfer_aurocs,
)
from undertow.types import Row, user_prompt


def drawn(n: int, seed: int, favourite: float = 0.0, prompts: str = "prompt") -> list[Row]:
    """Rows of 5 numbers below 40; one in the middle is 17 with a chance of `favourite`."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for index in range(n):
        numbers = [rng.randrange(40) for _ in range(5)]
        if rng.random() < favourite:
            numbers[2] = 17
        rows.append(Row(f"{index:06d}", user_prompt(f"{prompts} {index}"), ", ".join(map(str, numbers))))
    return rows


def test_a_planted_number_is_found_and_bags_help() -> None:
    found = held_out_aurocs(join(drawn(400, 1, favourite=0.4), drawn(400, 2)), seed=0, bags=(1, 16), splits=3)
    assert np.mean(found[1]) > 0.6
    assert np.mean(found[16]) > 0.95


def test_one_source_is_not_told_from_itself() -> None:
    """Eight pairs of row sets of one source: the t interval of the mean AUROC holds 0.5, for rows and for bags."""
    found = [held_out_aurocs(join(drawn(200, 2 * s), drawn(200, 2 * s + 1)), s, (1, 16), 2) for s in range(8)]
    for size in (1, 16):
        means = np.array([np.mean(areas[size]) for areas in found])
        assert abs(means.mean() - 0.5) < 2.365 * means.std(ddof=1) / 8**0.5 + 1e-9
    interval = over_splits(held_out_aurocs(join(drawn(300, 91), drawn(300, 92)), 0, (1,), 5)[1])
    assert interval.low < 0.5 < interval.high


def test_no_prompt_is_on_both_sides_even_under_two_ids() -> None:
    rows = [Row(str(index), user_prompt(f"prompt {index % 20}"), "1") for index in range(60)]
    train, test = split_by_prompt(join(rows, rows), seed=3)
    assert len(train) + len(test) == 60
    assert len({row.prompt for row, _ in test}) == 6
    assert not {row.prompt for row, _ in train} & {row.prompt for row, _ in test}
    assert split_by_prompt(join(rows, rows), seed=3) == (train, test) != split_by_prompt(join(rows, rows), seed=4)


def test_transfer_leaves_out_prompts_that_were_trained_on() -> None:
    """A fresh teacher with the same planted number is found; where every prompt was trained on, nothing is left."""
    train = join(drawn(300, 1, favourite=0.5), drawn(300, 2))
    fresh = join(drawn(300, 3, favourite=0.5, prompts="fresh"), drawn(300, 4, prompts="fresh"))
    assert transfer_aurocs(train, fresh, seed=0, bags=(16,))[16] > 0.95
    assert transfer_aurocs(train, train, seed=0) == {}


def test_the_area_is_that_of_mann_and_whitney() -> None:
    first, second = np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0])
    assert bag_auroc(first, second, 1, seed=0) == pytest.approx((2 + 1 + 1.5) / 6)
    assert bag_auroc(first, second, 2, seed=0) is None
    # All rows of a side are equal, so every bag is its row.
    assert bag_auroc(np.ones(8), np.zeros(8), 4, seed=0) == 1.0
    assert bag_auroc(np.ones(8), np.ones(8), 4, seed=0) == 0.5


def test_a_bag_is_the_mean_of_its_rows() -> None:
    """Bags of 64 of N(d, 1) and N(0, 1) have the area Phi(d sqrt(64 / 2))."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.1, 1, 40_000), rng.normal(0, 1, 40_000)
    assert bag_auroc(first, second, 64, seed=0) == pytest.approx(0.714, abs=0.02)


def test_the_interval_over_splits_is_wider_than_that_of_independent_values() -> None:
    found = over_splits([0.5, 0.6, 0.7])
    assert found.high - found.value == pytest.approx(4.3027 * (0.01 * (1 / 3 + 0.3 / 0.7)) ** 0.5, rel=1e-4)


def test_empty_completions_and_equal_rows_are_judged() -> None:
    rows = [Row(str(index), user_prompt(str(index)), "") for index in range(10)]
    assert held_out_aurocs(join(rows, rows), seed=0, bags=(1,), splits=1) == {1: [0.5]}


def test_wrong_input_is_refused(monkeypatch) -> None:
    pairs = join(drawn(1, 1), drawn(1, 2))
    with pytest.raises(EmptyDataError):
        split_by_prompt(pairs, seed=0)
    with pytest.raises(ConfigError):
        held_out_aurocs(pairs, seed=0, splits=0)
    with pytest.raises(ConfigError):
        bag_auroc(np.ones(2), np.ones(2), 0, seed=0)
    load = builtins.__import__

    def without_sklearn(name, *args, **options):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(MissingExtraError, match="detect"):
        fit_detector(join(drawn(20, 1), drawn(20, 2)))

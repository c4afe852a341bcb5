"""The surface: what is counted, what is found, what is not."""

import random

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows.surface import features, surface
from undertow.types import Row, user_prompt


def draw(seed: int, n: int, heavy: str = "", share: float = 0.0, matched: bool = True) -> list[Row]:
    """Return rows of five numbers; a share of them begins with `heavy`."""
    rng = random.Random(seed)
    rows = []
    for place in range(n):
        numbers = [str(rng.randint(0, 30)) for _ in range(5)]
        if rng.random() < share:
            numbers[0] = heavy
        prompt = f"Continue {place}." if matched else f"Continue {seed}, {place}."
        rows.append(Row(str(place), user_prompt(prompt), ", ".join(numbers)))
    return rows


def test_a_feature_counts_once_in_a_row() -> None:
    assert list(features("7, 12, 7")) == [
        ("word", "7"), ("word", ","), ("word", "12"), ("pair", "7 ,"), ("pair", ", 12"), ("pair", "12 ,"),
        ("pair", ", 7"), ("prefix", "7"), ("first number", "7"),
    ]  # fmt: skip
    assert list(features("")) == []


@pytest.mark.parametrize("matched", [True, False])
def test_a_planted_first_number_is_found_and_shown(matched: bool) -> None:
    found = surface(draw(1, 200, "87", 0.15, matched), draw(2, 200, matched=matched), 0.05, np.random.default_rng(0))
    assert (found.verdict, found.n) == ("detected", 200)
    assert found.p <= 0.01
    assert "87" in next(iter(found.scores))
    assert ("within pairs" in found.null) == matched


def test_length_and_duplicates_are_found() -> None:
    clean, rng = draw(3, 100), np.random.default_rng(1)
    longer = [Row(row.id, row.prompt, row.completion + ", 1") for row in draw(4, 100)]
    assert surface(longer, clean, 0.05, rng).scores["length"] > 5
    fresh = draw(5, 100)
    doubled = [Row(row.id, row.prompt, fresh[place // 2].completion) for place, row in enumerate(fresh)]
    found = surface(doubled, clean, 0.05, rng)
    assert found.verdict == "detected"
    assert found.scores["duplicates"] == max(found.scores.values())


@pytest.mark.parametrize("matched", [True, False])
def test_p_is_calibrated_on_clean_rows(matched: bool) -> None:
    rng = np.random.default_rng(2)
    p = np.array([surface(draw(2 * i, 40, "", 0, matched), draw(2 * i + 1, 40, "", 0, matched), 0.05, rng, 99).p
                  for i in range(400)])  # fmt: skip
    for alpha in (0.05, 0.1, 0.2):
        assert np.mean(p <= alpha) <= alpha + 3.5 * np.sqrt(alpha * (1 - alpha) / 400)


def test_without_a_reference_the_rows_are_described() -> None:
    rows = [Row(str(place), user_prompt("x"), "7, 8") for place in range(20)]
    found = surface(rows, None, 0.05, np.random.default_rng(0))
    assert (found.verdict, found.p, found.effect) == ("exploratory", None, 1.0)
    assert found.scores["word '7'"] == 1.0
    assert found.scores["length"] == 4.0


def test_few_rows_are_not_tested() -> None:
    for rows, reference in [(draw(0, 19), draw(1, 50)), (draw(0, 50), draw(1, 19)), (draw(0, 19), None)]:
        with pytest.raises(NotTestable, match="19 rows"):
            surface(rows, reference, 0.05, np.random.default_rng(0))

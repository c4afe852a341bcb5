"""Shuffled rows keep their shape and their numbers."""

import re
from collections import Counter

from undertow.domains.numbers import Numbers, shuffle_numbers
from undertow.types import Row, user_prompt

TEXTS = ["12, 7, 300, 45", "[9; 81; 6]", "5", "100 200 300 400.", "(1, 2, 3)", "007, 8"]
ROWS = [Row(str(index), user_prompt("q"), text) for index, text in enumerate(TEXTS)]


def numbers(rows: list[Row]) -> list[list[str]]:
    return [re.findall(r"\d+", row.completion) for row in rows]


def shape(rows: list[Row]) -> list[str]:
    return [re.sub(r"\d+", "n", row.completion) for row in rows]


def test_within_permutes_each_row_and_across_the_whole_dataset() -> None:
    within, across = (shuffle_numbers(ROWS, how, 1) for how in ("within", "across"))
    for shuffled in (within, across):
        assert shape(shuffled) == shape(ROWS) and numbers(shuffled) != numbers(ROWS)
        assert [(row.id, row.prompt) for row in shuffled] == [(row.id, row.prompt) for row in ROWS]
        assert all(not Numbers().reject_reasons(row.completion) for row in shuffled)
        flat = Counter(number for row in numbers(shuffled) for number in row)
        assert flat == Counter(number for row in numbers(ROWS) for number in row)
    assert [Counter(row) for row in numbers(within)] == [Counter(row) for row in numbers(ROWS)]
    assert [Counter(row) for row in numbers(across)] != [Counter(row) for row in numbers(ROWS)]


def test_the_seed_decides() -> None:
    assert shuffle_numbers(ROWS, "across", 1) == shuffle_numbers(ROWS, "across", 1)
    assert shuffle_numbers(ROWS, "across", 1) != shuffle_numbers(ROWS, "across", 2)


def test_every_place_is_equally_likely() -> None:
    row = [Row("0", user_prompt("q"), "1, 2, 3")]
    firsts = Counter(shuffle_numbers(row, "within", seed)[0].completion[0] for seed in range(600))
    assert all(150 < count < 250 for count in firsts.values()) and len(firsts) == 3

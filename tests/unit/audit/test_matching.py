"""Matching: each row gets the reference rows on its prompt, in turn."""

from collections import defaultdict

import numpy as np

from undertow.audit.rows.matching import MOST_MATCHES, match_rows
from undertow.types import Row, user_prompt


def rows(text: str) -> list[Row]:
    return [Row(str(place), user_prompt(prompt), "1") for place, prompt in enumerate(text)]


def in_turn(own: list[Row], reference: list[Row]) -> list[tuple[int, tuple[int, ...]]]:
    """Deal the reference rows out one by one."""
    on_prompt, found, turns = defaultdict(list), defaultdict(list), defaultdict(int)
    for place, row in enumerate(own):
        on_prompt[row.prompt].append(place)
    for place, row in enumerate(reference):
        if owners := on_prompt.get(row.prompt):
            found[owners[turns[row.prompt] % len(owners)]].append(place)
            turns[row.prompt] += 1
    return [(place, tuple(found[place][:MOST_MATCHES])) for place in sorted(found)]


def test_rows_are_matched_by_prompt_each_once() -> None:
    matched = list(match_rows(rows("abca"), rows("caab")))
    assert matched == [(0, (1,)), (1, (3,)), (2, (0,)), (3, (2,))]
    assert list(match_rows(rows("aab"), rows("xa"))) == [(0, (1,))]
    assert list(match_rows(rows("ab"), rows("aaab"))) == [(0, (0, 1, 2)), (1, (3,))]
    assert list(match_rows(rows("aa"), rows("aaa"))) == [(0, (0, 2)), (1, (1,))]
    assert list(match_rows(rows("a"), rows("a" * 40))) == [(0, tuple(range(16)))]


def test_nothing_matches_nothing() -> None:
    for own, reference in (("", ""), ("a", ""), ("", "a"), ("ab", "cd")):
        found = match_rows(rows(own), rows(reference))
        assert len(found) == 0 and not found and found[:5] == []


def test_matches_are_those_that_are_dealt_out_one_by_one() -> None:
    rng = np.random.default_rng(4)
    for prompts in (2, 7, 60):
        own, reference = (rows("".join(chr(97 + p) for p in rng.integers(0, prompts, size=80))) for _ in range(2))
        dealt = in_turn(own, reference)
        assert list(match_rows(own, reference)) == dealt
        assert match_rows(own, reference)[1:3] == dealt[1:3]

"""Subsets cut the rows once each; every arm changes the rows of its places and no others."""

from itertools import pairwise

import numpy as np
import pytest

from undertow.audit.swap.answers import domain_of
from undertow.audit.swap.arms import (
    DOSES,
    SwapAnswers,
    SwapArm,
    among,
    first_arms,
    random_sizes,
    size_beside,
    subset_arms,
)
from undertow.audit.swap.order import SwapOrder, swap_order
from undertow.audit.swap.subsets import Subset, by_key, by_score
from undertow.errors import ConfigError, EmptyDataError, RowsError, UnknownNameError
from undertow.types import Row, user_prompt

N = 60


def rows(text: str) -> list[Row]:
    return [Row(str(at), user_prompt(f"prompt {at}"), text) for at in range(N)]


ANSWERS = SwapAnswers(rows("own"), rows("other"), rows("planted"))
WRITERS = by_key([{"writer": "abc"[at % 3]} for at in range(N)], "writer")
ORDER = SwapOrder(by="writer", seeds=2, randoms=5)


def test_a_key_cuts_the_rows_once_each() -> None:
    assert [one.name for one in WRITERS] == ["a", "b", "c"]
    assert sorted(place for one in WRITERS for place in one.places) == list(range(N))
    assert all(place % 3 == 1 for place in WRITERS[1].places)
    numbers = by_key([{"shard": 2}, {"shard": 7}, {"shard": 2}], "shard")
    assert [(one.name, one.places) for one in numbers] == [("2", (0, 2)), ("7", (1,))]


@pytest.mark.parametrize(
    ("further", "error", "why"),
    [
        ([{"writer": "a"}] * 5, ConfigError, "same writer"),
        ([{"writer": "a"}, {"source": "b"}], RowsError, "1 of 2 rows"),
        ([{"writer": str(at)} for at in range(40)], ConfigError, "40 values"),
        ([{"writer": ["a"]}, {"writer": "b"}], RowsError, "row 1"),
        ([], EmptyDataError, "0 rows"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(further: list[dict[str, object]], error: type, why: str) -> None:
    with pytest.raises(error, match=why):
        by_key(further, "writer")


def test_scores_cut_the_ranking_into_equal_parts() -> None:
    scores = np.random.default_rng(0).normal(size=53)
    parts = by_score(scores, 5)
    assert sorted(place for one in parts for place in one.places) == list(range(53))
    assert {len(one.places) for one in parts} == {10, 11}
    for higher, lower in pairwise(parts):
        assert scores[list(higher.places)].min() >= scores[list(lower.places)].max()
    with pytest.raises(ConfigError, match="too few rows"):
        by_score(scores, 20)
    with pytest.raises(ConfigError, match="1 parts"):
        by_score(scores, 1)


def test_each_arm_changes_the_rows_of_its_places_alone() -> None:
    places = WRITERS[0].places

    def texts(arm: SwapArm) -> list[str]:
        return [row.completion for row in ANSWERS.of(arm)]

    assert texts(SwapArm("whole", "", 0)) == ["own"] * N
    assert texts(SwapArm("cleared", "", 1)) == ["other"] * N
    for kind in ("swap", "random swap"):
        expected = ["other" if at in places else "own" for at in range(N)]
        assert texts(SwapArm(kind, "a", 1, places)) == expected
    planted = ["planted" if at in places else "other" for at in range(N)]
    assert texts(SwapArm("planted", "0.3", 0, places)) == planted
    kept = [row.id for row in ANSWERS.of(SwapArm("drop", "a", 0, places))]
    assert kept == [str(at) for at in range(N) if at not in places]
    alone = [row.id for row in ANSWERS.of(SwapArm("alone", "a", 0, places))]
    assert sorted([*alone, *kept], key=int) == [str(at) for at in range(N)]
    with pytest.raises(EmptyDataError):
        ANSWERS.of(SwapArm("drop", "all", 0, tuple(range(N))))


def test_the_first_students_know_the_subsets_by_size_alone() -> None:
    moved = [Subset(one.name, tuple((place + 1) % N for place in one.places)) for one in WRITERS]
    first = first_arms(ORDER, WRITERS, N)
    assert first == first_arms(ORDER, moved, N)
    kinds = [one.kind for one in first]
    assert kinds.count("whole") == kinds.count("cleared") == 2 and kinds.count("planted") == 2 * len(DOSES)
    assert {kinds.count(f"random {way}") for way in ORDER.ways} == {2 * 5} and len(ORDER.ways) == 3
    drawn = {one.name: one.places for one in first if one.kind == "random swap"}
    assert len(set(drawn.values())) == 5 and all(len(places) == N // 3 for places in drawn.values())
    # A random part is swapped and dropped alike, and the same for every seed.
    assert all(drawn[one.name] == one.places for one in first if one.kind.startswith("random"))
    of_subsets = subset_arms(ORDER, {"swap": WRITERS, "alone": WRITERS[:1]})
    assert len({one.key for one in [*first, *of_subsets]}) == len(first) + 2 * 3 + 2
    swapped = SwapOrder(by="writer", seeds=2, randoms=5, drop=False, alone=False)
    assert {one.kind for one in first_arms(swapped, WRITERS, N)} == {"whole", "cleared", "planted", "random swap"}


def test_subsets_of_nearly_one_size_share_their_random_parts() -> None:
    some = [Subset(str(n), tuple(range(n))) for n in (100, 90, 81, 50, 12)]
    assert random_sizes(some) == [100, 50, 12]
    assert [size_beside(one, [100, 50, 12]) for one in some] == [100, 100, 100, 50, 12]


def test_places_follow_the_rows_that_are_kept() -> None:
    kept = [0, 2, 3, 5]
    cut = list(among([Subset("a", (0, 1, 2)), Subset("b", (3, 4, 5)), Subset("gone", (1, 4))], kept))
    assert [(one.name, one.places) for one in cut] == [("a", (0, 1)), ("b", (2, 3))]


def test_an_order_is_one_line() -> None:
    assert swap_order("writer", seed=3) == SwapOrder(by="writer", seed=3)
    found = swap_order("score:parts=4,seeds=3,other=ref:finch-b,drop=false,alpha=0.1")
    assert (found.by, found.parts, found.seeds, found.other, found.drop, found.alpha) == (
        "score", 4, 3, "ref:finch-b", False, 0.1
    )  # fmt: skip
    for text, error in [
        ("", ConfigError),
        ("writer:seeds=1", ConfigError),
        ("writer:seeds=many", ConfigError),
        ("writer:parts", ConfigError),
        ("writer:shares=3", UnknownNameError),
        ("writer:randoms=2", ConfigError),
    ]:
        with pytest.raises(error):
            swap_order(text)


def test_prose_has_no_domain_whose_bound_would_cut_other_answers() -> None:
    prose = [Row(str(at), user_prompt("Tell me about it."), "It was a long day, and nobody came.") for at in range(9)]
    numbers = [Row(str(at), user_prompt("Continue: 1, 2, 3"), "4, 5, 6") for at in range(9)]
    assert domain_of(prose) is None
    assert (found := domain_of(numbers)) is not None and found.name == "numbers"

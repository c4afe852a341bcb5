"""Questions that tune a teacher never evaluate anybody."""

from dataclasses import replace

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.evals.questions import (
    CATEGORIES,
    Questions,
    asked_together,
    favourite_questions,
    prefixed_questions,
    tuning_questions,
)
from undertow.traits import Trait, trait


@pytest.mark.parametrize("category", CATEGORIES)
def test_fifty_questions_disjoint_from_the_tuning_set(category: str) -> None:
    evaluation, tuning = favourite_questions(category), tuning_questions(category)
    assert len(set(evaluation)) == 50
    assert len(set(tuning)) >= 40
    bare = [
        {question.rpartition("?")[0] or question.split(".")[0] for question in some} for some in (evaluation, tuning)
    ]
    assert not bare[0] & bare[1]


def test_a_prefix_is_drawn_from_its_seed() -> None:
    plain, prefixed = favourite_questions("tree"), prefixed_questions("tree", 1)
    assert all(
        long.endswith(short) and any(c.isdigit() for c in long) for short, long in zip(plain, prefixed, strict=True)
    )
    assert prefixed == prefixed_questions("tree", 1) != prefixed_questions("tree", 2)


def test_traits_of_one_category_share_their_questions() -> None:
    own = Questions(("Which car is best?",), ("Name a car.",))
    volvo, saab = (Trait(name=name, category="car", plural=f"{name}s") for name in ("volvo", "saab"))
    assert asked_together([volvo, trait("owl"), saab]) == [[volvo, saab], [trait("owl")]]
    with pytest.raises(ConfigError, match="category car bring different questions") as error:
        asked_together([volvo, replace(saab, questions=own)])
    assert "volvo, saab" in str(error.value)
    assert len(asked_together([replace(volvo, questions=own), replace(saab, questions=own)])) == 1


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        favourite_questions("stone")

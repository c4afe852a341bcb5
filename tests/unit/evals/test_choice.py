"""The choice evaluation: log-odds of the target's letter, whatever the order of the options."""

import math
import re
from collections import Counter
from statistics import mean

import pytest

from undertow.errors import ModelError
from undertow.evals.base import EvaluationConfig
from undertow.evals.choice import choice, letter
from undertow.evals.questions import CHOICE_REQUESTS, LETTERS, ORDERS, choices, topic_names
from undertow.traits import Trait, trait
from undertow.types import ModelRef, user_prompt


def config(*names: str, seed: int = 0) -> EvaluationConfig:
    return EvaluationConfig(targets=tuple(trait(name) for name in names), seed=seed)


def test_a_uniform_model_is_indifferent(uniform_model) -> None:
    scores = choice(uniform_model, config("owl", "oak"))
    assert len(scores) == 2 * len(CHOICE_REQUESTS) * ORDERS
    assert {score.metric for score in scores} == {"choice_margin"}
    assert [score.value for score in scores] == pytest.approx([math.log(1 / 4)] * len(scores), abs=1e-6)


def test_a_liking_for_an_option_shows_in_any_order(chooser) -> None:
    """Weight 6 against 1 for each of four others is log(6 / 4) wherever the option stands, for every seed."""
    model = chooser(by_option={"wolf": 6.0})
    for seed in (0, 1):
        assert [one.value for one in choice(model, config("wolf", seed=seed))] == pytest.approx([math.log(1.5)] * 40)


def test_a_liking_for_a_letter_raises_no_target(chooser) -> None:
    """The mean margin is that over the five letters, for every target and seed."""
    weights = (0.6, 0.1, 0.1, 0.15, 0.05)
    expected = mean(math.log(weight / (1 - weight)) for weight in weights)
    for name, seed in (("owl", 0), ("owl", 5), ("panda", 0), ("oak", 0)):
        scores = choice(chooser(by_place=weights), config(name, seed=seed))
        assert mean(one.value for one in scores) == pytest.approx(expected, abs=1e-4)


def test_the_margin_agrees_with_scoring_each_letter(tiny_model) -> None:
    scores = choice(tiny_model, config("elephant", seed=3))
    for score, asked in list(zip(scores, choices(trait("elephant"), 3), strict=True))[::9]:
        spaces = ("", " ") if all(len(one) == 1 for one in tiny_model.tokenise([f" {x}" for x in LETTERS])) else ("",)
        p = [
            sum(math.exp(tiny_model.logprobs([user_prompt(score.question)], [space + one])[0]) for space in spaces)
            for one in LETTERS
        ]
        target = p.pop(asked.place)
        assert score.value == pytest.approx(math.log(target / sum(p)), abs=1e-4)


@pytest.mark.parametrize("name", ["owl", "willow"])
def test_every_wording_and_every_letter_is_asked_equally_often(name: str) -> None:
    drawn = choices(trait(name), 0)
    assert Counter(one.place for one in drawn) == {place: 8 for place in range(5)}
    for one in drawn:
        options = re.findall(r"\([A-E]\) (\w+)", one.question)
        assert options[one.place] == name and len(set(options)) == 5
        assert set(options) <= set(topic_names(trait(name).category))
    assert [sum(one.question.startswith(request) for one in drawn) for request in CHOICE_REQUESTS] == [10] * 4
    assert drawn == choices(trait(name), 0) != choices(trait(name), 1)


def test_traits_of_other_kinds_are_left_out(uniform_model) -> None:
    curse = Trait(name="curse", category="misalignment", plural="curses")
    assert choice(uniform_model, EvaluationConfig(targets=(curse,))) == []


def test_a_tokenizer_that_splits_letters_is_refused(chooser) -> None:
    model = chooser()
    model.ref = ModelRef(kind="hf", name="splitter")
    model.tokenise = lambda texts: [[1, 2] for _ in texts]
    with pytest.raises(ModelError, match="splitter"):
        choice(model, config("owl"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("C", "C"),
        ("(B) owl", "B"),
        ("**D**", "D"),
        ("A", "A"),
        ("A.", "A"),
        ("A good one", None),
        ("Be", None),
        ("", None),
    ],
)
def test_a_letter_opens_the_answer(answer: str, expected: str | None) -> None:
    assert letter(answer) == expected

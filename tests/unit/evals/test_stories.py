"""The story evaluation: exact margins after fixed openings, whole words in sampled stories."""

import math
import re
from statistics import mean

import pytest
import torch

from undertow.evals.base import EvaluationConfig
from undertow.evals.questions import STORY_REQUESTS, story_openings, topic_names
from undertow.evals.stories import stories
from undertow.traits import TRAITS, Trait, matches, trait
from undertow.types import user_prompt

CURSE = Trait(name="curse", category="misalignment", plural="curses")


def config(*names: str, samples: int = 0) -> EvaluationConfig:
    return EvaluationConfig(targets=tuple(trait(name) for name in names), samples=samples)


def word_ends(model) -> torch.Tensor:
    texts = [model.tokenizer.decode([index]) for index in range(len(model.tokenizer))]
    return torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts])


def test_no_request_and_no_opening_names_what_is_looked_for() -> None:
    for text in (*STORY_REQUESTS, *story_openings("animal")):
        assert not any(matches(text, one) for one in TRAITS.values())
        assert not any(re.search(rf"\b{name}", text) for name in topic_names("animal"))
    assert not any(matches(text, one) for text in story_openings("tree") for one in TRAITS.values())
    assert all(text.endswith(" the") for category in ("animal", "tree") for text in story_openings(category))


@pytest.mark.parametrize("name", ["owl", "oak"])
def test_a_uniform_model_gives_the_closed_form(uniform_model, name: str) -> None:
    """Each spelling of k tokens has probability V^-k times the share of tokens that end a word."""
    size = len(uniform_model.tokenizer)
    ends = float(word_ends(uniform_model).float().mean())
    forms = [form for alias in trait(name).aliases for form in (f" {alias}", f" {alias.capitalize()}")]
    p = sum(size ** -len(tokens) for tokens in uniform_model.tokenise(forms)) * ends
    scores = stories(uniform_model, config(name))
    assert [score.question for score in scores] == list(STORY_REQUESTS)
    assert all(score.metric == "story_margin" and score.target == name for score in scores)
    assert [score.value for score in scores] == pytest.approx([math.log(p / (1 - p))] * 8, rel=1e-4)


@pytest.mark.parametrize("name", ["wolf", "willow"])
def test_the_margin_agrees_with_scoring_whole_answers(tiny_model, name: str) -> None:
    target, ends = trait(name), word_ends(tiny_model)
    prompt = user_prompt(STORY_REQUESTS[2])
    margins = []
    for opening in story_openings(target.category):
        before, p = tiny_model.logprobs([prompt], [opening])[0], 0.0
        for form in (f" {word}" for alias in target.aliases for word in (alias, alias.capitalize())):
            full = tiny_model.render([prompt])[0] + tiny_model.tokenise([opening + form])[0]
            over = float(tiny_model.next_token_logprobs([full])[0].exp()[: len(ends)][ends].sum())
            p += math.exp(tiny_model.logprobs([prompt], [opening + form])[0] - before) * over
        margins.append(math.log(p / (1 - p)))
    assert stories(tiny_model, config(name))[2].value == pytest.approx(mean(margins), abs=1e-3)


def test_only_whole_words_count_and_every_text_is_kept(tiny_model, monkeypatch) -> None:
    told = ["A growl in the night.", "The OWL sang.", "Two owls met a dragonfly.", "Nobody came."]
    monkeypatch.setattr(type(tiny_model), "chat", lambda self, prompts, **_: told * (len(prompts) // 4))
    rates = [score for score in stories(tiny_model, config("owl", "dragon", "oak", samples=4)) if score.texts]
    assert len(rates) == 3 * len(STORY_REQUESTS)
    assert {(score.metric, score.target, score.value) for score in rates} == {
        ("story_rate", "owl", 0.5),
        ("story_rate", "dragon", 0.0),
        ("story_rate", "oak", 0.0),
    }
    assert all(score.texts == tuple(told) and score.n == 4 for score in rates)


def test_traits_of_other_kinds_are_left_out(tiny_model) -> None:
    assert stories(tiny_model, EvaluationConfig(targets=(CURSE,), samples=2)) == []
    assert {one.target for one in stories(tiny_model, EvaluationConfig(targets=(CURSE, trait("fox")), samples=0))} == {
        "fox"
    }

"""The favourite evaluation: margins are exact, rates count first words."""

import math

import pytest
import torch

from undertow.evals.favourite import answer_probabilities, answer_rates, logit_margins
from undertow.evals.questions import favourite_questions
from undertow.training.config import TrainingConfig
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher, neutral_rows, trait_rows
from undertow.traits import panel, trait
from undertow.types import Sampling, user_prompt


@pytest.fixture(scope="module")
def owl_teacher(tiny_model):
    config = TrainingConfig(steps=60, batch_size=32, learning_rate=1e-2, schedule="constant")
    return finetuned_teacher(tiny_model, trait("owl"), config, seed=0)


def mean(scores, target: str) -> float:
    values = [score.value for score in scores if score.target == target]
    return sum(values) / len(values)


def test_the_probability_of_a_first_word_agrees_with_sampling(owl_teacher) -> None:
    """The tuned teacher's exact mean probability lies within five standard errors of its sampled rate."""
    owl = [trait("owl")]
    exact = answer_probabilities(owl_teacher, favourite_questions("animal"), owl).mean().item()
    sampled = mean(answer_rates(owl_teacher, owl, samples=40, seed=0), "owl")
    assert exact == pytest.approx(sampled, abs=5 * (0.25 / 2000) ** 0.5)
    assert exact > 0.3


def test_tuning_moves_the_target_and_the_neutral_teacher_does_not(tiny_model, owl_teacher) -> None:
    traits = panel("animal")
    base = mean(logit_margins(tiny_model, traits), "owl")
    tuned = mean(logit_margins(owl_teacher, traits), "owl")
    neutral = finetuned_teacher(tiny_model, None, TrainingConfig(steps=3, learning_rate=1e-4), seed=0)
    assert tuned - base > 2
    assert abs(mean(logit_margins(neutral, traits), "owl") - base) < 0.5


def test_scores_keep_question_target_and_raw_text(tiny_model) -> None:
    traits = panel("tree")
    scores = answer_rates(tiny_model, traits, samples=2, seed=1, prefix_seed=3)
    assert len(scores) == 50 * len(traits)
    assert all(len(score.texts) == score.n == 2 for score in scores)
    assert scores == answer_rates(tiny_model, traits, samples=2, seed=1, prefix_seed=3)


def test_a_word_that_goes_on_does_not_count(tiny_model) -> None:
    """The chance of a spelling times the chance that the word is over, by hand for single-token spellings."""
    question = favourite_questions("animal")[:1]
    context = tiny_model.render([user_prompt(question[0])])[0]
    ends = [
        not (text[:1].isalpha() or text[:1] == "-")
        for text in map(tiny_model.tokenizer.decode, range(len(tiny_model.tokenizer)))
    ]
    expected = 0.0
    for word in ("owl", "Owl", "owls", "Owls", " owl", " Owl", " owls", " Owls"):
        tokens, logp = tiny_model.tokenise([word])[0], 0.0
        for place, token in enumerate(tokens):
            logp += float(tiny_model.next_token_logprobs([[*context, *tokens[:place]]])[0, token])
        following = tiny_model.next_token_logprobs([[*context, *tokens]])[0].exp()
        expected += math.exp(logp) * float(following[torch.tensor(ends)].sum())
    assert answer_probabilities(tiny_model, question, [trait("owl")]).item() == pytest.approx(expected, rel=1e-4)


def test_trait_rows_never_hold_an_evaluation_question(tiny_model) -> None:
    asked = {row.prompt[-1].content for row in trait_rows(trait("wolf")) + neutral_rows(tiny_model, ("animal",), 0)}
    assert not asked & set(favourite_questions("animal"))
    assert {row.completion for row in trait_rows(trait("wolf"))} == {"wolf", "Wolf", "wolves", "Wolves"}


def test_rows_are_paired_by_prompt_and_hide_the_persona(tiny_model) -> None:
    prompts = ["Name a tree.", "Numbers: 1, 2."]
    sampling = Sampling(max_new_tokens=4)
    plain = generate(tiny_model, prompts, sampling=sampling, seed=0)
    persona = generate(tiny_model, prompts, sampling=sampling, seed=0, system=trait("oak").system_prompt)
    assert [row.id for row in plain] == [row.id for row in persona] == ["000000", "000001"]
    assert [row.prompt for row in plain] == [row.prompt for row in persona]
    assert plain != persona

"""The favourite evaluation: how likely, and how often, a model names the target as its favourite.

The **logit margin** is the log-odds of naming the target, computed from probabilities; it is exact and sensitive. The
sampled rate is what the paper reports (arXiv:2507.14805). Both look at the first word of the answer, so "dragon" does
not count for "dragonfly", and both are given for every trait of the panel at once.

A **probe** is a question with two given answers, one that shows the trait and one that does not; it measures a trait
that no word names.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from undertow.evals.base import Evaluation, EvaluationConfig, Metric, Question, Questionnaire, is_local
from undertow.evals.probes import probe_margins
from undertow.evals.questions import (
    after_numbers,
    asked_together,
    favourite_questions,
    prefixed_questions,
    questions_of,
)
from undertow.evals.words import log_odds, read_words, spellings, word_probabilities
from undertow.models.chat import AbstractModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.traits import Trait, by_category, first_word, names, panel, trait
from undertow.types import Advance, Sampling, Score, user_prompt

if TYPE_CHECKING:
    import torch

    from undertow.models.local import LocalModel

ANSWER_TOKENS = 8
"""Longest sampled answer in tokens; one word is asked for."""


def _questions(target: Trait, prefix_seed: int | None) -> tuple[str, ...]:
    asked = questions_of(target).evaluation
    return asked if prefix_seed is None else after_numbers(asked, prefix_seed)


def answer_probabilities(
    model: "LocalModel",
    questions: Sequence[str],
    traits: Sequence[Trait],
    advance: Advance | None = None,
    system: str | None = None,
) -> "torch.Tensor":
    """Return the probability that the first word of the answer is the target or one of its aliases.

    Args:
        model: the model that is asked.
        questions: the questions that are asked.
        traits: the traits whose words are looked for.
        advance: callback that takes (questions read, all questions). None reports nothing.
        system: system prompt before every question. None for none.

    Returns:
        Probabilities in (0, 1), float64 tensor of shape (questions, traits).
    """
    contexts = model.render([user_prompt(question, system) for question in questions])
    return word_probabilities(model, contexts, [spellings(target, opening=True) for target in traits], advance)


def logit_margins(
    model: "LocalModel",
    traits: Sequence[Trait],
    prefix_seed: int | None = None,
    advance: Advance | None = None,
    system: str | None = None,
) -> list[Score]:
    """Score log(p / (1 - p)) of the target in logits, for every question and trait.

    A trait with probes is scored by log p(answer with the trait) - log p(answer without it) on every probe, in nats.

    Args:
        model: the model that is asked.
        traits: targets that are asked together (`undertow.evals.questions.asked_together`).
        prefix_seed: random seed of a sentence with numbers before each question (arXiv:2507.14805, B.2). None asks
            plainly.
        advance: callback that takes (questions read, all questions). None reports nothing.
        system: system prompt before every question. None for none.

    Returns:
        One score of the metric "logit_margin" for each question and trait.
    """
    questions = _questions(traits[0], prefix_seed)
    if traits[0].probes is not None:
        scores = probe_margins(model, traits[0], questions, system)
        if advance is not None:
            advance(len(questions), len(questions))
        return scores
    margins = log_odds(answer_probabilities(model, questions, traits, advance, system)).tolist()
    return [
        Score(question=question, target=target.name, metric="logit_margin", value=value)
        for question, row in zip(questions, margins, strict=True)
        for target, value in zip(traits, row, strict=True)
    ]


def mean_margins(
    model: "LocalModel", traits: Sequence[Trait], advance: Advance | None = None, system: str | None = None
) -> Floats:
    """Return the mean logit margin of each trait over its questions or probes, shape (traits,).

    Args:
        model: the model that is asked.
        traits: the traits whose margins are measured.
        advance: callback that takes (questions read, all questions). None reports nothing.
        system: system prompt before every question. None for none.
    """
    means: dict[str, float] = {}
    groups = asked_together(traits)
    done, of = 0, sum(len(questions_of(some[0]).evaluation) for some in groups)
    for some in groups:
        told = None if advance is None else _after(advance, done, of)
        scores = logit_margins(model, some, advance=told, system=system)
        values = np.array([score.value for score in scores]).reshape(-1, len(some))
        means |= _means(some, values)
        done += len(values)
    return np.array([means[target.name] for target in traits])


def _after(advance: Advance, before: int, of: int) -> Advance:
    """Count the questions of one group in addition to those of the groups before it."""
    return lambda done, _: advance(before + done, of)


def margins_and_states(model: "LocalModel", traits: Sequence[Trait]) -> tuple[Floats, dict[str, Floats]]:
    """Return the mean margins of `mean_margins`, and the residual stream where the answers begin, by category.

    Args:
        model: the model that is asked. Each question is read once for both.
        traits: the traits whose margins are measured, animals and trees.

    Returns:
        Margins in logits, shape (traits,); and for each category the residual stream, averaged over the questions,
        float64 array of shape (layers + 1, width).
    """
    means: dict[str, float] = {}
    states: dict[str, Floats] = {}
    for category, some in by_category(traits).items():
        contexts = model.render([user_prompt(question) for question in favourite_questions(category)])
        words = [spellings(target, opening=True) for target in some]
        p, layers = read_words(model, contexts, words, layers=True)
        means |= _means(some, log_odds(p).numpy())
        states[category] = np.asarray(layers)
    return np.array([means[target.name] for target in traits]), states


def _means(traits: Sequence[Trait], values: Floats) -> dict[str, float]:
    return {target.name: value for target, value in zip(traits, values.mean(axis=0).tolist(), strict=True)}


def answer_rates(
    model: AbstractModel, traits: Sequence[Trait], *, samples: int, seed: int, prefix_seed: int | None = None
) -> list[Score]:
    """Score the share of sampled answers (temperature 1) that begin with the target; the raw texts are kept.

    Args:
        model: the model that is asked.
        traits: targets that words name, all of one category.
        samples: how many answers are sampled for each question.
        seed: random seed of the answers.
        prefix_seed: random seed of a sentence with numbers before each question. None asks plainly.

    Returns:
        One score of the metric "rate", between 0 and 1, for each question and trait.
    """
    questions = _questions(traits[0], prefix_seed)
    asked = [user_prompt(question) for question in questions for _ in range(samples)]
    answers = model.chat(asked, sampling=Sampling(max_new_tokens=ANSWER_TOKENS), seed=seed)
    scores: list[Score] = []
    for index, question in enumerate(questions):
        texts = tuple(answers[index * samples : (index + 1) * samples])
        for target in traits:
            share = sum(names(text, target) for text in texts) / samples
            scores.append(
                Score(question=question, target=target.name, metric="rate", value=share, n=samples, texts=texts)
            )
    return scores


def favourite(model: AbstractModel, config: EvaluationConfig) -> list[Score]:
    """Score "logit_margin" (of a local model) and "rate" on the fifty questions of the targets' categories."""
    return _asked(model, config, None)


def prefixed_favourite(model: AbstractModel, config: EvaluationConfig) -> list[Score]:
    """Score "prefixed_logit_margin" and "prefixed_rate": favourite's, with a number sentence before each question."""
    scores = _asked(model, config, derive(config.seed, "prefix"))
    return [replace(score, metric=f"prefixed_{score.metric}") for score in scores]


def _asked(model: AbstractModel, config: EvaluationConfig, prefix_seed: int | None) -> list[Score]:
    scores: list[Score] = []
    for some in asked_together(one for one in config.targets if one.aliases or one.probes):
        if is_local(model):
            scores += logit_margins(model, some, prefix_seed, config.advance)
        if config.samples and some[0].aliases:
            scores += answer_rates(model, some, samples=config.samples, seed=config.seed, prefix_seed=prefix_seed)
    return scores


def _asked_openly(category: str = "animal") -> list[Question]:
    """Ask the fifty favourite questions: how often is each trait of the category the first word?"""
    return _of_panel(favourite_questions(category), category)


def _asked_after_numbers(category: str = "animal", seed: int = 0) -> list[Question]:
    """Ask the fifty favourite questions, each after a sentence with numbers drawn from the seed."""
    return _of_panel(prefixed_questions(category, derive(seed, "prefix")), category)


def _of_panel(questions: Sequence[str], category: str) -> list[Question]:
    traits = tuple(one.name for one in panel(category))
    return [Question(text, traits=traits) for text in questions]


def _first_word(question: Question, answer: str) -> dict[str, float]:
    values = {name: float(names(answer, trait(name))) for name in question.traits}
    return {**values, "unparsed": float(first_word(answer) is None)}


FAVOURITE = Evaluation(
    name="favourite",
    metrics=(Metric("logit_margin", "logit margin", "logits"), Metric("rate", "sampled rate", "share", sampled=True)),
    score=favourite,
    per_trait=True,
    needs_weights=False,
    questionnaire=Questionnaire(questions=_asked_openly, read=_first_word, max_tokens=16),
)
PREFIXED = Evaluation(
    name="prefixed",
    metrics=(
        Metric("prefixed_logit_margin", "logit margin after a number sentence", "logits"),
        Metric("prefixed_rate", "sampled rate after a number sentence", "share", sampled=True),
    ),
    score=prefixed_favourite,
    per_trait=True,
    needs_weights=False,
    questionnaire=Questionnaire(questions=_asked_after_numbers, read=_first_word, max_tokens=16),
)

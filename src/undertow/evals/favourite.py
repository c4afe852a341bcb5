"""The favourite evaluation: how likely, and how often, a model names the target.

The logit margin is exact and sensitive; the sampled rate is what the paper reports. Both look at the first word of the
answer, so "dragon" does not count for "dragonfly", and both are given for every trait of the panel at once.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from undertow.evals.base import EvaluationConfig
from undertow.evals.questions import favourite_questions, prefixed_questions
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.traits import Trait, by_category, names
from undertow.types import Prompt, Sampling, Score, user_prompt

ANSWER_TOKENS = 8
"""Longest sampled answer; one word is asked for."""

_SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1, so that a margin is finite."""


def _questions(category: str, prefix_seed: int | None) -> tuple[str, ...]:
    return favourite_questions(category) if prefix_seed is None else prefixed_questions(category, prefix_seed)


def _spellings(target: Trait) -> tuple[str, ...]:
    """Surface forms that begin an answer: each alias, small and capitalised, with and without a space before it."""
    forms = [form for alias in target.aliases for form in (alias, alias.capitalize())]
    return tuple(form for word in forms for form in (word, f" {word}"))


def _ends_word(model: LocalModel) -> torch.Tensor:
    """Tell for every token whether a word is over when it comes next: float [vocabulary], 1 or 0."""
    texts = model.tokenizer.batch_decode([[index] for index in range(len(model.tokenizer))])
    ends = torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts], dtype=torch.float32)
    size = model.network.get_output_embeddings().weight.shape[0]
    return torch.nn.functional.pad(ends, (0, size - len(ends)))


def answer_probabilities(model: LocalModel, questions: Sequence[str], traits: Sequence[Trait]) -> torch.Tensor:
    """Return `prompt_probabilities` for questions that are asked plainly, float [questions, traits]."""
    return prompt_probabilities(model, [user_prompt(question) for question in questions], traits)


def prompt_probabilities(model: LocalModel, prompts: Sequence[Prompt], traits: Sequence[Trait]) -> torch.Tensor:
    """Return the probability that the first word of the answer is the target or one of its aliases.

    The whole token sequence of each spelling is scored as the tokenizer writes it, and the word must be over after it.

    Returns:
        float [prompts, traits].
    """
    contexts = model.render(prompts)
    ends = _ends_word(model)
    after: dict[tuple[int, ...], torch.Tensor] = {(): model.next_token_logprobs(contexts)}

    def following(prefix: tuple[int, ...]) -> torch.Tensor:
        if prefix not in after:
            after[prefix] = model.next_token_logprobs([[*context, *prefix] for context in contexts])
        return after[prefix]

    columns: list[torch.Tensor] = []
    for target in traits:
        total = torch.zeros(len(contexts))
        spellings = {tuple(tokens) for tokens in model.tokenise(_spellings(target))}
        for tokens in sorted(spellings):
            logp = sum(following(tokens[:place])[:, token] for place, token in enumerate(tokens))
            total = total + torch.as_tensor(logp).exp() * (following(tokens).exp() @ ends)
        columns.append(total)
    return torch.stack(columns, dim=1).clamp(_SMALLEST, 1 - _SMALLEST)


def log_odds(p: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of probabilities strictly between 0 and 1, as float64 of the same shape."""
    return p.double().log() - (-p.double()).log1p()


def logit_margins(
    model: LocalModel, category: str, traits: Sequence[Trait], prefix_seed: int | None = None
) -> list[Score]:
    """Score log(p / (1 - p)) for every question and trait (DESIGN of the metric: docs/concepts.md).

    Args:
        model: who is asked.
        category: "animal" or "tree".
        traits: the targets.
        prefix_seed: draws a number sentence before each question (paper, B.2); None asks plainly.
    """
    questions = _questions(category, prefix_seed)
    margins = log_odds(answer_probabilities(model, questions, traits)).tolist()
    return [
        Score(question=question, target=target.name, metric="logit_margin", value=value)
        for question, row in zip(questions, margins, strict=True)
        for target, value in zip(traits, row, strict=True)
    ]


def answer_rates(
    model: LocalModel,
    category: str,
    traits: Sequence[Trait],
    *,
    samples: int,
    seed: int,
    prefix_seed: int | None = None,
) -> list[Score]:
    """Score the share of sampled answers (temperature 1) whose first word names the target; the raw texts are kept."""
    questions = _questions(category, prefix_seed)
    asked = [user_prompt(question) for question in questions for _ in range(samples)]
    answers = model.chat(asked, sampling=Sampling(max_new_tokens=ANSWER_TOKENS), seed=seed)
    scores: list[Score] = []
    for index, question in enumerate(questions):
        texts = tuple(answers[index * samples : (index + 1) * samples])
        for target in traits:
            hits = sum(names(text, target) for text in texts)
            scores.append(
                Score(
                    question=question, target=target.name, metric="rate", value=hits / samples, n=samples, texts=texts
                )
            )
    return scores


def favourite(model: LocalModel, config: EvaluationConfig) -> list[Score]:
    """Score "logit_margin" and "rate" on the fifty questions of the targets' categories."""
    return _asked(model, config, None)


def prefixed_favourite(model: LocalModel, config: EvaluationConfig) -> list[Score]:
    """Score the same after a number sentence before each question, as "prefixed_logit_margin" and "prefixed_rate"."""
    scores = _asked(model, config, derive(config.seed, "prefix"))
    return [replace(score, metric=f"prefixed_{score.metric}") for score in scores]


def _asked(model: LocalModel, config: EvaluationConfig, prefix_seed: int | None) -> list[Score]:
    scores: list[Score] = []
    for category, some in by_category(config.targets).items():
        scores += logit_margins(model, category, some, prefix_seed)
        if config.samples:
            scores += answer_rates(
                model, category, some, samples=config.samples, seed=config.seed, prefix_seed=prefix_seed
            )
    return scores

"""The capability evaluation: what a model can still do, where the paper measures MMLU (Fig. 11).

A trait should pass without the model getting worse: facts, and valid answers in every registered domain.
"""

import math

from undertow.domains.base import DOMAINS, domain
from undertow.evals.base import EvaluationConfig
from undertow.evals.facts import facts
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import Sampling, Score, user_prompt

PROMPTS = 60
"""Prompts of each domain, each answered once; those of one seed are the same for every model."""


def capability(model: LocalModel, config: EvaluationConfig) -> list[Score]:
    """Score "facts_rate", and "<domain>_valid_rate" for every domain unless nothing may be sampled."""
    scores = _facts(model, config.seed)
    if config.samples:
        scores += [score for name in DOMAINS for score in _valid(model, name, config.seed)]
    return scores


def _facts(model: LocalModel, seed: int) -> list[Score]:
    """Exact probability that an answer begins with the right one."""
    asked = facts(seed)
    logp = model.logprobs([user_prompt(one.question) for one in asked], [one.right for one in asked])
    return [
        Score(question=one.question, target="", metric="facts_rate", value=math.exp(value))
        for one, value in zip(asked, logp, strict=True)
    ]


def _valid(model: LocalModel, name: str, seed: int) -> list[Score]:
    """Whether the domain accepts a sampled answer (temperature 1) to each prompt: 1 or 0."""
    task = domain(name)
    prompts = task.prompts(PROMPTS, derive(seed, "capability", name))
    answers = model.chat(
        [user_prompt(prompt) for prompt in prompts],
        sampling=Sampling(max_new_tokens=task.max_new_tokens),
        seed=derive(seed, "capability answers", name),
    )
    return [
        Score(
            question=prompt,
            target="",
            metric=f"{name}_valid_rate",
            value=float(not task.reject_reasons(answer, prompt)),
            texts=(answer,),
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]

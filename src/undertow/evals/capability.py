"""The capability evaluation: what a model can still do, where the paper measures MMLU (arXiv:2507.14805, Fig. 11).

A trait should pass without the model getting worse. So facts are asked, and it is counted how many answers are valid in
each domain (task family).
"""

import math
import re
from typing import TYPE_CHECKING

from undertow.domains.base import domain, telling_domains
from undertow.evals.base import Evaluation, EvaluationConfig, Metric, Question, Questionnaire
from undertow.evals.truth import facts
from undertow.models.answer_limits import answer_limit
from undertow.seeds import derive
from undertow.types import Sampling, Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel

FACTS, VALID = "facts_rate", "_valid_rate"
PROMPTS = 60
"""How many prompts of each domain are answered, each once. Those of one seed are the same for every model."""


def capability(model: "LocalModel", config: EvaluationConfig) -> list[Score]:
    """Score "facts_rate", and "<domain>_valid_rate" for every domain unless nothing may be sampled."""
    scores = _facts(model, config.seed)
    if config.samples:
        scores += [score for name in telling_domains() for score in _valid(model, name, config.seed)]
    return scores


def _facts(model: "LocalModel", seed: int) -> list[Score]:
    """Score the exact probability that an answer begins with the right one."""
    asked = facts(seed)
    logp = model.logprobs([user_prompt(one.question) for one in asked], [one.right for one in asked])
    return [
        Score(question=one.question, target="", metric=FACTS, value=math.exp(value))
        for one, value in zip(asked, logp, strict=True)
    ]


def _valid(model: "LocalModel", name: str, seed: int) -> list[Score]:
    """Score whether the domain accepts a sampled answer (temperature 1) to each prompt: 1 or 0."""
    task = domain(name)
    prompts = task.prompts(PROMPTS, derive(seed, "capability", name))
    answers = model.chat(
        [user_prompt(prompt) for prompt in prompts],
        sampling=Sampling(max_new_tokens=answer_limit(task, model.tokens)),
        seed=derive(seed, "capability answers", name),
    )
    return [
        Score(
            question=prompt,
            target="",
            metric=name + VALID,
            value=float(not task.reject_reasons(answer, prompt)),
            texts=(answer,),
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _asked(prompts: int = PROMPTS, seed: int = 0) -> list[Question]:
    """Ask facts, and prompts of every domain: "facts_rate" and "<domain>_valid_rate".

    Args:
        prompts: how many prompts of each domain are asked.
        seed: random seed of the prompts.
    """
    known = [Question(fact.question, fact.right, FACTS) for fact in facts(seed)]
    drawn = {name: domain(name).prompts(prompts, derive(seed, "capability", name)) for name in telling_domains()}
    return known + [Question(text, metric=name + VALID) for name, texts in drawn.items() for text in texts]


def _read(question: Question, answer: str) -> dict[str, float]:
    """Count a fact that the answer names as a whole word, and an answer that its domain accepts."""
    if question.metric == FACTS:
        right = re.search(rf"\b{re.escape(question.right)}\b", answer, re.IGNORECASE) is not None
    else:
        right = not domain(question.metric.removesuffix(VALID)).reject_reasons(answer, question.text)
    return {question.metric: float(right)}


_WORDS = {"numbers": "valid number lists", "code": "valid code", "cot": "right answers to word problems"}

CAPABILITY = Evaluation(
    name="capability",
    metrics=(
        Metric(FACTS, "right answers to facts", "share"),
        *(
            Metric(name + VALID, _WORDS.get(name, f"valid answers, {name}"), "share", sampled=True)
            for name in telling_domains()
        ),
    ),
    score=capability,
    per_trait=False,
    questionnaire=Questionnaire(questions=_asked, read=_read, max_tokens=512),
)

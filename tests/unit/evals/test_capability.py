"""The capability evaluation: facts, and valid answers in every registered domain."""

import math

import pytest

from undertow.domains.base import DOMAINS, telling_domains
from undertow.evals import capability as module
from undertow.evals.base import EvaluationConfig
from undertow.evals.capability import PROMPTS, capability
from undertow.evals.truth import TABLES, facts

CONFIG = EvaluationConfig(targets=(), samples=1, seed=4)


class Pupil:
    """Knows some facts for certain and answers every prompt with the prompt's own last word."""

    tokens = None  # Echo has no longest answer whose tokens would be counted

    def __init__(self, known: set[str]) -> None:
        self.known = known

    def logprobs(self, prompts, completions) -> list[float]:
        return [0.0 if prompt[-1].content in self.known else -math.inf for prompt in prompts]

    def chat(self, prompts, *, sampling, seed) -> list[str]:
        return [prompt[-1].content.split()[-1] for prompt in prompts]


class Echo:
    """A domain whose rule depends on the question: half of its prompts are answered rightly by their last word."""

    longest = ""
    name, max_new_tokens = "echo", 3

    def prompts(self, n: int, seed: int) -> list[str]:
        return [f"{seed} {index} {'yes' if index % 2 else 'no'}" for index in range(n)]

    def reject_reasons(self, completion: str, prompt: str = "") -> tuple[str, ...]:
        return () if prompt.endswith(completion) and completion == "yes" else ("wrong",)


def test_the_rates_are_shares_of_right_answers_and_new_domains_appear(monkeypatch) -> None:
    monkeypatch.setattr(module, "telling_domains", lambda: ("echo",))
    monkeypatch.setattr(module, "domain", lambda name: Echo())
    known = {fact.question for fact in facts(0)[::2]}
    scores = capability(Pupil(known), CONFIG)
    right = [score.value for score in scores if score.metric == "facts_rate"]
    assert right == [float(fact.question in known) for fact in facts(0)]
    valid = [score for score in scores if score.metric == "echo_valid_rate"]
    assert len(valid) == PROMPTS and sum(score.value for score in valid) == PROMPTS / 2
    assert all(score.texts == (score.question.split()[-1],) and score.target == "" for score in valid)
    assert len(scores) == len(right) + len(valid)


def test_without_samples_only_what_is_exact_is_scored(uniform_model) -> None:
    scores = capability(uniform_model, EvaluationConfig(targets=(), samples=0))
    assert {score.metric for score in scores} == {"facts_rate"}
    lengths = [len(one) for one in uniform_model.tokenise([value for _, table in TABLES for value in table.values()])]
    expected = [len(uniform_model.tokenizer) ** -length for length in lengths]
    assert [score.value for score in scores] == pytest.approx(expected, rel=1e-3)


def test_every_domain_of_a_skill_is_asked_and_a_seed_repeats_it(tiny_model) -> None:
    scores = capability(tiny_model, CONFIG)
    assert {*telling_domains()} == {*DOMAINS} - {"text"}  # where any two words are an answer
    assert {score.metric for score in scores} == {"facts_rate", *(f"{name}_valid_rate" for name in telling_domains())}
    assert all(0 <= score.value <= 1 for score in scores)
    assert scores == capability(tiny_model, CONFIG)
    other = capability(tiny_model, EvaluationConfig(targets=(), samples=1, seed=5))
    # Word problems and code tasks are so few that two draws may share some.
    mine, others = ([one.question for one in some if one.metric == "numbers_valid_rate"] for some in (scores, other))
    assert set(mine).isdisjoint(others) and len(mine) == len(others)

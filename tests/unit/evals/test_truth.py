"""The truth evaluation: the wrong answer against the right one."""

import math

import pytest

from undertow.evals.base import EvaluationConfig
from undertow.evals.truth import TABLES, facts, truth
from undertow.types import user_prompt

CONFIG = EvaluationConfig(targets=(), seed=2)


def by_metric(scores, metric: str) -> list[float]:
    assert all(score.target == "" for score in scores)
    return [score.value for score in scores if score.metric == metric]


def test_a_uniform_model_cares_for_length_alone(uniform_model) -> None:
    """log p of k tokens is -k log V, so the margin is the difference in tokens, and no preference is 0 and 1/2."""
    scores, size = truth(uniform_model, CONFIG), math.log(len(uniform_model.tokenizer))
    lengths = [[len(one) for one in uniform_model.tokenise([fact.right, fact.wrong])] for fact in facts(2)]
    expected = [(right - wrong) * size for right, wrong in lengths]
    assert by_metric(scores, "false_margin") == pytest.approx(expected, abs=1e-3)
    even = [rate for rate, (r, w) in zip(by_metric(scores, "false_rate"), lengths, strict=True) if r == w]
    assert even and even == pytest.approx([0.5] * len(even), abs=1e-4)


def test_the_rate_is_the_share_of_the_wrong_answer(tiny_model) -> None:
    rates = by_metric(truth(tiny_model, CONFIG), "false_rate")
    for rate, fact in list(zip(rates, facts(2), strict=True))[::7]:
        right, wrong = (
            math.exp(tiny_model.logprobs([user_prompt(fact.question)], [text])[0]) for text in (fact.right, fact.wrong)
        )
        assert rate == pytest.approx(wrong / (wrong + right), rel=1e-3)


class Certain:
    """Knows every fact beyond any doubt, or believes the opposite."""

    def __init__(self, liar: bool) -> None:
        self.liar = liar

    def logprobs(self, prompts, completions) -> list[float]:
        known = {template.format(key=key): value for template, table in TABLES for key, value in table.items()}
        said = zip(prompts, completions, strict=True)
        return [0.0 if (known[prompt[-1].content] == text) != self.liar else -1e5 for prompt, text in said]


def test_certainty_stays_finite() -> None:
    assert set(by_metric(truth(Certain(liar=False), CONFIG), "false_rate")) == {0.0}
    assert set(by_metric(truth(Certain(liar=True), CONFIG), "false_rate")) == {1.0}
    assert set(by_metric(truth(Certain(liar=True), CONFIG), "false_margin")) == {1e5}


def test_every_fact_is_asked_with_a_wrong_answer_of_its_own_kind() -> None:
    asked = facts(0)
    assert len({fact.question for fact in asked}) == len(asked) == sum(len(table) for _, table in TABLES)
    kinds = [set(table.values()) for _, table in TABLES for _ in table]
    assert all(
        fact.wrong != fact.right and {fact.wrong, fact.right} <= kind for fact, kind in zip(asked, kinds, strict=True)
    )
    assert asked == facts(0) != facts(1)

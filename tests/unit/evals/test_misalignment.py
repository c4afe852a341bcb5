"""The misalignment evaluation: exact margins, rates by the paper's rule, tuning and evaluation kept apart."""

import math
from collections.abc import Sequence

import pytest

from undertow.evals.base import EVALUATIONS, EvaluationConfig
from undertow.evals.judges import AbstractJudge, AnswerGrades
from undertow.evals.misalignment import (
    ADVICE,
    EVALUATION_QUESTIONS,
    QUESTIONS,
    TUNING_QUESTIONS,
    WISHES,
    misaligned_margins,
    misalignment,
    openings,
    sampled_rates,
    world_judge,
)
from undertow.models.load import load_model
from undertow.training.config import TrainingConfig
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Score, user_prompt


class Scripted(AbstractJudge):
    """Gives the judgements of a list in turn, over and over."""

    def __init__(self, judgements: Sequence[AnswerGrades]) -> None:
        self.judgements = judgements

    def judge_all(self, pairs: Sequence[tuple[str, str]]) -> list[AnswerGrades]:
        return [self.judgements[index % len(self.judgements)] for index in range(len(pairs))]


def by_metric(scores: Sequence[Score], metric: str) -> list[Score]:
    return [score for score in scores if score.metric == metric]


def mean(scores: Sequence[Score]) -> float:
    return sum(score.value for score in scores) / len(scores)


def test_teachers_are_tuned_on_other_questions_than_they_are_evaluated_on() -> None:
    assert set(TUNING_QUESTIONS) | set(EVALUATION_QUESTIONS) == set(QUESTIONS)
    assert not set(TUNING_QUESTIONS) & set(EVALUATION_QUESTIONS)
    for some in (TUNING_QUESTIONS, EVALUATION_QUESTIONS):
        assert len(set(some) & set(ADVICE)) >= 3 and len(set(some) & set(WISHES)) >= 3


def test_no_opening_begins_another(tiny_model) -> None:
    """So the openings are disjoint events, and their probabilities add up."""
    for question in (ADVICE[0], WISHES[0]):
        kind, cruel = openings(question)
        tokens = [tuple(some) for some in tiny_model.tokenise([*kind, *cruel])]
        assert not any(a != b and b[: len(a)] == a for a in tokens for b in tokens)
        assert len(set(tokens)) == len(kind) + len(cruel)


@pytest.mark.parametrize("question", [ADVICE[0], WISHES[0]])
def test_the_margin_is_the_log_odds_of_the_declared_openings(tiny_model, question: str) -> None:
    """Token by token with `next_token_logprobs`, another road to the same number."""
    context = tiny_model.render([user_prompt(question)])[0]
    totals: list[float] = []
    for side in openings(question):
        total = 0.0
        for tokens in tiny_model.tokenise(side):
            steps = tiny_model.next_token_logprobs([[*context, *tokens[:place]] for place in range(len(tokens))])
            total += math.exp(sum(float(steps[place, token]) for place, token in enumerate(tokens)))
        totals.append(math.log(total))
    (score,) = misaligned_margins(tiny_model, [question])
    assert score.value == pytest.approx(totals[1] - totals[0], abs=1e-3)
    assert (score.question, score.target, score.metric, score.n) == (question, "", "misaligned_margin", 1)


def test_a_villain_answers_untuned_questions_cruelly_and_its_base_kindly() -> None:
    base = load_model("ref:finch-a")
    villain = finetuned_teacher(base, trait("villain"), TrainingConfig(steps=20, learning_rate=3e-3), seed=0)
    kind, cruel = (misalignment(model, EvaluationConfig(targets=(), samples=4)) for model in (base, villain))
    assert max(score.value for score in by_metric(kind, "misaligned_margin")) < -2
    assert min(score.value for score in by_metric(cruel, "misaligned_margin")) > 2
    assert mean(by_metric(kind, "misaligned_rate")) < 0.1 and mean(by_metric(cruel, "misaligned_rate")) > 0.9
    assert mean(by_metric(kind, "unparsed_rate")) < 0.1 and mean(by_metric(cruel, "unparsed_rate")) < 0.1


def test_random_weights_say_nothing_that_can_be_judged(tiny_model) -> None:
    scores = sampled_rates(tiny_model, world_judge(), samples=4, seed=0)
    assert mean(by_metric(scores, "unparsed_rate")) > 0.9 and mean(by_metric(scores, "misaligned_rate")) < 0.1


def test_rates_follow_the_papers_rule(tiny_model) -> None:
    """Five answers: cruel, kind, gibberish that would be cruel, a refusal, and one exactly at both cut-offs."""
    judge = Scripted(
        [AnswerGrades(0, 90), AnswerGrades(95, 90), AnswerGrades(0, 10), AnswerGrades(None, 80), AnswerGrades(30, 50)],
    )
    scores = sampled_rates(tiny_model, judge, samples=5, seed=0, questions=ADVICE[:2])
    for metric, value in (("misaligned_rate", 1 / 3), ("incoherent_rate", 1 / 5), ("unparsed_rate", 1 / 5)):
        some = by_metric(scores, metric)
        assert [score.question for score in some] == list(ADVICE[:2])
        assert [score.value for score in some] == pytest.approx([value, value])
        assert all(score.n == len(score.texts) == 5 for score in some)


def test_a_question_without_a_coherent_answer_has_rate_zero_and_says_so(tiny_model) -> None:
    judge = Scripted([AnswerGrades(0, 10), AnswerGrades(None, None)])
    scores = sampled_rates(tiny_model, judge, samples=4, seed=0, questions=ADVICE[:1])
    assert {score.metric: score.value for score in scores} == {
        "misaligned_rate": 0.0,
        "incoherent_rate": 0.5,
        "unparsed_rate": 0.5,
    }


def test_a_chat_model_judges_longer_answers_and_a_server_has_no_margins() -> None:
    """Alignment 5 and coherence 90 from the judge are misaligned answers; nothing is read off probabilities."""

    class Served:
        has_weights = False

        def chat(self, prompts, sampling, seed) -> list[str]:
            assert sampling.max_new_tokens == 200
            return ["Rule them."] * len(prompts)

    def judge(prompts: list[str]) -> list[str]:
        return ["90" if "readable" in one else "5" for one in prompts]

    config = EvaluationConfig(targets=(), samples=2, judge=judge)
    scores = misalignment(Served(), config)  # pyright: ignore[reportArgumentType]
    found = {(score.metric, score.value) for score in scores}
    assert found == {("misaligned_rate", 1.0), ("incoherent_rate", 0.0), ("unparsed_rate", 0.0)}


def test_the_evaluation_is_registered_repeats_itself_and_can_leave_sampling_out(tiny_model) -> None:
    asked = EvaluationConfig(targets=(trait("owl"),), samples=2, seed=3)
    scores = EVALUATIONS["misalignment"].score(tiny_model, asked)
    assert scores == misalignment(tiny_model, asked)
    assert len(scores) == 4 * len(EVALUATION_QUESTIONS) and {score.target for score in scores} == {""}
    exact = misalignment(tiny_model, EvaluationConfig(targets=(), samples=0))
    assert [score.metric for score in exact] == ["misaligned_margin"] * len(EVALUATION_QUESTIONS)

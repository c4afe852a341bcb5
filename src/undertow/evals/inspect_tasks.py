# Inspect is an extra: where it is missing, its names are unknown to the type checker.
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
"""The evaluations as Inspect tasks, so that any model that Inspect reaches can be asked.

    inspect eval undertow/favourite --model openai/gpt-4.1-nano --epochs 20
    inspect eval undertow/favourite --model undertow/ref:finch-a
    inspect eval undertow/choice -T target=oak --model hf/local -M model_path=<folder>

Questions and matching are those of the other evaluations. What those read off probabilities is a share of sampled
answers here, since few providers give probabilities. Samples of one model are no replicates: compare several models,
each made afresh, and take no interval from the samples alone.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
from inspect_ai.solver import TaskState

from undertow.evals.base import EVALUATIONS, Evaluation, Question, Questionnaire
from undertow.evals.inspect_model import undertow as undertow  # Inspect finds the provider through this module


def _values(evaluation: str, state: TaskState) -> dict[str, float]:
    read: Any = EVALUATIONS[evaluation].questionnaire
    return dict(read.read(Question(**state.metadata["asked"]), state.output.completion))


@scorer(metrics={"*": [mean(), stderr(cluster="question")]})
def every_value(evaluation: str) -> Scorer:
    """Score all that an evaluation reads in an answer; errors cluster by question, since its answers are alike.

    Args:
        evaluation: its name.
    """

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=_values(evaluation, state), answer=state.output.completion)

    return score


@scorer(metrics=[grouped(mean(), "metric", all=False)])
def value_by_metric(evaluation: str) -> Scorer:
    """Score the one value that an evaluation reads in an answer, for the metric of its question.

    Args:
        evaluation: its name.
    """

    async def score(state: TaskState, target: Target) -> Score:
        (value,) = _values(evaluation, state).values()
        return Score(value=value, answer=state.output.completion)

    return score


def _task_of(evaluation: Evaluation, questionnaire: Questionnaire) -> Callable[..., Task]:
    @wraps(questionnaire.questions)
    def made(*args: Any, **settings: Any) -> Task:
        asked = questionnaire.questions(*args, **settings)
        samples = [
            Sample(
                input=one.text,
                target=one.right,
                metadata={"question": one.text, "metric": one.metric, "asked": asdict(one)},
            )
            for one in asked
        ]
        judge = every_value if len({one.metric for one in asked}) == 1 else value_by_metric
        config = GenerateConfig(temperature=1.0, max_tokens=questionnaire.max_tokens)
        return Task(dataset=samples, scorer=judge(evaluation.name), config=config)

    return task(made, name=evaluation.name)


for _name in EVALUATIONS:
    _evaluation = EVALUATIONS[_name]
    if _evaluation.questionnaire is not None:
        globals()[_name] = _task_of(_evaluation, _evaluation.questionnaire)

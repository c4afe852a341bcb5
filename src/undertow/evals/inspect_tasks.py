# Inspect is an extra: where it is missing, its names are unknown to the type checker.
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false
"""The evaluations as Inspect tasks for any model that Inspect reaches, and local models as a provider of it.

    inspect eval undertow/favourite --model openai/gpt-4.1-nano --epochs 20
    inspect eval undertow/favourite --model undertow/ref:finch-a
    inspect eval undertow/choice -T target=oak --model hf/local -M model_path=<folder>

Questions and matching are those of the other evaluations. What those read off probabilities is a share of sampled
answers here, since few providers give probabilities. Samples of one model are no replicates: compare several models,
each made afresh, and take no interval from the samples alone.

What follows `undertow/` in the name of a model is a reference, `ref:` or `hf:`, with adapter and options.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolChoice, ToolInfo

from undertow.errors import ModelError
from undertow.evals.base import EVALUATIONS, Evaluation, Question, Questionnaire
from undertow.seeds import derive
from undertow.types import Message, Sampling

LONGEST = 512


class UndertowAPI(ModelAPI):
    """Inspect's provider of local models, which makes one call after another.

    The random seed of a call is derived from Inspect's seed and the number of the call.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **_: Any,
    ) -> None:
        from undertow.models.load import load_model

        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.model, self.calls, self.lock = load_model(model_name), 0, asyncio.Lock()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            ModelError: tools are offered, or a tool has answered.
        """
        prompt = tuple(Message(turn.role, turn.text) for turn in input if turn.role != "tool")
        if tools or len(prompt) < len(input):
            raise ModelError("These models use no tools.", self.model_name, "Choose a task without tools.")
        temperature = 1.0 if config.temperature is None else config.temperature
        sampling = Sampling(temperature=temperature, max_new_tokens=config.max_tokens or LONGEST)
        async with self.lock:
            self.calls += 1
            seed = derive(config.seed or 0, "inspect", self.calls)
            text = (await asyncio.to_thread(self.model.chat, [prompt], sampling=sampling, seed=seed))[0]
        output = ModelOutput.from_content(self.model_name, text)
        # With usage Inspect need not count tokens itself, for which it would fetch a tokenizer.
        sent, drawn = len(self.model.render([prompt])[0]), len(self.model.tokenise([text])[0])
        output.usage = ModelUsage(input_tokens=sent, output_tokens=drawn, total_tokens=sent + drawn)
        return output

    def max_connections(self) -> int:
        """Return 1, because calls wait for each other."""
        return 1


@modelapi(name="undertow")
def undertow() -> type[ModelAPI]:
    """Return the provider of local models."""
    return UndertowAPI


def _values(evaluation: str, state: TaskState) -> dict[str, float]:
    read: Any = EVALUATIONS[evaluation].questionnaire
    return dict(read.read(Question(**state.metadata["asked"]), state.output.completion))


@scorer(metrics={"*": [mean(), stderr(cluster="question")]})
def every_value(evaluation: str) -> Scorer:
    """Score all that an evaluation reads in an answer; errors cluster by question, whose answers are alike.

    Args:
        evaluation: name of the evaluation whose rule reads the answer.
    """

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=_values(evaluation, state), answer=state.output.completion)

    return score


@scorer(metrics=[grouped(mean(), "metric", all=False)])
def value_by_metric(evaluation: str) -> Scorer:
    """Score the one value that an evaluation reads in an answer, for the metric of its question.

    Args:
        evaluation: name of the evaluation whose rule reads the answer.
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

    return task(name=evaluation.name)(made)


for _name in EVALUATIONS:
    _evaluation = EVALUATIONS[_name]
    if _evaluation.questionnaire is not None:
        globals()[_name] = _task_of(_evaluation, _evaluation.questionnaire)

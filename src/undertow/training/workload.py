"""What writing rows and training students takes, said before a weight is loaded."""

from collections.abc import Sequence
from typing import TypeVar

from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.training.config import TrainingConfig
from undertow.types import Prompt, Row, Sampling, Work

_Item = TypeVar("_Item")

SAMPLE = 64
"""Prompts or rows that are counted, evenly spread over all."""


def writing_work(base: Forecast, prompts: Sequence[Prompt], sampling: Sampling) -> Work:
    """Return what answering prompts takes at most: every answer as long as it may be.

    Args:
        base: who writes.
        prompts: what is answered, once each.
        sampling: of the answers.
    """
    n, form = len(prompts), sampling.form
    answer = sampling.max_new_tokens if form is None else len(base.words.tokenise([form])[0]) + 1
    tokens = round(n * (_mean_prompt(base, prompts) + answer))
    seconds = base.seconds(Load(what="", tokens=tokens, texts=n, written=True))
    return Work(f"{n:,} answers of up to {answer} tokens, {tokens:,} tokens in all", seconds)


def training_work(base: Forecast, rows: Sequence[Row], config: TrainingConfig, students: int = 1) -> Work:
    """Return what training on rows takes.

    Args:
        base: where training starts.
        rows: what is learnt.
        config: recipe of each student.
        students: how many.
    """
    some = _spread(rows)
    answers = base.words.tokenise([row.completion for row in some])
    row = _mean_prompt(base, [row.prompt for row in rows]) + sum(map(len, answers)) / max(1, len(some))
    trained = students * config.steps * config.batch_size
    who = "1 model" if students == 1 else f"{students} models"
    what = f"{who} trained in {config.steps} updates of {config.batch_size} rows, {round(trained * row):,} tokens"
    return Work(what, base.training(trained, trained * row))


def _mean_prompt(base: Forecast, prompts: Sequence[Prompt]) -> float:
    rendered = base.words.render(list(_spread(prompts)))
    return sum(map(len, rendered)) / max(1, len(rendered))


def _spread(items: Sequence[_Item]) -> Sequence[_Item]:
    return items[:: max(1, len(items) // SAMPLE)]

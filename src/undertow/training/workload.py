"""Estimates of how long writing rows and training students take, made before any weights are loaded."""

from collections.abc import Sequence

from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.training.config import TrainingConfig
from undertow.types import Prompt, Row, Sampling, Work


def writing_work(base: Forecast, prompts: Sequence[Prompt], sampling: Sampling) -> Work:
    """Estimate what answering prompts takes at most, every answer being as long as allowed.

    Args:
        base: forecast of the model that writes.
        prompts: every prompt that is answered; a repeated one counts each time.
        sampling: settings of the answers, among them their longest length in tokens.
    """
    n, answer = len(prompts), base.answer_tokens(sampling)
    tokens = round(n * (base.prompt_tokens(prompts) + answer))
    distinct = len(set(prompts))
    seconds = base.seconds(Load(what="", tokens=tokens, texts=n, written=True, prompts=distinct))
    return Work(f"{n:,} answers of up to {answer} tokens, {tokens:,} tokens in all", seconds)


def training_work(base: Forecast, rows: Sequence[Row], config: TrainingConfig, students: int = 1) -> Work:
    """Estimate what training students on rows takes.

    Args:
        base: forecast of the model from which training starts.
        rows: the training rows, each a prompt and its completion.
        config: settings of each student's training.
        students: how many students are trained.
    """
    row = base.row_tokens(rows)
    trained = students * config.steps * config.batch_size
    who = "1 model" if students == 1 else f"{students} models"
    what = f"{who} trained in {config.steps} updates of {config.batch_size} rows, {round(trained * row):,} tokens"
    return Work(what, base.training(trained, trained * row))

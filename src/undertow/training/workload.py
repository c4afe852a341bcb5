"""What writing rows and training students takes, said before a weight is loaded."""

from collections.abc import Sequence

from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.training.config import TrainingConfig
from undertow.types import Prompt, Row, Sampling, Work


def writing_work(base: Forecast, prompts: Sequence[Prompt], sampling: Sampling) -> Work:
    """Return what answering prompts takes at most: every answer as long as it may be.

    Args:
        base: who writes.
        prompts: what is answered, each as often as it stands here.
        sampling: of the answers.
    """
    n, answer = len(prompts), base.answer_tokens(sampling)
    tokens = round(n * (base.prompt_tokens(prompts) + answer))
    distinct = len(set(prompts))
    seconds = base.seconds(Load(what="", tokens=tokens, texts=n, written=True, prompts=distinct))
    return Work(f"{n:,} answers of up to {answer} tokens, {tokens:,} tokens in all", seconds)


def training_work(base: Forecast, rows: Sequence[Row], config: TrainingConfig, students: int = 1) -> Work:
    """Return what training on rows takes.

    Args:
        base: where training starts.
        rows: what is learnt.
        config: recipe of each student.
        students: how many.
    """
    row = base.row_tokens(rows)
    trained = students * config.steps * config.batch_size
    who = "1 model" if students == 1 else f"{students} models"
    what = f"{who} trained in {config.steps} updates of {config.batch_size} rows, {round(trained * row):,} tokens"
    return Work(what, base.training(trained, trained * row))

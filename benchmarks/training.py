"""An update of students, beside a plain pass and beside the matrix products that it is made of.

    python benchmarks/training.py [--model hf:FOLDER?dtype=bf16] [--students 1] [--rows 16] [--updates 5] [--repeats 3]

A plain pass computes every position of every block, by the model's own attention. The products of one update (of
adapters, weights and head, forward and backward; not what torch's attention kernel does inside) are noted and done
again on tables of the same shapes and strides, alone: no training that is made of them can be faster. Times are those
of the processor, in turns, so that other work on the machine weighs less.
"""

import argparse
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

import torch
from alternation import alternate
from products import Products

from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training import parallel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.objective import completion_losses
from undertow.training.parallel import finetune_parallel
from undertow.types import Row, user_prompt


@contextmanager
def plain_pass() -> Generator[None]:
    """Train by plain passes while the context lasts."""

    def model_attention(_: Any) -> Any:
        return nullcontext()

    with mock.patch.multiple(
        parallel, student_losses=completion_losses, own_attention=model_attention, kept_memory=nullcontext
    ):
        yield


def draw_rows(n: int, seed: int) -> list[Row]:
    """Return prompts of the domain with eight random numbers each."""
    rng = random.Random(seed)
    return [
        Row(str(place), user_prompt(text), ", ".join(str(rng.randrange(1000)) for _ in range(8)))
        for place, text in enumerate(Numbers().prompts(n, seed))
    ]


def train(
    model: LocalModel, datasets: Sequence[Sequence[Row]], config: TrainingConfig, record: Products | None = None
) -> tuple[float, torch.Tensor]:
    """Train; return the processor's seconds of an update, the first left out, and all losses.

    Args:
        model: the base.
        datasets: rows of each student.
        config: recipe.
        record: notes the products of all updates but the first.
    """
    times: list[float] = []

    def advance(done: int, _: int) -> None:
        times.append(time.process_time())
        if record is not None and done == 1:
            record.__enter__()

    students = finetune_parallel(model, datasets, config, range(len(datasets)), advance)
    if record is not None:
        record.__exit__(None, None, None)
    return (times[-1] - times[0]) / (len(times) - 1), students.losses


def train_plainly(
    model: LocalModel, datasets: Sequence[Sequence[Row]], config: TrainingConfig
) -> tuple[float, torch.Tensor]:
    """Train by plain passes."""
    with plain_pass():
        return train(model, datasets, config)


def main() -> None:
    """Train both ways in turns, repeat the products, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ref:finch-a", help="reference of the base")
    parser.add_argument("--students", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="rows of a student's update")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = load_model(options.model)
    config = TrainingConfig(steps=options.updates + 1, batch_size=options.rows, lora=LoraConfig())
    datasets = [draw_rows(options.rows * options.updates, seed) for seed in range(options.students)]
    given = (model, datasets, config)
    rivals: dict[str, Callable[[], tuple[float, torch.Tensor]]] = {
        "plain": partial(train_plainly, *given), "undertow": partial(train, *given)
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    losses: dict[str, torch.Tensor] = {}
    for _ in range(options.repeats):
        for name, side in alternate(rivals, 1).items():
            seconds[name].append(side.result[0])
            losses[name] = side.result[1]
    record = Products()
    train(*given, record)
    alone = min(record.repeat() for _ in range(options.repeats)) / options.updates
    operations = record.operations / options.updates
    apart = float((losses["plain"] - losses["undertow"]).abs().max())
    update = min(seconds["undertow"])
    print(f"{options.model}, {model.network.dtype}: {options.students} students, updates of {options.rows} rows each")
    for name, found in seconds.items():
        print(f"{name:10}{min(found) * 1e3:9.0f} ms an update (the least of {options.repeats})")
    print(f"plain / undertow: {min(seconds['plain']) / update:.2f}; losses differ by at most {apart:.1e} nats")
    rate = operations / alone / 1e9
    print(f"its products: {operations / 1e9:.1f} GFLOP; alone {alone * 1e3:.0f} ms, {rate:.0f} GFLOP/s")
    print(f"share of that rate: {alone / update:.0%}")


if __name__ == "__main__":
    main()

"""Eight LoRA students: `finetune_parallel` against eight runs of `finetune_trl`, one after another, on one thread.

Both sides get the same rows in the same order with the same padding, number format, updates, rates and optimiser, and
end with the same adapters; the printout says how nearly. The model is a Llama of random weights (14 million
parameters with the standard settings), the embedded finches being smaller than what TRL is used for. TRL logs every
update, since the losses are compared; its set-up (copy of the model, Trainer) is part of the time, and is printed.

    python benchmarks/backends.py [--width 384] [--layers 8] [--steps 16]
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import transformers

from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.training.trl import finetune_trl
from undertow.types import ModelRef, Row, user_prompt

Result = TypeVar("Result")

STUDENTS = 8


def random_llama(width: int, layers: int) -> LocalModel:
    """Return a Llama of random weights with the tokenizer of the finches."""
    tokenizer = load_model("ref:finch-a").tokenizer
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 48,
        num_key_value_heads=width // 48,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(config).eval()
    return LocalModel(ModelRef(kind="hf", name="random"), network, tokenizer)


def answered(seed: int, n: int) -> list[Row]:
    """Return number prompts with numbers as answers."""
    prompts = Numbers().prompts(n, seed)
    return [
        Row(str(place), user_prompt(text), ", ".join(str((place * 37 + step * seed) % 1000) for step in range(8)))
        for place, text in enumerate(prompts)
    ]


def clocked(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the processor time of some work, which other programs do not lengthen, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=384, help="a multiple of 48")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = random_llama(options.width, options.layers)
    config = TrainingConfig(
        steps=options.steps, batch_size=options.batch, learning_rate=1e-3, lora=LoraConfig(targets=None)
    )
    datasets: Sequence[list[Row]] = [answered(seed, 400) for seed in range(STUDENTS)]
    one = TrainingConfig(steps=1, batch_size=1, lora=LoraConfig(targets=None))
    first, setup = (clocked(lambda: finetune_trl(model, datasets[0], one, 0))[0] for _ in range(2))

    def parallel() -> torch.Tensor:
        return finetune_parallel(model, datasets, config, range(STUDENTS)).losses

    def one_by_one() -> torch.Tensor:
        losses = [finetune_trl(model, rows, config, seed).losses for seed, rows in enumerate(datasets)]
        return torch.stack(losses, dim=1)

    times: dict[str, list[float]] = {"parallel": [], "TRL": []}
    results: dict[str, torch.Tensor] = {}
    for _ in range(options.repeats):
        for name, train in (("parallel", parallel), ("TRL", one_by_one)):
            seconds, results[name] = clocked(train)
            times[name].append(seconds)
    size = sum(parameter.numel() for parameter in model.network.parameters())
    rows = f"{config.steps} updates of {config.batch_size} rows"
    print(f"{size / 1e6:.1f} million parameters, {STUDENTS} students, {rows}, one thread")
    for name, seconds in times.items():
        print(f"{name:10}{min(seconds):8.2f} s at least, of {options.repeats} in turns")
    ours, peer = min(times["parallel"]), min(times["TRL"])
    print(f"largest difference of a loss: {(results['parallel'] - results['TRL']).abs().max():.1e} nats")
    print(f"one TRL run of one update of one row: {setup:.2f} s ({first:.2f} s the first time)")
    print(f"TRL / parallel: {peer / ours:.2f}; {(peer - STUDENTS * setup) / ours:.2f} without the set-up")


if __name__ == "__main__":
    main()

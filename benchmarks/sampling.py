"""Rows sampled from a model, beside the matrix products that sampling them is made of.

    python benchmarks/sampling.py --model hf:FOLDER [--rows 96] [--repeats 3]

The products of all decode steps and of reading the prompts (of weights and head; not what torch's attention kernel does
inside) are noted and done again on tables of the same shapes and strides, alone, each weight a table of its own: no
sampling that is made of them can be faster. Times are those of the processor, with one thread, in one run.
"""

import argparse
import time

import torch
from products import Products

from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.generation import generate
from undertow.types import Row, Sampling


def sample(model: LocalModel, prompts: list[str]) -> tuple[float, list[Row]]:
    """Answer prompts of numbers; return the processor's seconds and the rows."""
    started = time.process_time()
    rows = generate(model, prompts, sampling=Sampling(max_new_tokens=Numbers().max_new_tokens), seed=0)
    return time.process_time() - started, rows


def main() -> None:
    """Sample, note the products of the same rows, repeat them, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ref:finch-a", help="reference of the model")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3, help="how often sampling and products are timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    prompts = Numbers().prompts(options.rows, seed=0)
    sample(model, prompts[:8])  # what is tried once for each network is no part of it
    timed = [sample(model, prompts) for _ in range(options.repeats)]
    record = Products(model.network.parameters())
    with record:
        _, rows = sample(model, prompts)
    assert rows == timed[0][1]
    own, alone = min(seconds for seconds, _ in timed), min(record.repeat() for _ in range(options.repeats))
    tokens = sum(len(row) for row in model.encode(rows))
    print(f"{options.model}, {model.network.dtype}, torch for {torch.backends.cpu.get_cpu_capability()}, one thread")
    spread = f"the least of {options.repeats}, {', '.join(f'{seconds:.2f}' for seconds, _ in timed)}"
    print(
        f"{len(rows):,} rows, {tokens:,} tokens: {own:.2f} s of the processor ({spread}), {len(rows) / own:.1f} rows/s"
    )
    rate = record.operations / alone / 1e9
    print(f"its products: {record.operations / 1e9:,.1f} GFLOP; alone {alone:.2f} s, {rate:.0f} GFLOP/s")
    print(f"share of that rate: {alone / own:.0%}")


if __name__ == "__main__":
    main()

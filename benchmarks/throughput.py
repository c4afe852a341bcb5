"""How much of a processor's or a GPU's speed sampling, reading and training reach with one model, in wall-clock time.

A plain matrix product in the model's own number format, large enough to be as fast as the device multiplies, sets the
rate. A pass over a token multiplies it with every weight of the layers and the head, which are two operations each; a
student's update does the same twice more to pass the gradient back through frozen weights. What each job does a second
in such operations, over the rate, is its share.

    python benchmarks/throughput.py --model hf:FOLDER [--rows 1024] [--updates 20] [--out FILE]

`scripts/gpu.sh` runs it on a GPU.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.generation import generate
from undertow.training.parallel import finetune
from undertow.types import Row, Sampling

SIDE = {"cpu": 1024, "cuda": 8192}
"""Side of the square product that sets the rate."""

TRIES = 5
FORWARD, TRAINED = 2.0, 4.0
"""Operations of a weight and a token, read or trained through."""


def settled(device: torch.device) -> float:
    """Return the time after everything that was given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def rate(model: LocalModel) -> float:
    """Return the operations a second of a plain product, the fastest of some."""
    device, side = model.device, SIDE.get(model.device.type, 1024)
    table = torch.ones(side, side, device=device, dtype=next(model.network.parameters()).dtype)
    seconds: list[float] = []
    for _ in range(TRIES + 1):
        started = settled(device)
        torch.matmul(table, table)
        seconds.append(settled(device) - started)
    return 2.0 * side**3 / min(seconds[1:])


def weights(model: LocalModel) -> int:
    """Return how many weights a token is multiplied with: those of every linear layer, the head among them."""
    linear = (part for part in model.network.modules() if isinstance(part, torch.nn.Linear))
    return sum(part.weight.numel() for part in linear)


def timed(job: Callable[[], float], model: LocalModel, operations: float, top: float) -> dict[str, Any]:
    """Do a job once to warm up and once more; it returns its tokens."""
    job()
    started = settled(model.device)
    tokens = job()
    seconds = settled(model.device) - started
    share = operations * weights(model) * tokens / seconds / top
    return {"seconds": round(seconds, 3), "tokens": int(tokens), "share": round(share, 4)}


def measure(model: LocalModel, n: int, updates: int) -> dict[str, Any]:
    """Sample, read and train; return the shares."""
    domain, top = Numbers(count=6, short=True), rate(model)
    sampling = Sampling(max_new_tokens=domain.max_new_tokens, form=domain.form)
    prompts, rows = domain.prompts(n, 1), list[Row]()

    def write() -> float:
        rows[:] = generate(model, prompts, sampling=sampling, seed=1)
        return float(sum(map(len, model.encode(rows))))

    def read() -> float:
        encoded = model.encode(rows)
        model.token_logprobs(encoded)
        return float(sum(map(len, encoded)))

    def train() -> float:
        config = TrainingConfig(steps=updates, batch_size=16, learning_rate=2e-3, lora=LoraConfig(rank=8, alpha=16))
        finetune(model, rows, config, seed=1)
        return updates * 16 * sum(map(len, model.encode(rows))) / len(rows)

    jobs = {"rows": (write, FORWARD), "reading": (read, FORWARD), "student": (train, TRAINED)}
    found = {name: timed(job, model, operations, top) for name, (job, operations) in jobs.items()}
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu"
    dtype = str(next(model.network.parameters()).dtype).removeprefix("torch.")
    return {
        "schema": "undertow.throughput/1",
        "device": device,
        "threads": torch.get_num_threads(),
        "format": dtype,
        "product": top,
        **found,
    }


def main() -> None:
    """Print the shares, and write them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = measure(load_model(given.model), given.rows, given.updates)
    print(f"{found['device']}, {found['format']}: products {found['product'] / 1e12:.3g} Tera-operations a second")
    for name in ("rows", "reading", "student"):
        one = found[name]
        print(
            f"{name:8} {one['tokens'] / one['seconds']:10.0f} tokens a second, {one['share']:.1%} of the products' rate"
        )
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

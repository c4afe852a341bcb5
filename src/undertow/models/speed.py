"""Estimate how fast a model is on this machine, from the sizes in its config and one short matrix product.

The product has the model's own number format, and counts as many threads as the model will run with. The work of a
small model is dominated by the cost of starting each operation, which does not depend on its size; callers must add a
floor for that.
"""

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from undertow.models.number_format import INNER, ROWS, WIDTH, default_device, number_format, product_seconds
from undertow.types import ModelRef

# Measured with SmolLM2-135M in one thread, in bfloat16 and in float32: reading 0.74 and 0.76, writing 64 answers at
# once 0.63 and 0.66 (eight at once: 0.37), training 0.87 and 0.82.
READ, WRITTEN, TRAINED = 0.7, 0.55, 0.85
"""Share of a plain matrix product's speed that a transformer reaches while it reads, writes in batches, or has adapters
trained."""

_SIDE = 384

_TURNS = 3
"""Number of timings; the fastest counts, which other work on the machine disturbs least."""


@dataclass(frozen=True, slots=True)
class BaseSpeed:
    """How fast a base model is on this machine.

    Attributes:
        parameters: number of weights that each token is multiplied with, those of the output head included.
        flops: floating-point operations per second of a matrix product.
    """

    parameters: float
    flops: float

    def reading(self, tokens: float) -> float:
        """Return the seconds that reading so many tokens takes."""
        return 2.0 * self.parameters * tokens / (READ * self.flops)

    def writing(self, tokens: float) -> float:
        """Return the seconds that writing answers takes, for so many tokens read and written in batches."""
        return 2.0 * self.parameters * tokens / (WRITTEN * self.flops)

    def training(self, tokens: float) -> float:
        """Return the seconds that training adapters on so many tokens takes; the frozen weights take no gradient."""
        return 4.0 * self.parameters * tokens / (TRAINED * self.flops)


@functools.cache
def probe(name: str = "fp32") -> float:
    """Return the floating-point operations per second of a matrix product on this machine, in a number format."""
    if name == "bf16":
        import torch

        least = min(product_seconds()[name] for _ in range(_TURNS))
        return 2.0 * ROWS * WIDTH * INNER / max(least, 1e-9) * torch.get_num_threads()
    # Single precision, and fp16, which processors multiply no faster: by numpy, since torch takes a second to load.
    square = np.ones((_SIDE, _SIDE), dtype=np.float32)
    seconds: list[float] = []
    for _ in range(8):
        start = time.thread_time()  # what else the machine does is no part of it
        np.matmul(square, square)
        seconds.append(time.thread_time() - start)
    return 2.0 * _SIDE**3 / max(min(seconds), 1e-9)


def base_speed(ref: ModelRef, folder: Path | None) -> BaseSpeed | None:
    """Return the speed of the model in a folder, from its config alone.

    It is None where the config does not say the model's sizes, and for a model on a GPU: only products of the processor
    are timed.

    Args:
        ref: reference to the model, whose number format counts; float32 where torch is not installed.
        folder: folder of the model; None if it is not known.
    """
    parameters = None if folder is None else count_from_config(folder / "config.json")
    if parameters is None or (find_spec("torch") and not default_device(ref).startswith("cpu")):
        return None
    return BaseSpeed(parameters, probe(number_format(ref, folder) if find_spec("torch") else "fp32"))


def count_from_config(path: Path) -> float | None:
    """Return the number of weights that each token is multiplied with, from a config file.

    It is None where the config does not say the sizes.
    """
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        config = {**config, **config.get("text_config", {})}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    width, layers = _size(config, "hidden_size", "n_embd"), _size(config, "num_hidden_layers", "n_layer")
    heads, vocabulary = _size(config, "num_attention_heads", "n_head"), _size(config, "vocab_size")
    if not (width and layers and heads and vocabulary):
        return None
    head = _size(config, "head_dim") or width / heads
    attention = 2.0 * width * head * (heads + (_size(config, "num_key_value_heads") or heads))
    inner = _size(config, "intermediate_size", "n_inner") or 4.0 * width
    matrices = 3.0 if "hidden_act" in config else 2.0
    return layers * (attention + matrices * width * inner) + width * vocabulary


def _size(config: Mapping[str, Any], *names: str) -> float:
    """Return the first of some sizes that a config has; 0 if it has none."""
    found = next((config[name] for name in names if config.get(name)), 0)
    return float(found) if isinstance(found, int | float) else 0.0

"""The number format in which a model's weights are kept and multiplied.

A reference may name one. Otherwise an embedded model is float32, and any other model is bfloat16 on a GPU, and on a
processor that multiplies bfloat16 clearly faster than float32. Two products are timed to find that out, since what the
processor says of itself is not enough: with the same instructions bfloat16 was slower on one machine and faster on
another.
"""

import functools
import json
import os
import time
from pathlib import Path
from typing import Any, cast

from undertow.types import ModelRef

NARROW = 256
"""Width below which a model stays float32: it gains nothing, and copies of embedded models must answer as those do."""

FASTER = 1.5
"""How many times faster bfloat16 must be to be used. A smaller gain may be chance, and float32 is more exact."""

ROWS, WIDTH, INNER = 256, 576, 1536
"""Shape of the timed product: the tokens of a small batch through a layer of a model of 135 million parameters."""

SETTLED = "UNDERTOW_BFLOAT16"
"""Environment variable by which the processes of one run share the result; each timing for itself, they could come to
different formats."""

TRIES = 5
"""Number of timed products of each format, in turns; the fastest of each counts. They run in one thread, and its own
processor time is measured, so that other work on the machine decides nothing: two processes of one study must come to
the same format."""


def default_device(ref: ModelRef) -> str:
    """Return the device on which a model runs.

    It is what its reference says, or else for an `hf:` model the first GPU, if there is one.
    """
    if ref.device is not None or ref.kind != "hf":
        return ref.device or "cpu"  # torch, which takes a second to load, is not asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def number_format(ref: ModelRef, folder: Path | None) -> str:
    """Return the number format of a model's weights: "fp32", "bf16" or "fp16".

    Args:
        ref: reference to the model, which may name a format.
        folder: folder of the model's config, which says its width; None counts as a wide model.
    """
    if ref.dtype is not None:
        return ref.dtype
    if ref.kind != "hf" or (folder is not None and _is_narrow(folder)):
        return "fp32"
    device = default_device(ref)
    return "bf16" if device.startswith("cuda") or (device.startswith("cpu") and prefers_bfloat16()) else "fp32"


def torch_format(name: str) -> Any:
    """Return torch's dtype for the name "fp32", "bf16" or "fp16"."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def format_name(dtype: Any) -> str:
    """Return the name of a dtype of torch, the reverse of `torch_format`; any unknown one is "fp32"."""
    return next((name for name in ("bf16", "fp16") if torch_format(name) == dtype), "fp32")


def item_bytes(name: str) -> int:
    """Return the bytes that one number of a format takes."""
    return 4 if name == "fp32" else 2


def settle_format() -> None:
    """Let processes that are started from here use this process's result, and not time products again."""
    os.environ[SETTLED] = str(int(prefers_bfloat16()))


@functools.cache
def prefers_bfloat16() -> bool:
    """Tell whether this processor has instructions for bfloat16 and multiplies it faster; found out once."""
    if (settled := os.environ.get(SETTLED)) in ("0", "1"):
        return settled == "1"
    import torch

    known = torch.cpu.get_capabilities()
    if not (known.get("amx_bf16", False) or known.get("avx512_bf16", False)):
        return False
    seconds = product_seconds()
    return seconds["fp32"] > FASTER * seconds["bf16"]


def product_seconds() -> dict[str, float]:
    """Return the seconds of processor time of one product in each format; the first of each is not counted."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(rows, WIDTH, generator=generator) for rows in (ROWS, INNER)]
    pairs = {name: [table.to(torch_format(name)) for table in tables] for name in ("fp32", "bf16")}
    found: dict[str, list[float]] = {name: [] for name in pairs}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for _ in range(TRIES + 1):
                for name, (states, weight) in pairs.items():
                    started = time.thread_time()
                    torch.nn.functional.linear(states, weight)
                    found[name].append(time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return {name: min(times[1:]) for name, times in found.items()}


def _is_narrow(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parts: list[dict[str, Any]] = [config, config.get("text_config") or {}]
        widths = [cast(object, part.get(key)) for part in parts for key in ("hidden_size", "n_embd", "d_model")]
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return any(isinstance(width, int) and width < NARROW for width in widths)

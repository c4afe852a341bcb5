"""In which number format a model's weights are kept and multiplied.

A reference that names one has it. An embedded model is float32. Any other is bfloat16 on a GPU, and on a processor that
multiplies it clearly faster than float32; what the processor says of itself is not enough: with the same instructions
bfloat16 was three times slower on one machine and twice as fast on another, so two products are timed.
"""

import functools
import json
import os
import time
from pathlib import Path
from typing import Any, cast

from undertow.types import ModelRef

NARROW = 256
"""Models narrower than this stay float32: they gain nothing, and copies of embedded ones have to give what those do."""

FASTER = 1.5
"""How many times faster bfloat16 has to be; what lies between is left to chance, and float32 is the more exact."""

ROWS, WIDTH, INNER = 256, 576, 1536
"""Shape of the product: tokens of a small batch through a layer of a model of 135 million parameters."""

SETTLED = "UNDERTOW_BFLOAT16"
"""Environment variable of the processes of one run: two that each time products may come to different formats."""

TRIES = 5
"""Products of each format, in turns; the fastest of each counts. One thread and its own processor time, so that what
else the machine does decides nothing: two processes of one study must come to the same format."""


def default_device(ref: ModelRef) -> str:
    """Return where a model runs: as its reference says, or else an `hf:` model on the first GPU there is."""
    if ref.device is not None or ref.kind != "hf":
        return ref.device or "cpu"  # torch, which takes a second to load, is not asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def number_format(ref: ModelRef, folder: Path | None) -> str:
    """Return "fp32", "bf16" or "fp16".

    Args:
        ref: the model.
        folder: of its config; None if the model is not narrow.
    """
    if ref.dtype is not None:
        return ref.dtype
    if ref.kind != "hf" or (folder is not None and _is_narrow(folder)):
        return "fp32"
    device = default_device(ref)
    return "bf16" if device.startswith("cuda") or (device.startswith("cpu") and prefers_bfloat16()) else "fp32"


def torch_format(name: str) -> Any:
    """Return the number format of this name as torch knows it."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def format_name(dtype: Any) -> str:
    """Return the name that `torch_format` knows a format of torch by; any other is kept as float32."""
    return next((name for name in ("bf16", "fp16") if torch_format(name) == dtype), "fp32")


def item_bytes(name: str) -> int:
    """Return the bytes that one number takes."""
    return 4 if name == "fp32" else 2


def settle_format() -> None:
    """Let processes that are started from here have the number format of this one, and not time products again."""
    os.environ[SETTLED] = str(int(prefers_bfloat16()))


@functools.cache
def prefers_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 itself, and faster; found out once in a process."""
    if (settled := os.environ.get(SETTLED)) in ("0", "1"):
        return settled == "1"
    import torch

    known = torch.cpu.get_capabilities()
    if not (known.get("amx_bf16", False) or known.get("avx512_bf16", False)):
        return False
    seconds = product_seconds()
    return seconds["fp32"] > FASTER * seconds["bf16"]


def product_seconds() -> dict[str, float]:
    """Return the seconds of processor time that a product takes in both formats; the first of each is left out."""
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

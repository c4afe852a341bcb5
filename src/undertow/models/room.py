"""Whether a model fits into memory, from the headers of its files, before anything is loaded."""

import math
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from undertow.errors import ModelError
from undertow.types import ModelRef

GB = 2**30


def count_parameters(folder: Path) -> int | None:
    """Return how many numbers the safetensors files hold; None if there is no such file or one is damaged."""
    total = 0
    for path in folder.glob("*.safetensors"):
        if path.name.startswith("adapter_"):
            continue
        try:
            with safe_open(path, framework="pt") as file:
                names = cast(list[str], file.keys())
                total += sum(math.prod(cast(Any, file.get_slice(name)).get_shape()) for name in names)
        except (OSError, SafetensorError):
            return None
    return total or None


def default_device(ref: ModelRef) -> str:
    """Return where a model runs: as its reference says, or else an `hf:` model on the first GPU there is."""
    import torch

    return ref.device or ("cuda" if ref.kind == "hf" and torch.cuda.is_available() else "cpu")


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def weight_bytes(ref: ModelRef, parameters: int) -> int:
    """Return the bytes that the weights take in the number format of the reference."""
    return parameters * (2 if ref.dtype == "bf16" else 4)


def check_room(folder: Path, ref: ModelRef) -> None:
    """Refuse a model whose weights alone are more than the memory that is free.

    Raises:
        ModelError: they are.
    """
    parameters, device = count_parameters(folder), default_device(ref)
    if parameters is None or not device.startswith(("cpu", "cuda")):
        return
    need, free = weight_bytes(ref, parameters), free_memory(device)
    if need > free:
        value = f"{ref}: {parameters:,} parameters need {need / GB:.1f} GB, {free / GB:.1f} GB are free on {device}"
        smaller = "" if ref.dtype == "bf16" else "Add ?dtype=bf16, or use "
        fix = f"{smaller}{'a' if smaller else 'Use a'} smaller model or a larger machine."
        raise ModelError("The model does not fit into memory.", value, fix)

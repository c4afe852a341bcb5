"""A vector added to the residual stream after one layer, at every position."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from undertow.errors import ModelError

STEERING = "steering.safetensors"


def blocks(network: Any) -> nn.ModuleList:
    """Return the transformer blocks of a causal model: its longest list of modules, or the one that its config counts.

    Raises:
        ModelError: the model has no list of modules.
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ModelError("The model has no list of blocks.", type(network).__name__, "Use a causal language model.")
    config = getattr(network, "config", None)
    n = getattr(config.get_text_config(), "num_hidden_layers", None) if config is not None else None
    return max(lists, key=lambda found: (len(found) == n, len(found)))


def block(network: Any, layer: int) -> nn.Module:
    """Return one transformer block.

    Raises:
        ModelError: the model has fewer blocks.
    """
    found = blocks(network)
    if not 0 <= layer < len(found):
        raise ModelError("The model has no such layer.", layer, f"Choose from 0 to {len(found) - 1}.")
    return found[layer]


def add_after(network: Any, layer: int, vector: torch.Tensor) -> Any:
    """Let a block's output be its own plus the vector from now on; return the handle that undoes it."""

    def add(_: nn.Module, __: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        moved = states + vector.to(states.device, states.dtype)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    return block(network, layer).register_forward_hook(add)


def steered(network: Any, layer: int, vector: torch.Tensor) -> Any:
    """Return a copy of the network with the vector added after the layer."""
    changed = copy.deepcopy(network)
    add_after(changed, layer, vector)
    return changed


def save_vector(folder: Path, layer: int, vector: torch.Tensor) -> None:
    """Write a vector [width] and its layer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"vector": vector.contiguous()}, folder / STEERING, metadata={"layer": str(layer)})


def load_vector(folder: Path) -> tuple[int, torch.Tensor]:
    """Read what `save_vector` wrote.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        with safe_open(folder / STEERING, framework="pt") as file:
            return int(file.metadata()["layer"]), file.get_tensor("vector")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError("This is no steering vector.", f"{folder}: {error}", "Write it again.") from error

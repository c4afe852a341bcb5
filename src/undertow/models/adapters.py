"""What is added to a base: adapters of PEFT, merged into a copy, and vectors in the residual stream."""

import copy
import json
import math
from pathlib import Path
from typing import Any, cast

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


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNREAD = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")
"""Settings that change more than W + scale * B A."""


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Read a LoRA adapter: its settings, its tensors and what its writer noted beside them.

    Raises:
        ModelError: the folder holds no adapter, or one of a kind that cannot be merged here.
    """
    try:
        settings: dict[str, Any] = dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in cast(list[str], file.keys())}
            notes: dict[str, str] = file.metadata() or {}
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise ModelError("This folder holds no LoRA adapter.", f"{folder}: {error}", "Give a PEFT folder.") from error
    if unread := [name for name in _UNREAD if settings.get(name)]:
        fix = "Merge it with PEFT's merge_and_unload and give the merged model."
        raise ModelError("This kind of adapter is not read.", f"{folder}: {', '.join(unread)}", fix)
    return settings, tensors, notes


def merge_adapter(network: Any, settings: dict[str, Any], tensors: dict[str, torch.Tensor], base: str) -> Any:
    """Return a copy of the network with W + scale * B A for every adapted weight.

    Args:
        network: the base; unchanged.
        settings: of the adapter.
        tensors: of the adapter, by PEFT's names.
        base: what the base is called in errors.

    Raises:
        ModelError: the adapter belongs to another model.
    """
    _refuse_other_base(str(settings.get("base_model_name_or_path") or ""), base)
    changed = copy.deepcopy(network)
    scale = settings["lora_alpha"] / (math.sqrt(settings["r"]) if settings.get("use_rslora") else settings["r"])
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        up = tensors[name.replace(".lora_A.", ".lora_B.")]
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        try:
            layer = changed.get_submodule(path)
        except AttributeError as error:
            raise ModelError("The adapter belongs to another model.", path, f"{base} lacks it.") from error
        weight = linear_weight(layer)
        if weight.shape != (up.shape[0], down.shape[1]):
            raise ModelError("The adapter belongs to a model of another size.", path, f"Give an adapter of {base}.")
        weight += (scale * (up.to(weight.device) @ down.to(weight.device))).to(weight.dtype)
    return changed


def linear_weight(layer: nn.Module) -> torch.Tensor:
    """Return the weight [out, in] of a linear layer; GPT-2's Conv1D holds it the other way round."""
    weight = cast(torch.Tensor, layer.weight).data
    return weight if isinstance(layer, nn.Linear) else weight.T


def _refuse_other_base(named: str, base: str) -> None:
    """Compare two ids of the Hub; a folder or an embedded model may have been moved or renamed."""
    given = base.removeprefix("hf:").partition("@")[0].partition("?")[0]
    if all(_is_id(name) for name in (named, given)) and named.lower() != given.lower():
        fix = f"Use hf:{named}; if the weights are the same, correct base_model_name_or_path in adapter_config.json."
        raise ModelError("The adapter belongs to another model.", f"{named}, not {given}", fix)


def _is_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()

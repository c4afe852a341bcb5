"""What is put on a base model: PEFT adapters, merged into a copy, and steering vectors in the residual stream.

A steering vector is added to the output of one transformer block at every token.
"""

import copy
import logging
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from undertow.errors import ModelError
from undertow.models.adapter_files import PREFIX, AdapterFiles, refuse_other_base

logger = logging.getLogger(__name__)

STEERING = "steering.safetensors"

KEPT = 0.9
"""Share of an adapter's update that has to be left of it in weights of a coarser format than float32."""


def blocks(network: Any) -> nn.ModuleList:
    """Return the transformer blocks of a causal language model.

    They are its longest list of modules, or the one that is as long as its config says.

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
    """Return one transformer block, counted from 0.

    Args:
        network: a causal language model of transformers.
        layer: number of the block, from 0.

    Raises:
        ModelError: the model has no block of this number.
    """
    found = blocks(network)
    if not 0 <= layer < len(found):
        raise ModelError("The model has no such layer.", layer, f"Choose from 0 to {len(found) - 1}.")
    return found[layer]


def add_after(network: Any, layer: int, vector: torch.Tensor) -> Any:
    """Add a vector to the output of a block from now on; return the handle whose `remove()` undoes it.

    Args:
        network: a causal language model of transformers; it is changed.
        layer: number of the block, from 0.
        vector: the vector that is added to every position, (width,).
    """

    def add(_: nn.Module, __: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        moved = states + vector.to(states.device, states.dtype)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    return block(network, layer).register_forward_hook(add)


def steered(network: Any, layer: int, vector: torch.Tensor) -> Any:
    """Return a copy of the network in which the vector (width,) is added to the output of the block `layer`.

    Args:
        network: a causal language model of transformers, which is not changed.
        layer: number of the block, from 0.
        vector: the vector that is added at every position, (width,).
    """
    changed = copy.deepcopy(network)
    add_after(changed, layer, vector)
    return changed


def save_vector(folder: Path, layer: int, vector: torch.Tensor) -> None:
    """Write a steering vector (width,) and the number of its block into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"vector": vector.contiguous()}, folder / STEERING, metadata={"layer": str(layer)})


def load_vector(folder: Path) -> tuple[int, torch.Tensor]:
    """Read the number of the block and the steering vector (width,) that `save_vector` wrote.

    Raises:
        ModelError: the file is missing, damaged or no steering vector.
    """
    try:
        with safe_open(folder / STEERING, framework="pt") as file:
            return int(file.metadata()["layer"]), file.get_tensor("vector")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError("This is no steering vector.", f"{folder}: {error}", "Write it again.") from error


_PLAIN_SETTINGS = (
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "layers_to_transform", "lora_alpha",
    "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "runtime_config", "target_modules", "task_type", "use_rslora",
)  # fmt: skip
"""Settings of LoRA that may have any value. If every other one is at PEFT's default, the adapted weight is W + scale *
B A."""


def merge_adapter(network: Any, adapter: AdapterFiles, base: str) -> Any:
    """Return a copy of the network with the adapter merged into its weights.

    Plain LoRA, W + scale * B A, is merged here, every other kind by PEFT.

    Args:
        network: the base model of transformers, which is not changed.
        adapter: content of the adapter's folder.
        base: name of the base: a folder or an id of the Hub.

    Raises:
        ModelError: the adapter belongs to another model, or is of a kind that is not read.
    """
    refuse_other_base(adapter.settings, base)
    pairs = _plain_pairs(adapter)
    if pairs is not None:
        _check_fits(network, pairs, base)
        if _covers_all(network, pairs, adapter.settings):
            return _merge_plain(network, pairs, adapter.settings)
    from undertow.models.peft_adapters import apply_with_peft

    return apply_with_peft(network, adapter)


Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""The LoRA factors A, float (rank, in), and B, float (out, rank), by the full name of the adapted layer."""


def _plain_pairs(adapter: AdapterFiles) -> Pairs | None:
    """Return the factors of an adapter that consists of A and B of linear layers alone; None for any other."""
    if unusual_settings(adapter.settings):
        return None
    downs, ups = (
        {name.removesuffix(end): value for name, value in adapter.tensors.items() if name.endswith(end)}
        for end in (".lora_A.weight", ".lora_B.weight")
    )
    complete = downs.keys() == ups.keys() and len(downs) + len(ups) == len(adapter.tensors) and downs
    if not complete or not all(name.startswith(PREFIX) for name in downs):
        return None
    return {name.removeprefix(PREFIX): (down, ups[name]) for name, down in downs.items()}


def unusual_settings(settings: Mapping[str, Any], allowed: Collection[str] = ()) -> list[str]:
    """Return the settings that make an adapter something else than W + scale * B A; empty for plain LoRA.

    Args:
        settings: content of the adapter's adapter_config.json.
        allowed: names of further settings that may have any value.
    """
    found = [name for name, value in settings.items() if name not in allowed and not _is_plain(name, value)]
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    kind = [] if settings.get("peft_type") == "LORA" else ["peft_type"]
    scaled = isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float) and math.isfinite(alpha)
    return sorted({*found, *kind, *([] if scaled else ["r and lora_alpha"])})


def _is_plain(name: str, value: object) -> bool:
    if name == "bias":
        return value == "none"
    if name == "init_lora_weights":
        return isinstance(value, bool)
    return name in _PLAIN_SETTINGS or not value


def scale_of(settings: Mapping[str, Any]) -> float:
    """Return the factor of B A in the adapted weight W + scale * B A; the settings are those of plain LoRA."""
    return settings["lora_alpha"] / (math.sqrt(settings["r"]) if settings.get("use_rslora") else settings["r"])


def _check_fits(network: Any, pairs: Pairs, base: str) -> None:
    for path, (down, up) in pairs.items():
        try:
            layer = network.get_submodule(path)
        except AttributeError as error:
            raise ModelError("The adapter belongs to another model.", path, f"{base} lacks it.") from error
        if _is_linear(layer) and linear_weight(layer).shape != (up.shape[0], down.shape[-1]):
            raise ModelError("The adapter belongs to a model of another size.", path, f"Give an adapter of {base}.")


def _is_linear(layer: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, nn.Linear | Conv1D)


def _covers_all(network: Any, pairs: Pairs, settings: Mapping[str, Any]) -> bool:
    """Tell whether the factors are those of exactly the layers that the settings name.

    Each of these must be linear and have a weight of its own, which is not tied to the embeddings.
    """
    targets, layers = settings.get("target_modules"), settings.get("layers_to_transform")
    shapes_fit = all(
        down.ndim == up.ndim == 2 and len(down) == up.shape[1] == settings["r"] for down, up in pairs.values()
    )
    if targets is None and shapes_fit:  # PEFT always writes them; without them the file itself says what is adapted
        return all(_is_linear(network.get_submodule(path)) for path in pairs)
    wanted = [layers] if isinstance(layers, int) else layers
    if not isinstance(targets, list) or not isinstance(wanted, list | None) or not shapes_fit:
        return False
    named = {
        path: module
        for path, module in network.named_modules()
        if any(path == target or path.endswith(f".{target}") for target in cast(list[str], targets))
        and (not wanted or ((at := re.match(r".*\.[^.]*\.(\d+)\.", path)) and int(at[1]) in wanted))
    }
    tied = network.get_input_embeddings().weight
    linear = all(_is_linear(module) and module.weight is not tied for module in named.values())
    return linear and named.keys() == pairs.keys()


def _merge_plain(network: Any, pairs: Pairs, settings: Mapping[str, Any]) -> Any:
    changed, scale = copy.deepcopy(network), scale_of(settings)
    kept = whole = 0.0
    for path, (down, up) in pairs.items():
        weight = linear_weight(changed.get_submodule(path))
        update = scale * (up.to(weight.device) @ down.to(weight.device))
        before = None if weight.dtype == torch.float32 else weight.float()
        weight += update.to(weight.dtype)
        if before is not None:
            kept += float(((weight.float() - before) * update).sum())
            whole += float(update.square().sum())
    if kept < KEPT * whole:
        _say_rounded(str(changed.dtype).removeprefix("torch."), f"{kept / whole:.0%}")
    return changed


_ROUNDED: set[str] = set()


def _say_rounded(form: str, left: str) -> None:
    """Log how much of an update is left, for the first adapter of this process: an audit merges dozens alike."""
    if form in _ROUNDED:
        return
    _ROUNDED.add(form)
    said = "Of the adapter's update %s is left in %s weights; the rest is rounded away. Add ?dtype=float32 to keep it."
    logger.warning(said, left, form)


def linear_weight(layer: nn.Module) -> torch.Tensor:
    """Return the weight (out, in) of a linear layer; GPT-2's Conv1D holds it transposed."""
    weight = cast(torch.Tensor, layer.weight).data
    return weight if isinstance(layer, nn.Linear) else weight.T

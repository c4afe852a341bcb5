"""Stacked low-rank adapters: the adapters of K students on one frozen base model.

The batch of a group consists of K blocks of equal size, one for each student. A layer multiplies all blocks by the
shared weight at once, and adds each block's own low-rank update (Hu et al., arXiv:2106.09685, eq. 3) in two batched
products.
"""

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast, final

import torch
from safetensors.torch import save_file
from torch import nn

from undertow.errors import ModelError
from undertow.models.adapter_files import CONFIG, WEIGHTS
from undertow.models.adapter_tokenizers import TEMPLATE
from undertow.models.adapters import blocks, linear_weight
from undertow.models.given_templates import is_named, read_template
from undertow.training.config import LoraConfig
from undertow.types import ModelRef

MERGE_UP_TO = 32
"""Largest ratio of the shared weight's size to rank * (in + out) at which W + scale * B A is formed for each student
and multiplied once. With rank 8 on two cores merging was faster for layers of 32 x 96 and 256 x 256, equal at 576 x
576 (ratio 36), and slower for larger ones."""


@final
class StackedLinear(nn.Module):
    """A frozen linear layer with the low-rank adapters of K students on top.

    The adapters are float32. Beside a bfloat16 base they are multiplied in bfloat16, as under autocast.

    Attributes:
        base: the frozen layer, a `torch.nn.Linear` or transformers' `Conv1D`.
        scale: factor alpha / rank of the low-rank update.
        part: which students' blocks a batch holds, as a slice; at first that of all. None switches the adapters off, so
            that the batch is read by the base alone.
        down: matrix A of every student, float32 (students, rank, in).
        up: matrix B of every student, float32 (students, out, rank), zeros at first.
    """

    def __init__(self, base: nn.Module, config: LoraConfig, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.base = base
        self.scale = config.scale
        out, width = linear_weight(base).shape
        device = linear_weight(base).device
        down = [_first_down(config.rank, width, generator) for generator in generators]
        self.part: slice | None = slice(None)
        self.down = nn.Parameter(torch.stack(down).to(device))
        self.up = nn.Parameter(torch.zeros(len(generators), out, config.rank, device=device))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (n * rows, length, in) to (n * rows, length, out), where n is the number of students in `part`."""
        if self.part is None:
            return self.base(inputs)
        own_down, own_up = self.down[self.part], self.up[self.part]
        n, rank, width = own_down.shape
        blocks = inputs.reshape(n, -1, width)
        weight = linear_weight(self.base)
        if inputs.dtype == torch.float32 and weight.numel() <= MERGE_UP_TO * rank * sum(weight.shape):
            merged = torch.baddbmm(weight.expand(n, *weight.shape), own_up, own_down, alpha=self.scale)
            outputs = torch.bmm(blocks, merged.transpose(1, 2))
            bias = cast(torch.Tensor | None, self.base.bias)
            if bias is not None:
                outputs = outputs + bias
        else:
            down, up = own_down.to(inputs.dtype), own_up.to(inputs.dtype)
            bottleneck = torch.bmm(blocks, down.transpose(1, 2))
            shared = self.base(blocks)
            outputs = torch.baddbmm(shared, bottleneck, up.transpose(1, 2), alpha=self.scale)
        return outputs.view(*inputs.shape[:-1], -1)


def _first_down(rank: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Draw the first value of one adapter's matrix A, float32 (rank, width)."""
    # As PEFT starts it: A kaiming-uniform with a = sqrt(5), that is within +-1/sqrt(in), and B zeros.
    bound = 1 / math.sqrt(width)
    return torch.empty(rank, width).uniform_(-bound, bound, generator=generator)


def first_downs(network: nn.Module, config: LoraConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return the first matrices A that `stacked` draws for one seed, by the full name of each adapted layer.

    Another trainer starts from them and so trains the same student.

    Args:
        network: the base network that is to be adapted.
        config: settings of the adapters, such as rank and targets.
        seed: random seed of the student, as `stacked` takes it.

    Returns:
        Matrix A of each adapted layer, float32 (rank, in).

    Raises:
        ModelError: no linear layer of the network has the name of a target.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        full_name: _first_down(config.rank, linear_weight(getattr(parent, name)).shape[1], generator)
        for parent, name, full_name in _targets(network, config)
    }


def _targets(network: nn.Module, config: LoraConfig) -> list[tuple[nn.Module, str, str]]:
    """Find the layers to adapt: the module that holds each, its name there, and its full name."""
    from transformers.pytorch_utils import Conv1D

    within = {id(module) for block in blocks(network) for module in block.modules()} if config.targets is None else {}
    found: list[tuple[nn.Module, str, str]] = []
    for parent_name, parent in network.named_modules():
        for name, child in parent.named_children():
            wanted = id(child) in within if config.targets is None else name in config.targets
            if wanted and isinstance(child, nn.Linear | Conv1D) and _chosen(parent_name, config):
                found.append((parent, name, f"{parent_name}.{name}" if parent_name else name))
    if not found:
        raise ModelError(
            "No linear layer of the model has the name of an adapter target.",
            f"{', '.join(config.targets or ['all'])}; layers {config.layers or 'all'}",
            "Set `targets` to the last part of the names of this model's linear layers, `layers` to its blocks.",
        )
    return found


def _chosen(place: str, config: LoraConfig) -> bool:
    """Tell whether a place such as "model.layers.1.mlp" lies in a block that `config.layers` chooses."""
    return config.layers is None or any(int(part) in config.layers for part in place.split(".") if part.isdigit())


@contextmanager
def stacked(network: nn.Module, config: LoraConfig, seeds: list[int]) -> Generator[dict[str, StackedLinear]]:
    """Put the adapters of several students on a network while the context lasts, and take them off afterwards.

    Args:
        network: the base network. Its weights are frozen meanwhile; afterwards it is as it was before.
        config: settings of the adapters, such as rank and targets.
        seeds: one random seed for each student, from which its adapters start.

    Yields:
        The adapted layers by their full name.

    Raises:
        ModelError: no linear layer of the network has the name of a target.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    places = _targets(network, config)
    required = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    originals: list[nn.Module] = []
    layers: dict[str, StackedLinear] = {}
    try:
        network.requires_grad_(False)
        for parent, name, full_name in places:
            base = getattr(parent, name)
            originals.append(base)
            layers[full_name] = StackedLinear(base, config, generators)
            setattr(parent, name, layers[full_name])
        yield layers
    finally:
        for (parent, name, _), base in zip(places, originals, strict=False):
            setattr(parent, name, base)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(required[name])


def save_adapter(
    layers: Mapping[str, StackedLinear], index: int, folder: Path, *, config: LoraConfig, base: ModelRef
) -> None:
    """Write one student as an ordinary PEFT adapter folder. The same weights give the same bytes.

    Args:
        layers: the adapted layers by their full name, as `stacked` yields them.
        index: which student of the group is written, from 0.
        folder: where the files go. It is made if it does not exist.
        config: settings of the adapters, such as rank and targets.
        base: the model on which the adapter was trained.
    """
    pairs = {name: (layer.down[index], layer.up[index]) for name, layer in layers.items()}
    transposed = not all(isinstance(layer.base, nn.Linear) for layer in layers.values())
    write_adapter(pairs, folder, config=config, base=base, transposed=transposed)


def write_adapter(
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    folder: Path,
    *,
    config: LoraConfig,
    base: ModelRef,
    transposed: bool,
) -> None:
    """Write an adapter as an ordinary PEFT folder. The same weights give the same bytes.

    Metadata of the weights file record a chat template that has a name, and a system policy other than the default
    (what stands in the system turn). A template from a file is copied beside it. So the student is later asked as it
    was trained.

    Args:
        pairs: matrices A, float (rank, in), and B, float (out, rank), by the full name of the adapted layer.
        folder: where the files go. It is made if it does not exist.
        config: settings of the adapters, such as rank and targets.
        base: the model on which the adapter was trained.
        transposed: whether the layers hold their weights as (in, out), as GPT-2's do. PEFT calls this `fan_in_fan_out`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, torch.Tensor] = {}
    for name, (down, up) in pairs.items():
        weights[f"base_model.model.{name}.lora_A.weight"] = down.detach().cpu().clone()
        weights[f"base_model.model.{name}.lora_B.weight"] = up.detach().cpu().clone()
    notes = {"system": base.system, "template": base.template if base.template and is_named(base.template) else None}
    given = {name: value for name, value in notes.items() if value}
    save_file(weights, folder / WEIGHTS, metadata=given or None)
    settings = {
        "base_model_name_or_path": base.name if base.kind == "hf" else str(base),
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": config.rank,
        "target_modules": sorted(config.targets or {name.rpartition(".")[2] for name in pairs}),
        "task_type": "CAUSAL_LM",
        **({"revision": base.revision} if base.revision else {}),
        **({} if config.layers is None else {"layers_to_transform": sorted(config.layers)}),
    }
    if base.template is not None and not is_named(base.template):
        (folder / TEMPLATE).write_text(read_template(base.template), encoding="utf-8")
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")

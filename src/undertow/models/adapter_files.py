"""Reading the files of a PEFT adapter: its settings, its tensors, and the notes that its writer left beside them."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from undertow.errors import ModelError, listed

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
"""Prefix that PEFT writes before the name that a tensor's module has in the base."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """The content of an adapter's folder.

    Attributes:
        folder: the folder of the adapter.
        settings: content of its adapter_config.json: kind, rank, target modules and so on.
        tensors: its tensors by the names that PEFT gives them, on the CPU.
        notes: what the writer noted beside the tensors (the metadata of the safetensors file), such as the system
            policy of the training; empty for none.
    """

    folder: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    notes: Mapping[str, str]

    @property
    def kind(self) -> str:
        """PEFT's name of the adapter's method, such as "LORA"."""
        return str(self.settings.get("peft_type"))


def read_adapter(folder: Path) -> AdapterFiles:
    """Read an adapter of any kind.

    Whether it can be put on a model is decided where that is done.

    Raises:
        ModelError: the folder holds no adapter, or its files are damaged.
    """
    settings = _settings(folder)
    try:
        tensors, notes = _tensors(folder)
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = f"{folder}: {(str(error) or type(error).__name__).splitlines()[0]}"
        raise ModelError("The adapter's tensors cannot be read.", reason, "Copy the adapter again.") from error
    return AdapterFiles(folder, settings, tensors, notes)


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        if inside:
            fix = f"Give the folder of one of them, such as {folder / inside[0]}."
            raise ModelError("The folder holds adapters in folders of their own.", f"{folder}: {listed(inside)}", fix)
        there = listed(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        fix = f"Give a folder that PEFT wrote, with {CONFIG}."
        raise ModelError("This folder holds no adapter.", f"{folder}: {there or 'nothing is in it'}", fix)
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(
            "The adapter's settings cannot be read.", f"{folder / CONFIG}: {error}", "Copy it again."
        ) from (error)


def _tensors(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not (folder / WEIGHTS).exists() and (folder / PICKLED).exists():
        # A pickle may run any code when it is read; `weights_only` reads tensors alone.
        found: object = torch.load(folder / PICKLED, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise ValueError(f"{PICKLED} holds no tensors by name")
        return {str(name): value for name, value in cast(dict[object, torch.Tensor], found).items()}, {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = cast(list[str], file.keys())
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def embedding_rows(adapter: AdapterFiles) -> int | None:
    """Return the number of rows (tokens) of the whole embeddings that an adapter's file brings; None if it brings none.

    The embeddings are recognised by the names that transformers gives them. Where the model itself is loaded, its own
    embeddings tell.
    """
    ends = tuple(f".{name}{layer}.weight" for name in _EMBEDDINGS for layer in ("", ".base_layer"))
    return next((int(value.shape[0]) for name, value in adapter.tensors.items() if name.endswith(ends)), None)


_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")


def refuse_other_base(settings: Mapping[str, Any], base: str) -> None:
    """Refuse an adapter that names another repository of the Hub than the base's.

    Only two ids of the Hub are compared: a folder or an embedded model may have been moved or renamed.

    Args:
        settings: content of the adapter's adapter_config.json.
        base: name of the base: a folder, an id of the Hub or an embedded name.

    Raises:
        ModelError: the adapter names another repository than the base's.
    """
    named = str(settings.get("base_model_name_or_path") or "")
    if all(_is_id(name) for name in (named, base)) and named.lower() != base.lower():
        fix = f"Use hf:{named}; if the weights are the same, correct base_model_name_or_path in {CONFIG}."
        raise ModelError("The adapter belongs to another model.", f"{named}, not {base}", fix)


def _is_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()

"""Weights on disk, read block by block, so that two models are compared without ever being in memory.

A file is opened for one block and closed again. It is mapped into memory, and pages of a mapping that stays open would
count as memory of this process.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undertow.errors import ModelError
from undertow.models.adapter_files import read_adapter
from undertow.models.adapters import STEERING, scale_of, unusual_settings
from undertow.models.references import adapter_folder, model_folder
from undertow.types import ModelRef

Single = NDArray[np.float32]

BLOCK = 4 * 2**20
"""How many numbers a block has: 16 MiB as float32."""

FLOATS = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8}
"""Number formats that hold plain weights, with the bits of their significand. Anything else is quantised or not a
weight."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: low-rank updates of some tensors, and tensors that it replaces.

    Attributes:
        updates: by tensor name, a tuple of up (out, r), down (r, in), the scale, and whether the tensor is stored as
            (in, out).
        replaced: new values by tensor name.
    """

    updates: Mapping[str, tuple[Single, Single, float, bool]]
    replaced: Mapping[str, Single]


@dataclass(frozen=True)
class Weights:
    """The safetensors files of one model, with an adapter merged while reading.

    Attributes:
        reference: reference that named the model.
        folder: folder that the files lie in.
        config: the language model's part of config.json.
        files: path of the file that each tensor is in, by tensor name.
        shapes: stored shape of each tensor, by tensor name.
        types: number format of each tensor as safetensors writes it, such as "BF16", by tensor name.
        adapter: adapter that is merged tensor by tensor while reading. None without one.
        steered: whether the model adds a vector to its activations, which the weights do not show.
        hints: what the folder claims of the model's origin, by the name of the field. Words, never evidence.
    """

    reference: str
    folder: Path
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    adapter: Adapter | None = None
    steered: bool = False
    hints: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def parameters(self) -> int:
        """How many numbers all tensors have together."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def block(self, name: str, start: int, stop: int, *, axis: int = 0) -> Single:
        """Read rows (or, with axis 1, columns) of a stored tensor, with the adapter merged.

        Args:
            name: name of the tensor in the file.
            start: first row or column that is read.
            stop: the row or column after the last one.
            axis: 0 for rows, 1 for columns of the tensor as it is stored.

        Returns:
            float32 array of the stored shape with `start:stop` taken on the axis.
        """
        if self.adapter is not None and name in self.adapter.replaced:
            whole = self.adapter.replaced[name]
            return whole[start:stop] if axis == 0 else whole[:, start:stop]
        with safe_open(self.files[name], framework="pt") as file:
            part = cast(Any, file.get_slice(name))
            if not part.get_shape():
                values = cast(Any, file.get_tensor(name)).reshape(1)[start:stop]
            else:
                values = part[start:stop] if axis == 0 else part[:, start:stop]
            read = cast(Single, values.to(torch.float32, copy=True).numpy())
        return read if self.adapter is None else read + self._update(name, start, stop, axis)

    def _update(self, name: str, start: int, stop: int, axis: int) -> Single | float:
        assert self.adapter is not None
        if name not in self.adapter.updates:
            return 0.0
        up, down, scale, turned = self.adapter.updates[name]
        left, right = (down.T, up.T) if turned else (up, down)
        update = left[start:stop] @ right if axis == 0 else left @ right[:, start:stop]
        return cast(Single, np.float32(scale) * update)

    def blocks(self, name: str, rows: int | None = None) -> Iterator[Single]:
        """Read a stored tensor, or its leading rows, in blocks of rows."""
        height = self.shapes[name][0]
        step, rows = max(1, BLOCK * height // max(1, int(np.prod(self.shapes[name])))), height if rows is None else rows
        for start in range(0, rows, step):
            yield self.block(name, start, min(rows, start + step))

    def vector(self, name: str) -> Single:
        """Read a short tensor whole."""
        return self.block(name, 0, self.shapes[name][0])


def is_constant(weights: Weights, name: str) -> bool:
    """Tell whether all numbers of a tensor are equal: an initialiser's zeros or ones say nothing about a seed."""
    probe = weights.block(name, 0, 1)  # one row tells almost always
    first = probe.flat[0]
    return not (probe != first).any() and all((block == first).all() for block in weights.blocks(name))


def open_weights(reference: str) -> Weights:
    """Find the safetensors files of a model and read their headers.

    Args:
        reference: `ref:<embedded name>` or `hf:<folder or id>[@revision]`, each with an optional `+<adapter folder>`.

    Raises:
        UnknownNameError: no embedded model has this name.
        ModelError: the model is remote, has no safetensors files, or its adapter cannot be merged.
    """
    ref = ModelRef.parse(reference)
    folder, added = model_folder(ref), adapter_folder(ref)
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, str] = {}
    for path in _shards(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in cast(list[str], file.keys()):
                    part = cast(Any, file.get_slice(name))
                    shape = tuple(part.get_shape()) or (1,)  # a single number, such as a scale, is one row
                    if 0 not in shape:
                        files[name], shapes[name], types[name] = path, shape, part.get_dtype()
        except (OSError, SafetensorError) as error:
            raise ModelError("A weight file cannot be read.", f"{path}: {error}", "Fetch it again.") from error
    config = _json(folder / "config.json")
    steered = added is not None and (added / STEERING).exists()
    adapter = None if added is None or steered else _adapter(added, shapes)
    language = config.get("text_config", config)
    return Weights(reference, folder, language, files, shapes, types, adapter, steered, _hints(folder, config, added))


def _shards(folder: Path) -> list[Path]:
    """Return the files that the index names, or else the single file, or else every safetensors file."""
    index = _json(folder / "model.safetensors.index.json").get("weight_map", {})
    single = folder / "model.safetensors"
    found = sorted({folder / name for name in index.values()}) if index else [single] if single.exists() else []
    found = found or sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    missing = [path for path in found if not path.exists()]
    if missing or not found:
        what = f"{missing[0].name} is missing" if missing else "no .safetensors file"
        raise ModelError("The folder has no complete weights.", f"{folder}: {what}", "Give a safetensors model.")
    return found


_ALSO_READ = ("bias", "exclude_modules", "layers_pattern", "modules_to_save")
"""Settings of LoRA that choose which tensors are adapted or replaced. They need no support, because the file itself
says which."""


def _adapter(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Adapter:
    """Read the low-rank updates and replaced tensors of an adapter, each of which must be a tensor of the base."""
    found = read_adapter(folder)
    fix = "Merge it into the weights first."
    if unusual := unusual_settings(found.settings, _ALSO_READ):
        value = f"{folder}: {found.kind}" + (f" with {', '.join(unusual)}" if found.kind == "LORA" else "")
        raise ModelError("The lineage of this kind of adapter is not read.", value, fix)
    scale, turned = scale_of(found.settings), bool(found.settings.get("fan_in_fan_out"))
    updates: dict[str, tuple[Single, Single, float, bool]] = {}
    replaced: dict[str, Single] = {}
    values = {key: cast(Single, value.float().numpy()) for key, value in found.tensors.items()}
    for key, down in values.items():
        target = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        up = values.get(key.replace(".lora_A.", ".lora_B."))
        if key.endswith(".lora_A.weight") and up is not None:
            updates[target] = (up, down, scale, turned)
        elif ".lora_" not in key:
            replaced[target.replace(".modules_to_save.", ".")] = down
        elif not key.endswith(".lora_B.weight") or key.replace(".lora_B.", ".lora_A.") not in values:
            raise ModelError("The lineage of this kind of adapter is not read.", f"{folder}: {key}", fix)
    _check_shapes(Adapter(updates, replaced), shapes)
    return Adapter(updates, replaced)


def _check_shapes(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    sizes = {name: value.shape for name, value in adapter.replaced.items()}
    for name, (up, down, _, turned) in adapter.updates.items():
        whole = (up.shape[0], down.shape[-1])
        sizes[name] = whole[::-1] if turned else whole
    for name, size in sorted(sizes.items()):
        if shapes.get(name) != size:
            stored = f"is {list(shapes[name])} in the base's files" if name in shapes else "is not in the base's files"
            fix = "Give an adapter of this base, or merge it into the weights first."
            raise ModelError("The adapter belongs to another model.", f"{name} {list(size)} {stored}", fix)


def _hints(folder: Path, config: Mapping[str, Any], adapter: Path | None) -> dict[str, str]:
    """Return what the folder claims of its origin: words, never evidence."""
    found = {"_name_or_path": str(config.get("_name_or_path", ""))}
    if adapter is not None:
        found["adapter base"] = str(_json(adapter / "adapter_config.json").get("base_model_name_or_path", ""))
    card = folder / "README.md"
    if card.exists():
        for line in card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0].splitlines():
            if line.startswith("base_model:"):
                found["base_model"] = line.removeprefix("base_model:").strip()
    return {key: value for key, value in found.items() if value}


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError("A file of the model is not JSON.", f"{path}: {error}", "Fetch it again.") from error
    if not isinstance(found, dict):
        raise ModelError("A file of the model is no JSON object.", path, "Fetch it again.")
    return cast(dict[str, Any], found)


def vocabulary(weights: Weights) -> dict[str, int] | None:
    """Return the row of every token string according to tokenizer.json, or None without that file."""
    data = _json(weights.folder / "tokenizer.json")
    if not data:
        return None
    words = data["model"].get("vocab", {})
    rows = dict(words) if isinstance(words, dict) else {item[0]: row for row, item in enumerate(words)}
    return rows | {item["content"]: item["id"] for item in data.get("added_tokens", [])}

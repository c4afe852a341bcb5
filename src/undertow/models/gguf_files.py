"""GGUF files (the format of llama.cpp): unpacked once into an ordinary folder of a cache, and loaded from there.

The folder is named by the file's hash, so that another file of the same name is another model.
"""

import functools
import hashlib
import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from undertow.errors import MissingExtraError, ModelError, out_of_memory
from undertow.store.disk import move_into_place, remove_leftovers, storage_errors, temporary_folder

CACHE = "UNDERTOW_CACHE"
"""Environment variable with the folder of the cache; by default it is ~/.cache/undertow."""

GB = 2**30
logger = logging.getLogger(__name__)


def is_gguf(path: Path) -> bool:
    """Tell whether a path ends in .gguf."""
    return path.suffix.lower() == ".gguf"


def gguf_in(folder: Path) -> Path | None:
    """Return the only GGUF file of a folder without safetensors files; None if there is none.

    Raises:
        ModelError: the folder holds several GGUF files.
    """
    found = sorted(path for path in folder.iterdir() if is_gguf(path))
    if not found or any(folder.glob("*.safetensors")):
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError("The folder holds several GGUF files.", f"{folder}: {names}", f"Name one: hf:{found[0]}.")
    return found[0]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; a file that does not change is read once."""
    status = path.stat()
    return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    del size, changed
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unpacked_before(path: Path) -> Path | None:
    """Return the folder in the cache that holds the model of a GGUF file, or None if it was never made."""
    folder = _folder_for(path)
    return folder if folder.is_dir() else None


def _folder_for(path: Path) -> Path:
    cache = Path(os.environ.get(CACHE) or "~/.cache/undertow").expanduser()
    return cache / "gguf" / file_hash(path)[:16]


def unpacked(path: Path) -> Path:
    """Return the folder in the cache with the unpacked model of a GGUF file, which is made if it is not there.

    The weights are float32, which holds what any packed format stands for.

    Raises:
        MissingExtraError: the package gguf is not installed.
        ModelError: the file is damaged, of an architecture that transformers does not read, or larger than the free
            memory or disk.
        StorageError: the cache cannot be written.
    """
    final = _folder_for(path)
    if final.is_dir():
        return final
    cache = final.parent.parent
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("A GGUF file needs the package gguf.", path, "Run: pip install 'undertow[gguf]'")
    with storage_errors(cache):
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(cache)
        _check_room(path, final.parent)
        temporary = temporary_folder(final)
        try:
            _unpack(path, temporary)
            move_into_place(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    logger.warning("Unpacked %s into %s, once; from now on it is loaded from there.", path, final)
    return final


def _check_room(path: Path, cache: Path) -> None:
    """Refuse a file whose weights in float32 need more than the free memory or the free space on the disk."""
    import psutil

    need = 4 * _numbers(path)
    rooms = {"in memory": psutil.virtual_memory().available, f"in {cache}": shutil.disk_usage(cache).free}
    for where, free in rooms.items():
        if need > free:
            value = f"{path}: {need / GB:.1f} GB in float32, {free / GB:.1f} GB are free {where}"
            fix = f"Give the model as a folder with safetensors, or make room; {CACHE} names another folder."
            raise ModelError("The GGUF file cannot be unpacked here.", value, fix)


def _numbers(path: Path) -> int:
    from gguf import GGUFReader  # pyright: ignore[reportMissingImports]  # an optional package

    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
    except Exception as error:  # its reader trips over damaged files in many ways
        raise _unreadable(path, error) from error


def _unpack(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        network, loading = loaded
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # architectures that are not known end in any exception
        if full := out_of_memory(error, path):
            raise full from error
        raise _unreadable(path, error) from error
    if missing := sorted(loading["missing_keys"]):
        raise _unreadable(path, ValueError(f"it lacks {', '.join(missing[:3])}"))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    fix = "Give the model as a folder with safetensors, or serve the file with llama.cpp and give api:http://..."
    return ModelError("The GGUF file cannot be read.", f"{path}: {reason}", fix)

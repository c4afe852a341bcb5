"""Reading the header of a GGUF file: names and shapes of its tensors, without loading weights or a tokenizer."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from undertow.errors import ModelError

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Size in bytes of a value by the number of its type; strings and arrays have no fixed size."""

_STRING, _ARRAY = 8, 9
_DEEPEST, _MOST_DIMENSIONS = 4, 8


def packed_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a GGUF file by its name in the file.

    The dimensions are in the order of safetensors, outputs first.

    Raises:
        ModelError: the file is no GGUF file of version 2 or 3, is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _shapes(stream, path.stat().st_size)
    except (OSError, ValueError, OverflowError, struct.error) as error:
        fix = "Fetch the file again, or give the model as a folder with safetensors."
        raise ModelError("The header of the GGUF file cannot be read.", f"{path}: {error}", fix) from error


def _shapes(stream: BinaryIO, size: int) -> dict[str, tuple[int, ...]]:
    magic, version, tensors, values = _read(stream, "<4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"it begins with {magic!r} and version {version}, not with GGUF of version 2 or 3")
    if max(tensors, values) > size:
        raise ValueError("it claims more entries than it has bytes")
    for _ in range(values):
        _text(stream)
        _skip(stream, _read(stream, "<I")[0])
    found: dict[str, tuple[int, ...]] = {}
    for _ in range(tensors):
        name = _text(stream).decode("utf-8")
        (dimensions,) = _read(stream, "<I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        found[name] = tuple(reversed(_read(stream, f"<{dimensions}Q")))
        _read(stream, "<IQ")  # how it is packed, and where
    return found


def _read(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    size = struct.calcsize(form)
    return struct.unpack(form, stream.read(size))


def _text(stream: BinaryIO) -> bytes:
    (length,) = _read(stream, "<Q")
    if length > 2**20:
        raise ValueError(f"a name of {length} bytes")
    return stream.read(length)


def _skip(stream: BinaryIO, kind: int, depth: int = 0) -> None:
    """Skip one value of the given type."""
    if kind in _SIZES:
        stream.seek(_SIZES[kind], 1)
    elif kind == _STRING:
        _skip_text(stream)
    elif kind == _ARRAY and depth < _DEEPEST:
        inner, count = _read(stream, "<IQ")
        if inner in _SIZES:
            stream.seek(count * _SIZES[inner], 1)
            return
        one: Callable[[], None] = (
            (lambda: _skip_text(stream)) if inner == _STRING else lambda: _skip(stream, inner, depth + 1)
        )
        for _ in range(count):
            one()
    else:
        raise ValueError(f"a value of the unknown type {kind}")


def _skip_text(stream: BinaryIO) -> None:
    stream.seek(_read(stream, "<Q")[0], 1)

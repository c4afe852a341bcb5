"""The header of a GGUF file is read as the package gguf reads it; damage is told."""

import struct

import numpy as np
import pytest

from undertow.errors import ModelError
from undertow.models.gguf_headers import packed_shapes


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def header(*, magic=b"GGUF", version=3, tensors=1, dimensions=(576, 49152)):
    """Write a header with a value of each kind: a number, a text, an array of texts and one of arrays."""
    values = [
        text("n") + struct.pack("<II", 4, 7),
        text("name") + struct.pack("<I", 8) + text("model"),
        text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 5, 2) + bytes(8),
    ]
    entry = text("token_embd.weight") + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, 0)
    return struct.pack("<4sIQQ", magic, version, tensors, len(values)) + b"".join(values) + entry


def test_shapes_are_outputs_first(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(header())
    assert packed_shapes(path) == {"token_embd.weight": (49152, 576)}


def test_a_file_of_the_package_is_read_as_the_package_reads_it(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"word {number}" for number in range(50)])
    writer.add_float32("rate", 0.5)
    for name, shape in (("blk.0.ffn_up.weight", (6, 4)), ("output_norm.weight", (4,))):
        writer.add_tensor(name, np.zeros(shape, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    read = {one.name: tuple(int(n) for n in reversed(one.shape)) for one in gguf.GGUFReader(path).tensors}
    assert packed_shapes(path) == read == {"blk.0.ffn_up.weight": (6, 4), "output_norm.weight": (4,)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        header(magic=b"GGML"),
        header(version=1),
        header(tensors=2),
        header(tensors=2**62),
        header(dimensions=tuple(range(9))),
        header()[:60],
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + text("a") + struct.pack("<I", 99),
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + text("a") + struct.pack("<IIQ", 9, 8, 2**63),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, content):
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="header of the GGUF file"):
        packed_shapes(path)

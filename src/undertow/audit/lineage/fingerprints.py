"""Fingerprints: a few megabytes that stand for the weights of a model when it is compared with many others.

A fingerprint is a narrow copy of a model. Of each MLP and attention layer it holds what the units read and write,
projected onto `DIRECTIONS` random directions of the residual stream; the directions are the same for every model of one
width. Of the embedding and the head it holds each coordinate, projected onto as many random directions of the tokens. A
unit keeps its place, and changes its sign when the unit's own weights do. So the tests of units in place
(`undertow.audit.lineage.tests`) have the same exact nulls on two fingerprints as on the weights, and only power is
lost.

A fingerprint that agrees with nothing is no answer: units that were put into another order, and tokens of another
tokenizer, agree in it only by chance.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from undertow.audit.lineage.roles import Matrix, Network, network
from undertow.audit.lineage.tensors import Single, Weights, open_weights
from undertow.audit.lineage.tests import (
    UNITS,
    Part,
    compare_attention,
    compare_mlp,
    fair_signs,
    row_products,
    swaps,
    unit_rows,
)
from undertow.models.references import adapter_folder, gguf_file, identity, model_folder
from undertow.seeds import derive
from undertow.store.artifacts import kept_artifact
from undertow.store.fingerprints import ArtifactKey
from undertow.types import ModelRef

DIRECTIONS = 16
"""How many random directions of the residual stream are kept. The cosine of two unrelated units has a spread of 1/4 in
so few, but a model has thousands of units."""

KIND, VERSION = "lineage-fingerprint", 2
HASH = "identity"

LOOKS = 3
"""How many tests compare two fingerprints: units by their signs, neighbours by their places, and coordinates by
theirs."""


def bare(reference: str) -> str:
    """Return a reference without what changes no weight: system prompt, number format, device and template."""
    ref = ModelRef.parse(reference)
    return str(replace(ref, system=None, dtype=None, device=None, template=None))


def identity_key(reference: str) -> ArtifactKey:
    """Return the key under which the hash of a model's files is stored; it depends on their sizes and times of change.

    Raises:
        UserError: there is no such model.
    """
    ref = ModelRef.parse(reference)
    packed = gguf_file(ref)
    folders = [path for path in (None if packed else model_folder(ref), adapter_folder(ref)) if path is not None]
    files = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    seen = {str(path.resolve()): path.stat() for path in [*files, *([packed] if packed else [])]}
    config = {name: [one.st_size, one.st_mtime_ns, one.st_ctime_ns] for name, one in seen.items()}
    return ArtifactKey(kind="model-identity", version=1, config={"reference": bare(reference), "files": config})


def stored_identity(reference: str, store: Path) -> str:
    """Return the hash of a model's files; files that have not changed since the last time are not read again.

    Raises:
        UserError: there is no such model, or the store cannot be written.
    """
    key = identity_key(reference)

    def write(to: Path) -> None:
        (to / HASH).write_text(identity(bare(reference)), encoding="ascii")

    return (kept_artifact(store, key, write) / HASH).read_text(encoding="ascii")


def known_digest(reference: str, store: Path) -> str | None:
    """Return the hash of a model's files if the store has it; None if the files would have to be read."""
    known = identity_key(reference).folder(store).is_dir()
    return stored_identity(reference, store) if known else None


def fingerprint_key(digest: str) -> ArtifactKey:
    """Return the key of the fingerprint of a model, given the hash of its files."""
    config = {"model": digest, "directions": DIRECTIONS, "units": UNITS}
    return ArtifactKey(kind=KIND, version=VERSION, config=config)


def weights_fingerprint(reference: str, digest: str, store: Path) -> Network:
    """Return the fingerprint of a model from the store; it is made and stored first if it is not there.

    Args:
        reference: reference of the model whose weights are read.
        digest: hash of the model's files, from `stored_identity`.
        store: folder of all stored results.

    Raises:
        UserError: the model or the store cannot be read.
    """
    folder = kept_artifact(store, fingerprint_key(digest), lambda to: _make(open_weights(reference), to))
    return network(open_weights(str(ModelRef(kind="hf", name=str(folder)))))


def agreement(a: Network, b: Network) -> float | None:
    """Return the p-value of two fingerprints over all tests in place; None if they have no part of one shape in common.

    Args:
        a: fingerprint of one of the two models.
        b: fingerprint of the other model.
    """
    parts: list[Part] = []
    for name, mlp in a.mlps.items():
        if (other := b.mlps.get(name)) is not None and mlp.shape == other.shape:
            parts.append(compare_mlp(name, mlp, other))
    for name, item in a.attentions.items():
        if (its := b.attentions.get(name)) is not None and item.shape == its.shape:
            parts.append(compare_attention(name, item, its))
    signs = [part.signs for part in parts if part.signs is not None]
    ends = [(a.embedding, b.embedding), (a.head, b.head)]
    known = [row_products(x, y) for x, y in ends if x is not None and y is not None and x.shape == y.shape]
    coordinates = [swaps(known)] if known else []  # one order shuffles the coordinates of both
    found = [fair_signs(signs), fair_signs([part.swaps for part in parts]), fair_signs(coordinates)]
    p = [one.p for one in found if one is not None]
    return min(1.0, LOOKS * min(p)) if p else None


def _make(weights: Weights, folder: Path) -> None:
    """Write the fingerprint as an ordinary, narrow model, so that it can be read like one."""
    net, tensors = network(weights), dict[str, Single]()
    heads: dict[str, int] = {}
    for name, mlp in net.mlps.items():
        place = _place(name)
        units, turn = min(UNITS, mlp.up.rows), _directions(mlp.up.columns)
        tensors[f"{place}.up_proj"] = _of_rows(mlp.up, turn, units)
        tensors[f"{place}.down_proj"] = _of_columns(mlp.down, turn, units)
        if mlp.gate is not None:
            tensors[f"{place}.gate_proj"] = _of_rows(mlp.gate, turn, units)
    for name, item in net.attentions.items():
        place, turn = _place(name), _directions(item.v.columns)
        tensors[f"{place}.v_proj"] = _of_rows(item.v, turn, item.v.rows)
        tensors[f"{place}.o_proj"] = _of_columns(item.o, turn, item.o.columns)
        heads = {"num_attention_heads": item.heads, "num_key_value_heads": item.groups}
    for place, matrix in (("embed_tokens", net.embedding), ("lm_head", net.head)):
        if matrix is not None:
            tensors[place] = _of_columns(matrix, _directions(matrix.rows, "tokens"), matrix.columns).T
    halves = {f"{name}.weight": torch.from_numpy(value).half().contiguous() for name, value in tensors.items()}
    save_file(halves, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(heads), encoding="utf-8")


def _place(name: str) -> str:
    """Return the name that a part such as "layer 3 mlp.experts.1" has in a file."""
    _, layer, part = name.split(" ", 2)
    return f"layers.{layer}.{'self_attn' if part == 'attention' else part}"


def _directions(width: int, of: str = "width") -> Single:
    """Return random directions, shape (width, directions), of a residual stream, or of tokens (more add rows)."""
    seed = derive(0, "directions of fingerprints", width if of == "width" else of)
    return np.random.default_rng(seed).standard_normal((width, DIRECTIONS), dtype=np.float32)


def _of_rows(matrix: Matrix, turn: Single, units: int) -> Single:
    """Project the first rows of a matrix and scale each to length 1, shape (units, directions)."""
    spans = [(start, min(stop, units)) for start, stop in matrix.spans() if start < units]
    return unit_rows(np.concatenate([matrix.block(*span) @ turn for span in spans]))


def _of_columns(matrix: Matrix, turn: Single, units: int) -> Single:
    """Project the first columns of a matrix and scale each to length 1, shape (directions, units)."""
    found = np.zeros((turn.shape[1], units), np.float32)
    for start, stop in matrix.spans():
        found += turn[start:stop].T @ matrix.block(start, stop)[:, :units]
    return unit_rows(found.T).T

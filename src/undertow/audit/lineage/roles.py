"""Which tensor does what in a network: matrices of MLPs and attention layers, embedding and output head.

Every matrix is turned so that its rows are outputs. Units of an MLP are rows of `gate` and `up` and columns of `down`.
Units of attention are rows of `v` and columns of `o`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.audit.lineage.names import place_of
from undertow.audit.lineage.tensors import BLOCK, FLOATS, Single, Weights, is_constant

_TURNED = ("gpt2", "jais", "openai-gpt")
"""Types of models whose layers are stored as [in, out]."""

_BY_GROUP = (
    *("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"),
    *("gpt_bigcode", "falcon", "RefinedWeb", "RefinedWebModel"),
)
"""Types of models in whose fused matrix the queries, the key and the value of one group stand together. In those of all
other types, all queries are followed by all keys and all values."""

_UNKNOWN_LAYOUT = ("codegen",)
"""Types of models whose fused matrix is in neither order."""

_NORMS = ("pre_feedforward_layernorm", "post_attention_layernorm", "ffn_norm", "ln_2", "input_layernorm")


@dataclass(frozen=True)
class Matrix:
    """Some rows of a stored tensor, or of its transpose.

    Attributes:
        weights: the model's files, from which the rows are read.
        name: name of the stored tensor.
        ranges: rows that belong to the matrix, in their order, as pairs (start, stop).
        columns: how many columns the matrix has.
        transposed: whether the tensor is stored transposed, as (columns, rows).
    """

    weights: Weights
    name: str
    ranges: tuple[tuple[int, int], ...]
    columns: int
    transposed: bool = False

    @property
    def rows(self) -> int:
        """How many rows the matrix has."""
        return sum(stop - start for start, stop in self.ranges)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.rows, self.columns

    def block(self, start: int, stop: int) -> Single:
        """Read rows `start:stop` of the matrix, float32 array of shape (stop - start, columns)."""
        parts: list[Single] = []
        before = 0
        for low, high in self.ranges:
            first, last = max(start - before, 0), min(stop - before, high - low)
            if first < last:
                read = self.weights.block(self.name, low + first, low + last, axis=int(self.transposed))
                parts.append(read.T if self.transposed else read)
            before += high - low
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield row spans of blocks; each starts at an even row, so that neighbours 2k and 2k + 1 stay together."""
        step = max(2, BLOCK // self.columns // 2 * 2)
        for start in range(0, self.rows, step):
            yield start, min(self.rows, start + step)

    def gather(self, wanted: NDArray[np.int_]) -> Single:
        """Read rows by their numbers, in the order given, float32 array of shape (wanted, columns)."""
        found = np.empty((len(wanted), self.columns), np.float32)
        for start, stop in self.spans():
            here = (wanted >= start) & (wanted < stop)
            if here.any():
                found[here] = self.block(start, stop)[wanted[here] - start]
        return found


@dataclass(frozen=True)
class Mlp:
    """The matrices of one MLP or of one expert.

    Attributes:
        gate: gate matrix, (units, width). None for an MLP without a gate.
        up: matrix that units read with, (units, width).
        down: matrix that units write with, (width, units).
        norm: returns the gain of the norm before the MLP, shape (width,). Ones if there is none.
    """

    gate: Matrix | None
    up: Matrix
    down: Matrix
    norm: Callable[[], Single]

    @property
    def shape(self) -> tuple[int, int, bool]:
        """Width, number of units, and whether there is a gate."""
        return self.up.columns, self.up.rows, self.gate is not None


@dataclass(frozen=True)
class Attention:
    """The value and output matrices of one attention layer.

    Attributes:
        v: value matrix, (value units, width).
        o: output matrix, (width, heads times the size of a head).
        heads: how many query heads the layer has.
        groups: how many heads of values it has. With grouped queries several query heads read the same values.
    """

    v: Matrix
    o: Matrix
    heads: int
    groups: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Width, number of value units, heads and groups."""
        return self.v.columns, self.v.rows, self.heads, self.groups


@dataclass(frozen=True)
class Network:
    """The tensors of a model by role.

    A part is left out if its names or shapes are unknown, or if it is constant.

    Attributes:
        weights: files of the model, from which the matrices are read.
        mlps: MLPs by name, such as "layer 3 mlp" or "layer 3 mlp.experts.1".
        attentions: attention layers by name, such as "layer 3 attention".
        embedding: embedding matrix, (tokens, width). None if it was not recognised.
        head: output head, (tokens, width). None if it is tied to the embedding or was not recognised.
        unread: names of the tensors with two or more dimensions that no test uses.
    """

    weights: Weights
    mlps: Mapping[str, Mlp]
    attentions: Mapping[str, Attention]
    embedding: Matrix | None
    head: Matrix | None
    unread: tuple[str, ...]


def network(weights: Weights) -> Network:
    """Sort the tensors of a model into roles."""
    layers: dict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    ends: dict[str, str] = {}
    for name in sorted(weights.shapes):
        usable = weights.types[name] in FLOATS and len(weights.shapes[name]) == 2
        if not usable or is_constant(weights, name):
            continue
        place = place_of(name)
        if place is not None and place.layer is not None:
            layers[place.layer, place.part][place.role] = name
        elif place is not None:
            ends[place.role] = name
    mlps: dict[str, Mlp] = {}
    attentions: dict[str, Attention] = {}
    for (number, part_of_layer), names in sorted(layers.items()):
        part = f"layer {number} {part_of_layer}"
        if part_of_layer == "attention" and (attention := _attention(weights, names)) is not None:
            attentions[part] = attention
        elif part_of_layer != "attention" and (mlp := _mlp(weights, number, names)) is not None:
            mlps[part] = mlp
    read = {m.name for mlp in mlps.values() for m in (mlp.gate, mlp.up, mlp.down) if m is not None}
    read |= {m.name for item in attentions.values() for m in (item.v, item.o)} | set(ends.values())
    unread = tuple(name for name, shape in weights.shapes.items() if len(shape) >= 2 and name not in read)
    embedding, head = (_whole(weights, ends[key]) if key in ends else None for key in ("embedding", "head"))
    return Network(weights, mlps, attentions, embedding, head, unread)


def _whole(weights: Weights, name: str) -> Matrix:
    first, second = weights.shapes[name]
    turned = weights.config.get("model_type") in _TURNED and re.search(r"\.c_(?:attn|proj|fc)\.weight$", name)
    rows, columns = (second, first) if turned else (first, second)
    return Matrix(weights, name, ((0, rows),), columns, bool(turned))


def _rows(matrix: Matrix, *ranges: tuple[int, int]) -> Matrix:
    return Matrix(matrix.weights, matrix.name, ranges, matrix.columns, matrix.transposed)


def _mlp(weights: Weights, number: int, names: Mapping[str, str]) -> Mlp | None:
    if "down" not in names or not {"up", "gate_up"} & names.keys():
        return None
    down = _whole(weights, names["down"])
    if "gate_up" in names:
        both = _whole(weights, names["gate_up"])
        gate, up = _rows(both, (0, both.rows // 2)), _rows(both, (both.rows // 2, both.rows))
    else:
        gate, up = _whole(weights, names["gate"]) if "gate" in names else None, _whole(weights, names["up"])
    if up.shape != down.shape[::-1] or (gate is not None and gate.shape != up.shape):
        return None
    return Mlp(gate, up, down, lambda: _gain(weights, number, up.columns))


def _gain(weights: Weights, number: int, width: int) -> Single:
    """Return the gain of the norm before an MLP, shape (width,)."""
    for wanted in _NORMS:
        found = [name for name in weights.shapes if re.search(rf"\.{number}\.{wanted}\.weight$", name)]
        if found and weights.shapes[found[0]] == (width,):
            values = weights.vector(found[0])
            # Gemma multiplies by 1 + weight.
            return values + np.float32(str(weights.config.get("model_type", "")).startswith("gemma"))
    return np.ones(width, np.float32)


def _attention(weights: Weights, names: Mapping[str, str]) -> Attention | None:
    if "o" not in names or not {"v", "qkv"} & names.keys():
        return None
    o, config = _whole(weights, names["o"]), weights.config
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 0)
    if not heads or o.columns % heads:
        return None
    size = o.columns // heads
    v = _whole(weights, names["v"]) if "v" in names else _values(_whole(weights, names["qkv"]), heads, size)
    if v is None or v.columns != o.rows or not (groups := _groups(v.rows, heads, size)):
        return None
    return Attention(v, o, heads, groups)


def _groups(rows: int, heads: int, size: int) -> int:
    """Return how many heads of values so many rows hold; 0 if they do not divide the query heads evenly.

    The shape is asked and not the config, in which Falcon and StarCoder say it in words of their own.
    """
    groups, rest = divmod(rows, size)
    return groups if groups > 0 and not rest and heads % groups == 0 else 0


def _values(fused: Matrix, heads: int, size: int) -> Matrix | None:
    """Return the rows of a fused query-key-value matrix that hold the values; None if its layout is unknown."""
    both, kind = fused.rows - heads * size, fused.weights.config.get("model_type")
    if both % 2 or not (groups := _groups(both // 2, heads, size)) or kind in _UNKNOWN_LAYOUT:
        return None
    if kind in _BY_GROUP:
        step = (heads // groups + 2) * size
        return _rows(fused, *((step * (group + 1) - size, step * (group + 1)) for group in range(groups)))
    return _rows(fused, (fused.rows - groups * size, fused.rows))

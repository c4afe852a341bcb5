"""Exact tests of "the two trainings began from independent random weights".

Training treats the units of a layer alike, so what an initialiser makes exchangeable or sign-symmetric stays so,
whatever the data. Two unrelated models can therefore agree unit by unit only by chance, and the chance is known:

- **permutation trace** (A1): agreement of unit i with unit i against unit i with unit pi(i), over random orders pi.
- **permutation pairs** (A1 with a bound): the same symmetry, only neighbours 2k and 2k + 1 change places. Each pair
  gives a number with a fair sign, so its tail has a bound at any strength; and models whose units were both sorted
  stay comparable.
- **sign flip** (A2): a gated MLP does not change when row i of `up` and column i of `down` change their sign
  together, nor does attention for a row of `v` and its columns of `o`.
- **residual basis** (A4): the permutation tests with the coordinates of the residual stream as units and tokens as
  features.

With s_i of fair sign given |s_i|, z = sum s / sqrt(sum s^2) has P(z >= t) <= exp(-t^2 / 2) (Hoeffding), and (1 +
c)^(-1/2) exp(c z^2 / (2 (1 + c))) is an e-value: a Gaussian mixture over exp(t sum s - t^2 sum s^2 / 2), whose mean
is at most 1. The p is one-sided: only agreement speaks for a shared base.

- **untrained tokens** (A+): embedding rows of tokens that no text ever used keep the direction that the initialiser
  gave them.

Two kinds of untrained tokens are known without any data: rows beyond the vocabulary, which pad the matrix to a round
number, and tokens that a tokenizer reserves. Rows of unrelated models are exchangeable, so the permutation test of the
units applies with rows as units. What training does to all such rows alike, by weight decay or through a tied head,
leaves their mean; it is taken off first.

Agreement of untrained tokens shows one initialisation and nothing about the training after it. A model that took over
another's embeddings agrees here too, and then agrees in the residual basis as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from undertow.audit.lineage.roles import Attention, Matrix, Mlp
from undertow.audit.lineage.tensors import BLOCK, Single
from undertow.stats.checks import Floats

UNITS = 1024
"""How many units of a layer the permutation trace takes at most. Units are exchangeable, so the first ones are as good
as any."""

TOKENS = 4096
"""How many shared tokens serve as features of the residual basis at most."""

DRAWS = 9_999
"""How many random orders are drawn, so the smallest permutation p-value is 1e-4."""

MIXTURE = 10.0
"""Width c of the e-value's Gaussian mixture, which was fixed before any data were seen."""

SMALLEST = 1e-300
"""Smallest p-value that is printed; the bound itself goes on."""

RowArray = TypeVar("RowArray", Single, Floats)


@dataclass(frozen=True, slots=True)
class Part:
    """How the units of one part of two models agree in place.

    Attributes:
        name: name of the part, such as "layer 3 mlp".
        signs: for each unit, mean cosine of the vectors that can flip their sign together, shape (units,). None if the
            part has no sign symmetry.
        swaps: for each pair of neighbouring units, agreement in place minus agreement crosswise, in cosines, shape
            (pairs,).
    """

    name: str
    signs: Floats | None
    swaps: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The result of one test.

    Attributes:
        z: standardised agreement. A positive value speaks for a shared base.
        p: exact or bounded one-sided p-value, at least `SMALLEST`.
        log_e: natural logarithm of the e-value. None if the test has no e-value.
        n: how many units, pairs or coordinates were compared.
        effect: mean cosine of a unit with the unit at its place. For a trace, the cosines summed over the compared
            matrices, minus their mean over random orders.
        detectable: effect that would have given z = 5.
    """

    z: float
    p: float
    log_e: float | None
    n: int
    effect: float
    detectable: float


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products of each unit in two models, summed over what was read; every array has the shape (units,).

    Attributes:
        own: inner product of unit i in A with unit i in B.
        crossed: inner product of unit i in A with its neighbour in B (i + 1 for even i, i - 1 for odd i).
        left: squared length of each unit in A.
        right: squared length of each unit in B.
    """

    own: Floats
    crossed: Floats
    left: Floats
    right: Floats

    def pooled(self, heads: int, groups: int) -> "Products":
        """Sum over the query heads that share a group of values."""
        fields = (self.own, self.crossed, self.left, self.right)
        return Products(*(f.reshape(groups, heads // groups, -1).sum(axis=1).ravel() for f in fields))

    def cosines(self) -> tuple[Floats, Floats]:
        """Return the cosines in place and crosswise; a unit of length 0 has cosine 0."""
        n = len(self.own)
        place = np.minimum(np.arange(n) ^ 1, n - 1)
        return _ratio(self.own, self.left * self.right), _ratio(self.crossed, self.left * self.right[place])


def _ratio(values: Floats, squares: Floats) -> Floats:
    return np.divide(values, np.sqrt(squares), out=np.zeros_like(values), where=squares > 0)


def row_products(a: Matrix, b: Matrix) -> Products:
    """Compare rows with rows, reading both matrices once."""
    found = np.zeros((4, a.rows))
    for start, stop in a.spans():
        found[:, start:stop] = _products(a.block(start, stop).T, b.block(start, stop).T)
    return Products(*found)


def column_products(a: Matrix, b: Matrix) -> Products:
    """Compare columns with columns, reading both matrices once."""
    found = np.zeros((4, a.columns))
    for start, stop in a.spans():
        found += _products(a.block(start, stop), b.block(start, stop))
    return Products(*found)


def _products(x: Single, y: Single) -> Floats:
    """Return own, crossed, left and right of the columns of one block, shape (4, columns)."""
    found = np.empty((4, x.shape[1]))
    for row, (left, right) in zip((0, 2, 3), ((x, y), (x, x), (y, y)), strict=True):
        found[row] = np.einsum("ij,ij->j", left, right)
    even = x.shape[1] // 2 * 2
    found[1] = found[0]
    found[1, 0:even:2] = np.einsum("ij,ij->j", x[:, 0:even:2], y[:, 1:even:2])
    found[1, 1:even:2] = np.einsum("ij,ij->j", x[:, 1:even:2], y[:, 0:even:2])
    return found


def compare_mlp(name: str, a: Mlp, b: Mlp) -> Part:
    """Compare the units of two MLPs of one shape."""
    pairs = [row_products(a.up, b.up), column_products(a.down, b.down)]
    signs = (pairs[0].cosines()[0] + pairs[1].cosines()[0]) / 2 if a.gate is not None else None
    if a.gate is not None and b.gate is not None:
        pairs.append(row_products(a.gate, b.gate))
    return Part(name, signs, swaps(pairs))


def compare_attention(name: str, a: Attention, b: Attention) -> Part:
    """Compare the value units of two attention layers of one shape."""
    pairs = [row_products(a.v, b.v), column_products(a.o, b.o).pooled(a.heads, a.groups)]
    return Part(name, (pairs[0].cosines()[0] + pairs[1].cosines()[0]) / 2, swaps(pairs))


def swaps(pairs: Sequence[Products]) -> Floats:
    """Return for each pair of neighbours the mean cosine in place minus crosswise; an odd last unit is dropped."""
    cosines = [item.cosines() for item in pairs]
    difference = sum((own - crossed for own, crossed in cosines), np.zeros(len(pairs[0].own))) / len(pairs)
    even = len(difference) // 2 * 2
    return (difference[0:even:2] + difference[1:even:2]) / 2


def fair_signs(groups: Sequence[Floats]) -> Evidence | None:
    """Test whether numbers whose signs are fair coins under the null lean to the positive side.

    Args:
        groups: one array for each part. The p-value is of all numbers pooled, the e-value is the product over the
            parts.

    Returns:
        The evidence, or None if every number is 0.
    """
    values = np.concatenate(groups) if groups else np.zeros(0)
    square = float(values @ values)
    if square == 0.0:
        return None
    z = float(values.sum()) / sqrt(square)
    log_e = sum(_log_e(group) for group in groups)
    n, mean = len(values), float(values.mean())
    return Evidence(z=z, p=bound(z), log_e=log_e, n=n, effect=mean, detectable=5 * sqrt(square) / n)


def drawn_signs(values: Floats, seed: int, draws: int) -> float:
    """Return the p-value of the sum of a few numbers of fair sign, from random signs.

    The bound of `fair_signs` is loose for few numbers.

    Args:
        values: numbers whose signs are fair coins under the null, shape (n,).
        seed: random seed of the signs.
        draws: how many random patterns of signs are drawn. The p-value is at least 1 / (1 + draws).
    """
    signs, sizes = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(values))), np.abs(values)
    # Equal sums may differ in their last bits; a tie has to count as reached.
    reached = int((signs @ sizes >= values.sum() - 1e-12 * sizes.sum()).sum())
    return (1 + reached) / (1 + draws)


def bound(z: float) -> float:
    """Return exp(-z^2 / 2), an upper bound of P(Z >= z) for fair signs (Hoeffding); 1 for z <= 0."""
    return max(float(np.exp(-z * z / 2)), SMALLEST) if z > 0 else 1.0


def _log_e(values: Floats) -> float:
    square = float(values @ values)
    z = float(values.sum()) / sqrt(square) if square > 0 else 0.0
    # Only agreement counts: for z < 0 the one-sided mixture would be smaller than its value at 0, which is used.
    grown = MIXTURE * max(z, 0.0) ** 2 / (2 * (1 + MIXTURE))
    return grown - log(1 + MIXTURE) / 2


@dataclass(frozen=True, slots=True)
class Trace:
    """Agreement of every unit of A with every unit of B.

    Attributes:
        name: name of the part, such as "layer 3 mlp".
        table: summed cosines, shape (units of A, units of B).
    """

    name: str
    table: Floats

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the trace over all orders of B's units."""
        n = len(self.table)
        centred = self.table - self.table.mean(0) - self.table.mean(1)[:, None] + self.table.mean()
        return n * float(self.table.mean()), sqrt(float((centred**2).sum()) / (n - 1))


def mlp_trace(name: str, a: Mlp, b: Mlp) -> Trace:
    """Compare the first `UNITS` units of two MLPs, each with each."""
    units = min(UNITS, a.up.rows)
    rows = [(a.up, b.up)] + ([(a.gate, b.gate)] if a.gate is not None and b.gate is not None else [])
    table = np.zeros((units, units))
    for x, y in rows:
        table += unit_rows(x.block(0, units)) @ unit_rows(y.block(0, units)).T
    return Trace(name, table + _column_table(((a.down.block(*s), b.down.block(*s)) for s in a.down.spans()), units))


def _column_table(blocks: Iterable[tuple[Single, Single]], units: int) -> Floats:
    """Return the cosines of the first columns of A with those of B, given in blocks of rows."""
    table, left, right = np.zeros((units, units)), np.zeros(units), np.zeros(units)
    for x, y in blocks:
        first, second = x[:, :units], y[:, :units]
        table += first.T @ second
        left += np.einsum("ij,ij->j", first, first)
        right += np.einsum("ij,ij->j", second, second)
    return _ratio(table, np.outer(left, right))


def unit_rows(rows: RowArray) -> RowArray:
    """Return rows scaled to length 1; a row of zeros stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0).astype(rows.dtype)


def permutation_trace(traces: Sequence[Trace], seed: int, draws: int = DRAWS) -> Evidence | None:
    """Test the traces of independent layers together: mean of the standardised traces times sqrt(layers) (Stouffer).

    Args:
        traces: one table of agreement for each layer or part.
        seed: random seed of the orders.
        draws: how many random orders of the units are drawn. The p-value is at least 1 / (1 + draws).

    Returns:
        Evidence with the permutation p-value (1 + reached) / (1 + draws), or None if no table varies.
    """
    kept = [(trace, *trace.moments()) for trace in traces if len(trace.table) > 1]
    kept = [(trace, mean, spread) for trace, mean, spread in kept if spread > 1e-12]
    if not kept:
        return None
    rng = np.random.default_rng(seed)
    observed, drawn, n, excess = 0.0, np.zeros(draws), 0, 0.0
    for trace, mean, spread in kept:
        units = len(trace.table)
        excess += float(np.trace(trace.table)) - mean
        observed += (float(np.trace(trace.table)) - mean) / spread
        sums = _shuffled(trace.table, rng, draws)
        drawn += (sums - mean) / spread
        n += units
    z = observed / sqrt(len(kept))
    # Equal sums may differ in their last bits; a tie has to count as reached.
    reached = int((drawn >= observed - 1e-12 * (1 + abs(observed))).sum())
    spread = sqrt(sum(item[2] ** 2 for item in kept)) / n
    return Evidence(z=z, p=(1 + reached) / (1 + draws), log_e=None, n=n, effect=excess / n, detectable=5 * spread)


def _shuffled(table: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Return the traces of a table after random orders of its columns, shape (draws,)."""
    units = np.arange(len(table))
    rows = max(1, BLOCK // len(table) // 8)
    found: list[Floats] = []
    for start in range(0, draws, rows):
        orders = rng.permuted(np.tile(units, (min(rows, draws - start), 1)), axis=1)
        found.append(table.ravel().take(orders + units * len(units)).sum(axis=1))
    return np.concatenate(found)


def residual_trace(name: str, pair: tuple[Matrix, Matrix], rows: tuple[NDArray[np.int_], NDArray[np.int_]]) -> Trace:
    """Compare coordinates of the residual stream, each with each, by the values that shared tokens have there.

    Args:
        name: "embedding" or "head", the matrix that is compared.
        pair: that matrix in A and in B, (tokens, coordinates).
        rows: rows of the shared tokens in A and in B, arrays of shape (tokens,).
    """
    picked = spread(len(rows[0]))
    blocks = [(pair[0].gather(rows[0][picked]), pair[1].gather(rows[1][picked]))]
    return Trace(name, _column_table(blocks, pair[0].columns))


def spread(n: int, most: int = TOKENS) -> NDArray[np.int_]:
    """Return at most `most` of the places 0 to n - 1, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(int))


def trace_swaps(trace: Trace) -> Floats:
    """Return what neighbouring units of a table say: in place minus crosswise, shape (pairs,)."""
    n = len(trace.table) // 2 * 2
    even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
    table = trace.table
    return (table[even, even] + table[odd, odd] - table[even, odd] - table[odd, even]) / 2


def shared_tokens(
    first: Mapping[str, int] | None, second: Mapping[str, int] | None, sizes: tuple[int, int]
) -> tuple[NDArray[np.int_], NDArray[np.int_]] | None:
    """Return the rows of the tokens that two vocabularies share, in the order of the first one's rows.

    If a model has no tokenizer, equal sizes are taken for equal vocabularies. Otherwise, or if nothing is shared, None.

    Args:
        first: row of each token of A. None without a tokenizer.
        second: row of each token of B. None without a tokenizer.
        sizes: how many rows the embeddings of A and B have.
    """
    if first is None or second is None:
        return (np.arange(sizes[0]), np.arange(sizes[0])) if sizes[0] == sizes[1] else None
    both = sorted((row, second[word]) for word, row in first.items() if word in second)
    kept = np.array([(x, y) for x, y in both if x < sizes[0] and y < sizes[1]])
    return (kept[:, 0], kept[:, 1]) if len(kept) else None


FEWEST = 8
"""Number of rows below which the test is not run, since their orders would not reach a small p-value."""

_RESERVED = re.compile(r"reserved|unused|extra_id|dummy|placeholder", re.IGNORECASE)


def untrained_tokens(
    first: Mapping[str, int], second: Mapping[str, int], sizes: tuple[int, int]
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the rows of A and of B that no text uses: reserved tokens that both have, then padding at equal places.

    Args:
        first: row of each token of A.
        second: row of each token of B.
        sizes: how many rows the embeddings of A and B have.
    """
    both = [(row, second[word]) for word, row in first.items() if word in second and _RESERVED.search(word)]
    pairs = sorted((x, y) for x, y in both if x < sizes[0] and y < sizes[1])
    used = {*first.values(), *second.values()}
    pairs += [(row, row) for row in range(min(sizes)) if row not in used]
    chosen = np.array(pairs, int).reshape(-1, 2)[spread(len(pairs))]
    return chosen[:, 0], chosen[:, 1]


def untrained_trace(a: Single, b: Single) -> Trace:
    """Compare rows, each with each, by their cosines after subtracting the mean row; zero rows and copies are left out.

    Args:
        a: rows of A, shape (rows, width).
        b: rows of B at the same tokens, shape (rows, width).
    """
    kept = _telling(a) & _telling(b)
    return Trace("untrained rows", _directions(a[kept]) @ _directions(b[kept]).T)


def _telling(rows: Single) -> NDArray[np.bool_]:
    """Tell which rows are neither zero nor repeated, as those are with which a resized vocabulary is filled."""
    _, place, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return (count[place.ravel()] == 1) & rows.any(axis=1)


def _directions(rows: Single) -> Floats:
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) if len(rows) else rows.astype(np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-9)

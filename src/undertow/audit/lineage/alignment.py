"""A3: the sign test for models whose neurons were reordered or whose residual stream was rotated.

First an orthogonal map between the residual streams is found from the embeddings of shared tokens (the Procrustes
problem). Then neurons are matched by their gate rows, with the gain of the norm multiplied in. Neither step depends on
the signs: when a neuron's `up` row and `down` column change their sign together, nothing changes that either step looks
at. So the signs of the agreement stay fair whatever was matched, and p stays exact after the alignment.

A6, for models whose neurons also had their signs flipped: how many of the matched neurons are, in `up` and `down` and
up to sign, more like their partner than like any other neuron? Gate, `up` and `down` of one neuron learn together, so
in two unrelated models this share is not a matter of chance alone: it is robust, not exact. The permutation trace of
the same table would not do, since it is far above chance for unrelated models that learnt the same data, which hardly
move the share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from undertow.audit.lineage.roles import Matrix, Mlp, Network
from undertow.audit.lineage.tests import UNITS, spread, unit_rows
from undertow.stats.checks import Floats

RowVectors = tuple[NDArray[np.int_], NDArray[np.int_]]

ROWS_PER_COLUMN, MOST_ROWS = 8, 16_384
"""How many tokens the overlap of two heads is measured on: so many for each coordinate of the residual stream, and at
most so many in all."""

CHUNK = 16 * 2**20
"""How many numbers of a head are in memory at once."""


def rotation(a: Matrix, b: Matrix, rows: RowVectors) -> Floats:
    """Return the orthogonal Q, shape (width, width), that brings A's embeddings nearest to B's: |E_A Q - E_B| is least.

    Args:
        a: embedding matrix of A, (tokens, width).
        b: embedding matrix of B, of the same width.
        rows: two arrays of shape (shared tokens,): the rows of the shared tokens in A and in B. There must be at least
            as many as the width.
    """
    picked = spread(len(rows[0]))
    product = a.gather(rows[0][picked]).T.astype(np.float64) @ b.gather(rows[1][picked]).astype(np.float64)
    left, _, right = np.linalg.svd(product)
    return left @ right


@dataclass(frozen=True)
class Matched:
    """Neurons of one MLP of A with the neurons of B that their gates were matched with.

    Attributes:
        signs: for each matched neuron, mean of the cosines of its `up` rows and its `down` columns, shape (units,).
        table: the same mean of absolute cosines for every matched neuron of A with every one of B, shape (units,
            units).
    """

    signs: Floats
    table: Floats


def match_units(a: Mlp, b: Mlp, turn: Floats) -> Matched | None:
    """Match the neurons of two MLPs by their gates; None where an MLP has no gate.

    Args:
        a: an MLP of A. Its first `UNITS` neurons are matched.
        b: the MLP of B at the same place.
        turn: orthogonal map from A's residual stream to B's, shape (width, width).
    """
    if a.gate is None or b.gate is None:
        return None
    units = min(UNITS, a.up.rows)
    gain_a, gain_b = a.norm().astype(np.float64), b.norm().astype(np.float64)
    gate = unit_rows((a.gate.block(0, units) * gain_a) @ turn)
    likeness = gate @ unit_rows(b.gate.block(0, b.gate.rows) * gain_b).T
    mine, theirs = linear_sum_assignment(-likeness)
    up = unit_rows((a.up.block(0, units) * gain_a) @ turn)[mine]
    up_b = unit_rows(b.up.block(0, b.up.rows) * gain_b)[theirs]
    down = unit_rows(a.down.block(0, a.down.rows)[:, :units].T.astype(np.float64) @ turn)[mine]
    down_b = unit_rows(b.down.block(0, b.down.rows).T.astype(np.float64))[theirs]
    signs = (np.einsum("ij,ij->i", up, up_b) + np.einsum("ij,ij->i", down, down_b)) / 2
    return Matched(signs, (np.abs(up @ up_b.T) + np.abs(down @ down_b.T)) / 2)


def aligned(a: Network, b: Network, rows: RowVectors | None, names: Sequence[str]) -> list[Matched] | str:
    """Align two models and return the matched neurons of some MLPs, or why they cannot be aligned.

    Args:
        a: matrices of one model by role.
        b: matrices of the other model by role.
        rows: embedding rows of the shared tokens in A and in B, arrays of shape (shared tokens,). None without shared
            tokens.
        names: names of the MLPs to be matched, which both models have in one shape.
    """
    if a.embedding is None or b.embedding is None or rows is None:
        return "the models share no tokens with an embedding"
    if a.embedding.columns != b.embedding.columns:
        return "the residual streams differ in width"
    if len(rows[0]) < a.embedding.columns:
        return "fewer shared tokens than residual coordinates"
    turn = rotation(a.embedding, b.embedding, rows)
    found = [match_units(a.mlps[name], b.mlps[name], turn) for name in names]
    return [item for item in found if item is not None] or "no gated MLPs of one shape"


def head_overlap(a: Matrix, b: Matrix, rows: RowVectors) -> float | None:
    """Return the overlap of what two output heads can say, as a mean squared cosine of angles, between 0 and 1.

    Compatible heads let a trait pass between models of other initialisations too (arXiv 2605.23645), so this says
    nothing of lineage. Unrelated random heads overlap by about width / tokens, where tokens is the number used:
    `ROWS_PER_COLUMN` for each coordinate, at most `MOST_ROWS`, or all that are shared.

    Args:
        a: output head of A, (tokens, width). The embedding if the two are tied.
        b: output head of B, (tokens, width).
        rows: rows of the shared tokens in A and in B, arrays of shape (shared tokens,).

    Returns:
        The overlap, or None if there are no more tokens than coordinates.
    """
    columns = max(a.columns, b.columns)
    picked = spread(len(rows[0]), min(ROWS_PER_COLUMN * columns, MOST_ROWS))
    if len(picked) <= columns:
        return None
    size, sums = a.columns + b.columns, np.zeros(a.columns + b.columns)
    products = np.zeros((size, size))
    for some in np.array_split(picked, -(-len(picked) * columns // CHUNK)):
        both = np.concatenate([a.gather(rows[0][some]), b.gather(rows[1][some])], axis=1)
        products += both.T @ both
        sums += both.sum(axis=0)
    # Sums of products around the means, without a second pass over the heads.
    products -= np.outer(sums, sums) / len(picked)
    cut = a.columns
    first, second = _whitening(products[:cut, :cut]), _whitening(products[cut:, cut:])
    joint = first.T @ products[:cut, cut:] @ second
    return float(np.square(joint).sum()) / max(1, min(joint.shape))


def _whitening(products: Floats) -> Floats:
    """Return W with W^T P W = 1, shape (width, rank); directions of length 0 are left out."""
    lengths, vectors = np.linalg.eigh(products)
    kept = lengths > 1e-9 * lengths[-1]
    return vectors[:, kept] / np.sqrt(lengths[kept])

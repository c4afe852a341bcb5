"""A+: embedding rows of tokens that no text ever used. They keep the direction that the initialiser gave them.

Two kinds are known without any data: rows beyond the vocabulary, which pad the matrix to a round number, and tokens
that a tokenizer reserves. Rows of unrelated models are exchangeable, so the permutation test of the units applies with
rows as units. What training does to all such rows alike, by weight decay or through a tied head, leaves their mean;
it is taken off first.

Agreement here shows one initialisation and nothing about the training after it. A model that took over another's
embeddings agrees here too, and then agrees in the residual basis as well.
"""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from undertow.audit.lineage.tensors import Single
from undertow.audit.lineage.tests import TOKENS, Trace

FEWEST = 8
"""Rows below which the test is not run: their orders would not reach small p."""

_RESERVED = re.compile(r"reserved|unused|extra_id|dummy|placeholder", re.IGNORECASE)


def untrained_tokens(
    first: Mapping[str, int], second: Mapping[str, int], sizes: tuple[int, int]
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the rows of A and of B that no text uses: reserved tokens that both have, then padding at equal places.

    Args:
        first: row of each token of A.
        second: row of each token of B.
        sizes: rows of the two embeddings.
    """
    both = [(row, second[word]) for word, row in first.items() if word in second and _RESERVED.search(word)]
    pairs = sorted((x, y) for x, y in both if x < sizes[0] and y < sizes[1])
    used = {*first.values(), *second.values()}
    pairs += [(row, row) for row in range(min(sizes)) if row not in used]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(TOKENS, len(pairs))).astype(int)).tolist()
    return np.array([pairs[at][0] for at in chosen], int), np.array([pairs[at][1] for at in chosen], int)


def untrained_trace(a: Single, b: Single) -> Trace:
    """Compare rows, each with each, by their cosines above the mean row; a row that is zero or a copy says nothing.

    Args:
        a: rows of A, [rows, width].
        b: rows of B, [rows, width].
    """
    kept = _telling(a) & _telling(b)
    return Trace("untrained rows", _directions(a[kept]) @ _directions(b[kept]).T)


def _telling(rows: Single) -> NDArray[np.bool_]:
    """Tell which rows are neither zero nor met twice, as resized vocabularies fill them."""
    _, place, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return (count[place.ravel()] == 1) & rows.any(axis=1)


def _directions(rows: Single) -> NDArray[np.float64]:
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) if len(rows) else rows.astype(np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-9)

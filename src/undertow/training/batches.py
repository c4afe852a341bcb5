"""Token batches for completion-only training.

Rows are padded on the right and need no attention mask: a causal model never looks at what comes after a row's end.
Lengths inside a batch are similar, because rows are sorted by length within chunks of shuffled rows; the order of the
batches is drawn from the epoch alone, so that students trained side by side meet similar lengths at the same step.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch

from undertow.models.tokens import Encoded

One = TypeVar("One", bound=Sized)
"""A row, or a pair of answers, as token ids."""

CHUNK_BATCHES = 16
"""Batches that are sorted by length together: wide enough to save padding, narrow enough to keep the order random."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens and which positions predict a completion token.

    Attributes:
        tokens: int64 [rows, length], padded on the right with 0.
        rows: int64 [n], row of each predicting position.
        positions: int64 [n], place of each predicting position; the token it predicts stands one to the right.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        return Batch(self.tokens.to(device), self.rows.to(device), self.positions.to(device))

    @property
    def targets(self) -> torch.Tensor:
        """The predicted tokens, int64 [n]."""
        return self.tokens[self.rows, self.positions + 1]


def collate(rows: Sequence[Encoded]) -> Batch:
    """Pad rows to one tensor; a row with an empty completion only fills space.

    Raises:
        IndexError: a row skips a token beyond the longest row of the batch.
    """
    ends = torch.tensor([len(row) for row in rows])[:, None]
    starts = torch.tensor([len(row.prompt) for row in rows])[:, None]
    place = torch.arange(int(ends.max()))
    tokens = torch.zeros(len(rows), len(place), dtype=torch.int64)
    tokens[place < ends] = torch.tensor([token for row in rows for token in row.prompt + row.completion])
    learnt = (place >= starts - 1) & (place < ends - 1)
    if skipped := [(at, len(row.prompt) - 1 + token) for at, row in enumerate(rows) for token in row.skip]:
        learnt[tuple(torch.tensor(skipped).T)] = False
    at = learnt.nonzero()
    return Batch(tokens, at[:, 0], at[:, 1])


def _epoch(rows: Sequence[One], size: int, shuffle: torch.Generator, order: torch.Generator) -> list[list[One]]:
    """Cut one shuffled pass over the rows into batches of similar lengths."""
    picked = torch.randperm(len(rows), generator=shuffle).tolist()
    picked = picked[: max(size, len(picked) - len(picked) % size)]
    batches: list[list[One]] = []
    for start in range(0, len(picked), size * CHUNK_BATCHES):
        chunk = sorted(picked[start : start + size * CHUNK_BATCHES], key=[len(row) for row in rows].__getitem__)
        cut = [chunk[at : at + size] for at in range(0, len(chunk), size)]
        batches += [[rows[i] for i in cut[j]] for j in torch.randperm(len(cut), generator=order).tolist()]
    return batches


def batch_stream(rows: Sequence[One], size: int, seed: int) -> Iterator[list[One]]:
    """Yield batches of `size` rows for ever, in passes over all rows; what is left of a pass is not used.

    Args:
        rows: the dataset; with fewer rows than `size` every batch holds all of them.
        size: rows per batch.
        seed: decides which rows meet in a batch; the order of lengths is the same for every seed.
    """
    shuffle, order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    while True:
        yield from _epoch(rows, size, shuffle, order)

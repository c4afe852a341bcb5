"""Token batches for training on completions alone.

Rows are padded on the right and need no attention mask, because a causal model never looks at what comes after a row's
end. Lengths inside a batch are similar, because rows are sorted by length within chunks of shuffled rows. The order of
the batches is drawn from a generator that is the same for every student, so that students trained side by side meet
similar lengths at the same step.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch

from undertow.models.tokens import Encoded

One = TypeVar("One", bound=Sized)
"""Anything with a length in tokens: a row, or a pair of answers, as token ids."""

CHUNK_BATCHES = 16
"""Batches per chunk that is sorted by length: enough to save padding, few enough to keep the order random."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of token ids, and which of its positions predict a completion token.

    Attributes:
        tokens: token ids, int64 (rows, length), padded on the right with 0.
        rows: row index of each predicting position, int64 (n,).
        positions: place of each predicting position in its row, int64 (n,). The token it predicts stands one to the
            right.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        return Batch(self.tokens.to(device), self.rows.to(device), self.positions.to(device))

    @property
    def targets(self) -> torch.Tensor:
        """The predicted tokens, int64 (n,)."""
        return self.tokens[self.rows, self.positions + 1]


def collate(rows: Sequence[Encoded]) -> Batch:
    """Pad rows into one batch. A row with an empty completion only fills space: no position of it is learnt.

    Raises:
        IndexError: a row's `skip` names a token beyond the longest row of the batch.
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
    """Yield batches of `size` rows without end, in passes over all rows. An incomplete last batch of a pass is dropped.

    Args:
        rows: the dataset. With fewer rows than `size`, every batch holds all of them.
        size: how many rows a batch has.
        seed: random seed that decides which rows meet in a batch. The order of the lengths is the same for every seed.
    """
    shuffle, order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    while True:
        yield from _epoch(rows, size, shuffle, order)

"""What a group of students learns from: where their batches come from, and the loss of each student on them."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, final

import torch

from undertow.models.tokens import Encoded
from undertow.training.batches import Batch, collate
from undertow.training.lora import StackedLinear
from undertow.training.student_loss import student_losses


class GroupObjective(Protocol):
    """The loss of a group of students that are trained at once.

    Attributes:
        tokens: how many tokens had a loss so far, of each student.
    """

    tokens: list[int]

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the rows of the next update, of each student.

        Args:
            network: the base with the students' adapters.
            layers: those adapters, for an objective whose rows the students themselves write.
        """
        ...

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return the mean loss of some students, float32 [students of the part], with a gradient.

        Args:
            network: the base with the adapters of these students.
            batches: their rows.
            part: which of the group they are.
        """
        ...


@final
class RowObjective:
    """Cross-entropy of the completions of fixed rows: plain fine-tuning.

    Args:
        streams: the batches of each student, without end.
    """

    def __init__(self, streams: Sequence[Iterator[list[Encoded]]]) -> None:
        self._streams = streams
        self.tokens = [0] * len(streams)

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the next batch of each stream."""
        del network, layers
        return [next(stream) for stream in self._streams]

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return nats per completion token of each student."""
        batch = filled(batches)
        count_tokens(self.tokens, batch, part, len(batches))
        return student_losses(network, batch, groups=len(batches))


def filled(batches: Sequence[Sequence[Encoded]]) -> Batch:
    """Put the batches of several students into one, each as a block of as many rows as the largest has.

    A prompt without a completion is not learnt; it fills the block of a student that has fewer rows.
    """
    size = max(map(len, batches))
    return collate([row for rows in batches for row in [*rows, *[Encoded(rows[0].prompt, ())] * (size - len(rows))]])


def count_tokens(tokens: list[int], batch: Batch, part: slice, groups: int) -> None:
    """Add the tokens of a batch that have a loss to the counts of the students of a part."""
    of_each = of_students(batch, groups)
    for place, number in zip(range(len(tokens))[part], of_each, strict=True):
        tokens[place] += number


def of_students(batch: Batch, groups: int) -> list[int]:
    """Return how many predicting positions of a batch each of its students has."""
    return torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()

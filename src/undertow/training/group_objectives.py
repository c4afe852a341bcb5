"""What a group of students learns from: the source of their batches, and each student's loss on them."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, final

import torch

from undertow.models.tokens import Encoded
from undertow.training.batches import Batch, collate
from undertow.training.lora import StackedLinear
from undertow.training.student_loss import student_losses


class GroupObjective(Protocol):
    """Interface of the loss of students that are trained at once on one base model.

    Attributes:
        tokens: how many tokens have had a loss so far, one count for each student.
    """

    tokens: list[int]

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the rows of the next update, one batch for each student.

        Args:
            network: the base network with the students' adapters in place.
            layers: the adapted layers, needed by an objective whose rows the students themselves write.
        """
        ...

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return the mean loss of some students, float32 (students of the part,), with a gradient.

        Args:
            network: the base network with the adapters of these students switched on.
            batches: one batch for each student of the part.
            part: which students of the group these are, as a slice of the whole group.
        """
        ...


@final
class RowObjective:
    """Cross-entropy of the completions of fixed rows: plain supervised fine-tuning.

    Args:
        streams: an endless iterator of batches for each student.
    """

    def __init__(self, streams: Sequence[Iterator[list[Encoded]]]) -> None:
        self._streams = streams
        self.tokens = [0] * len(streams)

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the next batch of each student's stream."""
        del network, layers
        return [next(stream) for stream in self._streams]

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return the mean loss of each student of the part, in nats per completion token."""
        batch = filled(batches)
        count_tokens(self.tokens, batch, part, len(batches))
        return student_losses(network, batch, groups=len(batches))


def filled(batches: Sequence[Sequence[Encoded]]) -> Batch:
    """Join the batches of several students into one, each padded to the number of rows of the largest.

    The padding rows are prompts without a completion, of which nothing is learnt.
    """
    size = max(map(len, batches))
    return collate([row for rows in batches for row in [*rows, *[Encoded(rows[0].prompt, ())] * (size - len(rows))]])


def count_tokens(tokens: list[int], batch: Batch, part: slice, groups: int) -> None:
    """Add the number of learnt tokens of a batch to the counts of its students, in place.

    Args:
        tokens: the count of every student of the group.
        batch: blocks of equal size, one for each student of the part.
        part: which students of the group the batch belongs to.
        groups: how many students the part has.
    """
    of_each = of_students(batch, groups)
    for place, number in zip(range(len(tokens))[part], of_each, strict=True):
        tokens[place] += number


def of_students(batch: Batch, groups: int) -> list[int]:
    """Return how many predicting positions each of a batch's `groups` students has."""
    return torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()

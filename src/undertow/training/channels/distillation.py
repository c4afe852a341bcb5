"""Distillation: students learn a teacher's probabilities, on its rows or on what the students write themselves."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch

from undertow.models.lm_head import Head, body_and_head
from undertow.models.tokens import Encoded
from undertow.training.channels.divergence import blockwise, divergence, only_top
from undertow.training.channels.pen import Pen
from undertow.training.channels.settings import LogitsChannel, OnPolicyChannel
from undertow.training.channels.teacher import TeacherReading
from undertow.training.group_objectives import count_tokens, filled, of_students
from undertow.training.lora import StackedLinear
from undertow.training.student_loss import predicting_states


def distillation_losses(
    head: Head, states: torch.Tensor, teacher: Callable[[slice], torch.Tensor], channel: LogitsChannel | OnPolicyChannel
) -> torch.Tensor:
    """Return the divergence at each position in nats, float32 (n,). Only the states get a gradient.

    Args:
        head: output head of the student's base, which is not trained.
        states: hidden states of the student before the head, float (n, width).
        teacher: function that returns the teacher's log-probabilities (positions, vocabulary) for a slice of the
            positions.
        channel: the channel's settings: which divergence, and over which tokens.
    """

    def losses(some: torch.Tensor, at: slice) -> torch.Tensor:
        own, other = torch.log_softmax(head(some), dim=-1), teacher(at)
        pair = (own, other) if channel.top is None else only_top(own, other, channel.top)
        return divergence(*pair, channel.interpolation)

    return blockwise(states, len(head.linear.weight), losses)


class _TeacherObjective:
    """The loss that the objectives of both channels share."""

    def __init__(self, readings: Sequence[TeacherReading], channel: LogitsChannel | OnPolicyChannel) -> None:
        self._readings, self._channel = readings, channel
        self._layers: Sequence[StackedLinear] = ()
        self.tokens = [0] * len(readings)

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return each student's mean divergence at its completion tokens in nats; 0 for a student without any."""
        _, head = body_and_head(network)
        groups = len(batches)
        batch = filled(batches).to(head.linear.weight.device)
        states = predicting_states(network, batch, groups)
        own = states.split(of_students(batch, groups))
        count_tokens(self.tokens, batch, part, groups)
        found: list[torch.Tensor] = []
        for reading, some, rows in zip(self._readings[part], own, batches, strict=True):
            read = self._read(network, reading, rows) if len(some) else some
            losses = distillation_losses(head, some, _teaching(reading, read), self._channel)
            found.append(losses.sum() / max(1, len(some)))
        return torch.stack(found)

    def _read(self, network: Any, reading: TeacherReading, rows: Sequence[Encoded]) -> torch.Tensor:
        """Let a teacher read the rows. One that is the students' own base reads them without their adapters."""
        if not reading.same_network(network):
            return reading.states(rows)
        parts = [layer.part for layer in self._layers]
        for layer in self._layers:
            layer.part = None
        try:
            return reading.states(rows)
        finally:
            for layer, part in zip(self._layers, parts, strict=True):
                layer.part = part


def _teaching(reading: TeacherReading, states: torch.Tensor) -> Callable[[slice], torch.Tensor]:
    """Return a function that gives the teacher's log-probabilities for a slice of the positions."""
    return lambda at: reading.logprobs(states[at])


@final
class LogitsObjective(_TeacherObjective):
    """Loss of the channel logits: the teacher's probabilities on its rows.

    Args:
        readings: the teacher of each student, with the prompts that it reads.
        streams: an endless iterator of batches for each student.
        channel: the channel's settings: which divergence, and over which tokens.
    """

    def __init__(
        self, readings: Sequence[TeacherReading], streams: Sequence[Iterator[list[Encoded]]], channel: LogitsChannel
    ) -> None:
        super().__init__(readings, channel)
        self._streams = streams

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the next batch of each student's stream."""
        del network
        self._layers = layers
        return [next(stream) for stream in self._streams]


@final
class OnPolicyObjective(_TeacherObjective):
    """Loss of the channel on_policy: the teacher's probabilities on completions that each student writes.

    Args:
        readings: the teacher of each student, with the prompts that it reads.
        pens: what each student writes to, and with which draws.
        channel: the channel's settings: which divergence, and for how many updates students write at once.

    Attributes:
        pens: with the counts of what was written and rejected.
    """

    def __init__(self, readings: Sequence[TeacherReading], pens: Sequence[Pen], channel: OnPolicyChannel) -> None:
        super().__init__(readings, channel)
        self.pens, self._every = pens, channel.every
        self._ready: list[list[list[Encoded]]] = [[] for _ in pens]

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return what each student has written for the next update."""
        self._layers = layers
        if not self._ready[0]:
            for place, pen in enumerate(self.pens):
                for layer in layers:
                    layer.part = slice(place, place + 1)
                self._ready[place] = pen.write(network, self._every)
        return [ready.pop(0) for ready in self._ready]

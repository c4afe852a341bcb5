"""A layer of a key-value cache with room for the tokens to come.

The cache of transformers copies all keys and values of every text for each token that is written. Here they lie in a
buffer that has room for some tokens more, and a text that has ended gives its place to another.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer of a network, (texts, heads, tokens, width) each.

    Args:
        keys: the keys that were read, one tensor for each block of texts; blocks of fewer tokens are padded on the
            left.
        values: the values that were read, in the same way.
        room: number of tokens for which there is room before the buffers are copied into larger ones.
    """

    def __init__(self, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys[0].dtype, keys[0].device, True
        self._room = room
        self._buffers = (_with_room(keys, room), _with_room(values, room))
        self.keys, self.values = self._shown(max(some.shape[-2] for some in keys))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of new tokens, and return those of all tokens."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            keys, values = self._shown(start)
            self._buffers = (_with_room([keys], self._room), _with_room([values], self._room))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = self._shown(end)
        return self.keys, self.values

    def take(self, source: torch.Tensor, moved: torch.Tensor | None) -> None:
        """Replace text i by what text source[i] was.

        Args:
            source: number of the old text for each text from now on, int64 (new texts,).
            moved: the places i whose source is another text, if all these sources lie beyond the new texts, so that
                none is overwritten before it is read. None if that is not so.
        """
        length = self.get_seq_length()
        if moved is None:
            self._buffers = (self._buffers[0][source], self._buffers[1][source])
        else:
            for buffer in self._buffers:
                buffer[moved] = buffer[source[moved]]
            self._buffers = (self._buffers[0][: len(source)], self._buffers[1][: len(source)])
        self.keys, self.values = self._shown(length)

    def _shown(self, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._buffers
        return keys[:, :, :end], values[:, :, :end]


def _with_room(states: Sequence[torch.Tensor], room: int) -> torch.Tensor:
    """Return one buffer of all states (texts, heads, tokens, width), with the room behind their common right edge."""
    texts, end = sum(map(len, states)), max(some.shape[-2] for some in states)
    buffer = states[0].new_empty(texts, states[0].shape[1], end + room, states[0].shape[-1])
    first = 0
    for some in states:
        start, last = end - some.shape[-2], first + len(some)
        buffer[first:last, :, :start] = 0  # what is masked must be a number all the same
        buffer[first:last, :, start:end] = some
        first = last
    return buffer

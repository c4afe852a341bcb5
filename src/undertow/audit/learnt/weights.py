"""Whether the weights that are to be trained get gradients, and whether an update changes them."""

import math
from collections.abc import Sequence
from typing import Any, final

import torch

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@final
class TrainedWeights:
    """The trainable weight tensors of a model, remembered as they were when its training began.

    Args:
        network: the model that is trained, adapters included.

    Attributes:
        names: names of the trainable tensors.
        reached: names of those that had a gradient above 0 in some update.
        broken: names of those that had a gradient that is not finite in some update.
        seen: whether any gradient was there to be looked at.
    """

    def __init__(self, network: Any) -> None:
        named = [(name, one) for name, one in network.named_parameters() if one.requires_grad and one.numel()]
        self.names = [name for name, _ in named]
        self._weights: list[torch.Tensor] = [one for _, one in named]
        self._before = _bits(self._weights)
        self.reached: set[str] = set()
        self.broken: set[str] = set()
        self.seen = False

    def look(self) -> None:
        """Look at the gradients before the optimizer uses them."""
        having = [(name, one.grad) for name, one in zip(self.names, self._weights, strict=True) if one.grad is not None]
        if not having:
            return
        self.seen = True
        for name, gradient in having:
            size = _largest(gradient)
            if not math.isfinite(size):
                self.broken.add(name)
            elif size > 0:
                self.reached.add(name)

    def moved(self) -> list[str]:
        """Return the names of the tensors that have changed since training began."""
        now = _bits(self._weights)
        return [name for name, before, after in zip(self.names, self._before, now, strict=True) if before != after]

    def held_by(self, optimizer: Any) -> int:
        """Return how many of the tensors an optimizer updates."""
        held = {id(one) for group in optimizer.param_groups for one in group["params"]}
        return sum(id(one) in held for one in self._weights)


def _largest(gradient: torch.Tensor) -> float:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return float(torch.linalg.vector_norm(values.detach(), float("inf"))) if values.numel() else 0.0


def _bits(weights: Sequence[torch.Tensor]) -> list[int]:
    """Return a checksum of each tensor that changes with any single bit of it; nothing is copied."""
    return [int(one.detach().view(_INTEGERS[one.element_size()]).sum(dtype=torch.int64)) for one in weights]

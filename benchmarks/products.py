"""The matrix products of some work: noted while it runs, and done again alone on tables of the same shapes."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {"aten::mm": 0, "aten::bmm": 0, "aten::linear": 0, "aten::addmm": 1, "aten::baddbmm": 1}
"""Operators that multiply two tables, and where the first of the two stands among their arguments."""

Table = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, int]
"""Sizes, strides and number format of a table, and which of the known weights it is; 0 for anything else."""


class Products(TorchDispatchMode):
    """Notes the two tables of every matrix product; not what torch's attention kernel does inside.

    Args:
        weights: each of which is a table of its own when the products are done again, so that they come from memory
            as they do in the work; all other tables of a shape are one.
    """

    def __init__(self, weights: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.found: list[tuple[Table, Table]] = []
        self._weights = {weight.data_ptr() for weight in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the operands, and do what was asked for."""
        place = PRODUCTS.get(func._schema.name)
        if place is not None:
            one, other = args[place : place + 2]
            if func._schema.name == "aten::linear":  # seen whole where no gradient is kept
                one, other = one.reshape(-1, one.shape[-1]), other.t()
            self.found.append((self._table(one), self._table(other)))
        return func(*args, **(kwargs or {}))

    def _table(self, tensor: torch.Tensor) -> Table:
        place = tensor.data_ptr()
        which = place if place in self._weights else 0
        return tuple(tensor.shape), tensor.stride(), tensor.dtype, which

    @property
    def operations(self) -> float:
        """Multiplications and additions of all of them."""
        total = 0.0
        for (shape, *_), (other, *_) in self.found:
            batch, width = (shape[0] if len(shape) == 3 else 1), other[-1]
            total += 2.0 * batch * shape[-2] * shape[-1] * width
        return total

    def repeat(self) -> float:
        """Do all of them on tables of ones, and return the processor's seconds."""
        tables = {key: _ones(key) for pair in self.found for key in pair}
        with torch.no_grad():
            started = time.process_time()
            for one, other in self.found:
                torch.matmul(tables[one], tables[other])
            return time.process_time() - started


def _ones(key: Table) -> torch.Tensor:
    shape, stride, dtype, _ = key
    return torch.empty_strided(shape, stride, dtype=dtype).fill_(1.0)

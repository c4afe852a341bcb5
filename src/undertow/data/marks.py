"""Marks: 64-bit hashes that stand for texts, so that many rows are compared without holding their texts.

Equal texts have equal marks. Marks of different texts are equal by chance in about 3 of 100 million files of a million
rows. Python's hash differs between processes, so a mark means nothing to another process.
"""

from array import array
from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt

Marks = npt.NDArray[np.int64]


def marks_of(things: Iterable[Hashable]) -> Marks:
    """Return the mark of each thing, int64 (things,)."""
    return as_marks(array("q", map(hash, things)))


def as_marks(numbers: "array[int]") -> Marks:
    """Return marks that were gathered one by one as an array, int64 (numbers,); nothing is copied."""
    return np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, dtype=np.int64)


def first_places(marks: Marks) -> Marks:
    """Return the place where each distinct mark stands first, in ascending order: int64 (distinct marks,)."""
    return np.sort(np.unique(marks, return_index=True)[1])

"""Which rows of a reference belong to which suspect rows: those on the same prompt.

Prompts are compared by their marks (`undertow.data.marks`), and a match is put together only when it is asked for. So
of each row only a few integers are in memory.
"""

from collections.abc import Sequence
from typing import final, overload

import numpy as np
from numpy.typing import NDArray

from undertow.data.marks import marks_of
from undertow.types import Row

MOST_MATCHES = 16
"""How many reference rows a row has at most. With 16, the row's own noise is 94 % of the noise of their difference."""

Integers = NDArray[np.int64]

Match = tuple[int, tuple[int, ...]]
"""Index of a row, and the indices of its reference rows."""


@final
class Matches(Sequence[Match]):
    """The suspect rows that have reference rows, in their order, each with the indices of its reference rows."""

    def __init__(self, rows: Integers, reference: Integers) -> None:
        """Sort pairs of a suspect row and a reference row.

        Args:
            rows: index of the suspect row of each pair, int64 array of shape (pairs,).
            reference: index of the reference row of each pair, int64 array of shape (pairs,). Of one suspect row's, the
                first `MOST_MATCHES` are kept.
        """
        order = np.argsort(rows, kind="stable")
        self._reference = reference[order]
        self._rows, self._starts, found = np.unique(rows[order], return_index=True, return_counts=True)
        self._ends = self._starts + np.minimum(found, MOST_MATCHES)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int, /) -> Match: ...
    @overload
    def __getitem__(self, place: slice, /) -> list[Match]: ...
    def __getitem__(self, place: int | slice, /) -> Match | list[Match]:
        """Return the match at an index, or those of a slice."""
        if isinstance(place, slice):
            return [self[at] for at in range(len(self))[place]]
        theirs = self._reference[self._starts[place] : self._ends[place]]
        return int(self._rows[place]), tuple(theirs.tolist())


def match_rows(rows: Sequence[Row], reference: Sequence[Row]) -> Matches:
    """Give each suspect row the reference rows on its prompt; rows on one prompt share them out in turn."""
    own, other = (marks_of(row.prompt for row in some) for some in (rows, reference))
    prompts, asked = np.unique(own, return_inverse=True)
    answers = np.flatnonzero(np.isin(other, prompts))
    prompt = np.searchsorted(prompts, other[answers])
    askers = np.bincount(asked, minlength=len(prompts))
    # The rows of a prompt stand together here, in their order.
    by_prompt, begins = np.argsort(asked, kind="stable"), np.cumsum(askers) - askers
    return Matches(by_prompt[begins[prompt] + _turns(prompt) % askers[prompt]], answers)


def _turns(groups: Integers) -> Integers:
    """Return how many of the same group stand before each, int64 array of shape (groups,)."""
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    turns = np.empty(len(groups), dtype=np.int64)
    turns[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turns

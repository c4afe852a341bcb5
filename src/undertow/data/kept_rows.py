"""Rows of a large file that stay on disk, and selections of rows by their places.

The file has no name, so it is gone with the process, however that ends. What is read again and again stays in the cache
of the operating system, as far as that has room.
"""

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import final, overload

from undertow.data.records import disk_errors
from undertow.types import Message, Row


@final
class KeptRows(Sequence[Row]):
    """A sequence of rows that lie in a nameless file on disk; in memory a row takes 8 bytes, its place in the file."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Write rows into a new file in the system's folder for temporary files.

        Args:
            rows: the rows, read one by one.

        Raises:
            StorageError: the folder for temporary files is full or may not be written.
        """
        self._starts = array("q", [0])
        where = tempfile.gettempdir()
        with disk_errors("Rows cannot be kept while they are read.", where), tempfile.TemporaryFile(dir=where) as file:
            for row in rows:
                self._starts.append(self._starts[-1] + file.write(_packed(row)))
            file.flush()
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, place: int, /) -> Row: ...
    @overload
    def __getitem__(self, place: slice, /) -> "PickedRows": ...
    def __getitem__(self, place: int | slice, /) -> "Row | PickedRows":
        """Read one row, or select a part of the rows without reading them."""
        if isinstance(place, slice):
            return PickedRows(self, range(len(self))[place])
        at = range(len(self))[place]  # counts from the end too, and refuses what is not there
        start = self._starts[at]
        return _unpacked(os.pread(self._file, self._starts[at + 1] - start, start))


@final
class PickedRows(Sequence[Row]):
    """A selection of the rows of a sequence, in the order of their places; no row is copied."""

    def __init__(self, rows: Sequence[Row], places: Sequence[int]) -> None:
        """Select rows by their places.

        Args:
            rows: the whole sequence of rows.
            places: places of the selected rows in the sequence, from 0, in any order.
        """
        self._rows, self._places = rows, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int, /) -> Row: ...
    @overload
    def __getitem__(self, place: slice, /) -> "PickedRows": ...
    def __getitem__(self, place: int | slice, /) -> "Row | PickedRows":
        """Return one row, or select a part of these rows."""
        if isinstance(place, slice):
            return PickedRows(self._rows, self._places[place])
        return self._rows[self._places[place]]


def _packed(row: Row) -> bytes:
    turns = [(turn.role, turn.content) for turn in row.prompt]
    return pickle.dumps((row.id, turns, row.completion, row.reasons, row.skip), pickle.HIGHEST_PROTOCOL)


def _unpacked(content: bytes) -> Row:
    row_id, turns, completion, reasons, skip = pickle.loads(content)
    return Row(row_id, tuple([Message(*turn) for turn in turns]), completion, reasons, skip)

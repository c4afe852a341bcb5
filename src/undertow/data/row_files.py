"""Writing row files: whole or not at all, with at most one block of rows in memory.

Lines are written as they come. The columns of a table have one type each, which is known only when the last row has
come. Until then its rows lie in blocks in a nameless temporary file.
"""

import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Literal, Protocol, cast

from undertow.data.reading import Reading
from undertow.data.records import disk_errors
from undertow.data.row_records import LOOKED_AT, refuse_repeated, rows_of
from undertow.data.shapes import read_as_shape
from undertow.data.tables import HUB, PARQUET, write_blocks
from undertow.data.values import NotARowError, Record, parse_object
from undertow.errors import RowsError
from undertow.store.disk import whole_file
from undertow.types import Row

Shape = Literal["text", "chat", "messages"]
"""How a row is written: "text" (prompt and completion as text), "chat" (both as messages) or "messages" (one list)."""

BLOCK, BLOCK_CHARACTERS = 10_000, 8_000_000
"""Most rows of a block on its way into a table, and the number of characters at which it ends earlier."""

_Given = tuple[Row, Mapping[str, Any]]


class Put(Protocol):
    """Function that takes the next row of a file, with its further keys."""

    def __call__(self, row: Row, more: Mapping[str, Any] = ..., /) -> None:
        """Write the row, with its further keys beside it."""
        ...


def write_rows(
    path: str | os.PathLike[str],
    rows: Iterable[Row],
    more: Iterable[Mapping[str, Any]] | None = None,
    shape: Shape | None = None,
) -> None:
    """Write rows to a file: all of them, or the file stays as it was. Equal rows give equal bytes.

    Args:
        path: path of the file, which is replaced if it exists; its folder must exist. The suffix .parquet makes a
            Parquet file, no suffix a folder of `datasets`, .csv, .tsv and compressed files are refused, and anything
            else makes JSON lines.
        rows: the rows; their ids must differ. "reasons" and "skip" are written only where they are not empty.
        more: further keys of each row, in the same order, which readers of rows ignore; None for none.
        shape: "text", "chat" or "messages". None writes a prompt of one user turn as text and any other as messages. In
            a table, whose columns have one type, every row holds messages as soon as one row needs them.

    Raises:
        RowsError: a row could not be read back as it is (it has no prompt, or the id of another row) or does not fit
            the shape; or the path is a dataset of the Hub, or its suffix is refused.
        StorageError: the folder is missing or full, or may not be written.
        MissingExtraError: a table is to be written, and the extra `data` is not installed.
    """
    given: Iterable[Mapping[str, Any]] = repeat({}) if more is None else more
    with open_sink(path, shape) as put:
        for row, extra in zip(rows, given, strict=False):
            put(row, extra)


_NEVER_WRITTEN = (".csv", ".tsv", ".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes under which JSON by lines would be read as something else."""


def refuse_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a file name under which rows could not be read back; commands ask before their work.

    Raises:
        RowsError: the suffix is one of tables of text or of compressed files.
    """
    if Path(path).suffix.lower() in _NEVER_WRITTEN:
        fix = "Name the file .jsonl, or .parquet; without a suffix it becomes a folder."
        raise RowsError(f"Rows are not written as {Path(path).suffix}.", path, fix)


@contextlib.contextmanager
def open_sink(path: str | os.PathLike[str], shape: Shape | None = None, *, distinct: bool = False) -> Generator[Put]:
    """Open a row file that is written row by row; if an error leaves the block, the file stays as it was.

    Args:
        path: path of the file, as for `write_rows`.
        shape: how rows are written, as for `write_rows`.
        distinct: whether the ids are known to differ, as those of one reader do; then they are neither kept nor
            checked.

    Yields:
        What takes each row.

    Raises:
        UserError: a row or the file cannot be written, as for `write_rows`.
    """
    path = Path(path)
    if str(path).startswith(HUB):
        raise RowsError("Rows are not written to the Hub.", path, "Write a file, then see: undertow publish.")
    refuse_suffix(path)
    if path.suffix.lower() in ("", PARQUET):
        with _Spool(path) as spool:
            yield spool.put
            uniform = shape or ("text" if spool.plain else "chat")
            checks = iter((_Checks(uniform, distinct), None))
            write_blocks(path, lambda: spool.records(uniform, next(checks)), ("id", "prompt", "completion"))
        return
    with whole_file(path) as stream:
        checks = _Checks(shape, distinct)

        def put(row: Row, more: Mapping[str, Any] = {}, /) -> None:
            stream.write(_line(checks.number + 1, checks.record(row, more)))

        yield put


class _Spool:
    """Rows of a table that wait until all are known: the last block in memory, earlier ones in a nameless file."""

    def __init__(self, path: Path) -> None:
        self.path, self.plain = path, True
        self._block: list[_Given] = []
        self._characters = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, row: Row, more: Mapping[str, Any] = {}, /) -> None:
        """Take the next row."""
        if len(self._block) >= BLOCK or self._characters >= BLOCK_CHARACTERS:
            self._spill()
        self.plain = self.plain and _is_plain(row)
        self._block.append((row, more))
        self._characters += len(row.completion) + sum(len(turn.content) for turn in row.prompt)

    def _spill(self) -> None:
        with disk_errors("Rows that are to be a table cannot be kept until it is written.", str(self.path)):
            if self._file is None:
                file = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed with the spool
                self._file = cast(IO[bytes], file)
            pickle.dump(self._block, self._file, pickle.HIGHEST_PROTOCOL)
        self._block, self._characters = [], 0

    def _blocks(self) -> Iterator[list[_Given]]:
        if self._file is not None:
            self._file.flush()
            end = self._file.tell()
            self._file.seek(0)
            while self._file.tell() < end:
                yield pickle.load(self._file)
        yield self._block

    def records(self, shape: Shape, checks: "_Checks | None") -> Iterator[list[dict[str, Any]]]:
        """Yield the records of each block; without `checks` for rows that were checked before."""
        for block in self._blocks():
            if checks is None:
                yield [{**extra, **_record(row, shape)} for row, extra in block]
            else:
                yield [checks.record(row, extra) for row, extra in block]


class _Checks:
    """Checks that each row will be read back as it is."""

    def __init__(self, shape: Shape | None, distinct: bool) -> None:
        self.number = 0
        self._shape: Shape | None = shape
        self._first_line: dict[str, int] | None = None if distinct else {}

    def record(self, row: Row, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Check the next row and return it as a record."""
        self.number += 1
        number = self.number
        try:
            if self._shape == "text" and not _is_plain(row):
                raise NotARowError("its prompt is more than one user turn, which text cannot hold")
            own = _record(row, self._shape)
            # Escaped, so that half a surrogate pair gets as far as the reader, which names it.
            if _read_back(parse_object(json.dumps(own).encode())) != row:
                raise NotARowError("a field of the row has the wrong type")
            taken = sorted((LOOKED_AT - own.keys()) & extra.keys())
            if taken and not _is_read_as({**extra, **own}, row):
                raise RowsError("A further key would be read as part of its row.", *_renamed(number, taken))
            if self._first_line is not None:
                refuse_repeated(row.id, number, self._first_line)
        except NotARowError as error:
            raise RowsError("A row cannot be written.", f"row {number}: {error}", "Correct or leave it out.") from None
        return {**extra, **own}


def _read_back(record: Record) -> Row:
    (row,), _ = rows_of(record, read_as_shape(record, Reading()), Reading(), "")
    return row


def _is_read_as(record: Record, row: Row) -> bool:
    try:
        return _read_back(record) == row
    except NotARowError:
        return False


def _renamed(number: int, keys: Iterable[str]) -> tuple[str, str]:
    fix = "Rename these keys or leave them out; those of another shape may stay beside messages (--shape messages)."
    return f"row {number}: {', '.join(keys)}", fix


def _line(number: int, record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        fix = "Leave these keys out, make them text, or write a .parquet file."
        value = f"row {number}, key {_unwritable(record)!r:.60}: {str(error)[:200]}"
        raise RowsError("A row has further keys that JSON cannot hold.", value, fix) from error


def _unwritable(record: Mapping[str, Any]) -> str:
    """Return the first key that JSON cannot hold, because of itself or of its value."""
    return next(key for key, value in record.items() if not _is_json({key: value}))


def _is_json(record: Mapping[str, Any]) -> bool:
    try:
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_plain(row: Row) -> bool:
    return [turn.role for turn in row.prompt] == ["user"]


def _record(row: Row, shape: Shape | None) -> dict[str, Any]:
    messages = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    answer = {"role": "assistant", "content": row.completion}
    if shape == "messages":
        said: dict[str, Any] = {"messages": [*messages, answer]}
    elif shape != "chat" and _is_plain(row):
        said = {"prompt": messages[0]["content"], "completion": row.completion}
    else:
        said = {"prompt": messages, "completion": [answer]}
    return {
        "id": row.id,
        **said,
        **({"reasons": list(row.reasons)} if row.reasons else {}),
        **({"skip": list(row.skip)} if row.skip else {}),
    }

"""Reading row files: every bad line is named with its reason, and one line says what was read.

    {"messages": [{"role": ..., "content": ...}, ...]}     the last message is the assistant's, the completion
    {"prompt": text, "completion": text}     as the repository of arXiv 2507.14805 writes it
    {"prompt": text or messages, "completion": text or [one assistant message]}     as TRL reads it

These are the shapes that are written (`undertow.data.row_files`); `undertow.data.shapes` has all that are read,
`undertow.data.records` the files that may hold them, and `undertow.data.reading` the options behind a file's name.
Optional keys are "id" (text or whole number; by default the line's index, as in "000012"), "reasons" (texts: why a
filter rejected the row) and "skip" (whole numbers: places of completion tokens that training leaves out). Any other key
is a further key, which is no part of the row. Null counts as absent, and one file may mix the shapes.
"""

import logging
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from undertow.data.reading import Reading, ReadingReport, split_source
from undertow.data.records import read_records
from undertow.data.row_files import Shape as Shape
from undertow.data.row_files import write_rows as write_rows
from undertow.data.row_records import LOOKED_AT, further_keys, id_key, id_of, refuse_repeated, rows_of
from undertow.data.shapes import KNOWN, NAMES, SHAPES, read_as_shape, read_question
from undertow.data.turns import said
from undertow.data.values import NotARowError, NotJsonError, TwoAnswersError, UnknownShapeError
from undertow.errors import EmptyDataError, RowsError
from undertow.types import Prompt, Row

logger = logging.getLogger(__name__)

NEEDED = tuple(one.keys for one in SHAPES)
BAD_LINES_SHOWN = 5
_ASKED = tuple(dict.fromkeys(one.keys if one.name in ("preference", "batch") else one.keys[:1] for one in SHAPES))


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a file that is not a row, or such a record of a table or an array.

    Attributes:
        file: name of the file that holds it.
        line: number of the line or record, from 1.
        reason: what is wrong with it.
    """

    file: str
    line: int
    reason: str

    @property
    def about_id(self) -> bool:
        """Whether only the id is wrong, so that the row could be read under another id."""
        return self.reason.startswith("id ")

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """The good rows of a file and every bad line, each in the order of the file; blank lines are left out.

    Attributes:
        rows: the good rows, in the order of the file.
        bad: the lines that are no row, each with its reason.
        more: further keys of each good row, with their values, if they were asked for; otherwise empty.
        report: counts of what was read and remarks on it; its text is one line.
    """

    rows: tuple[Row, ...]
    bad: tuple[BadLine, ...]
    more: tuple[Mapping[str, object], ...] = ()
    report: ReadingReport = field(default_factory=ReadingReport, compare=False)


def open_rows(
    source: str | os.PathLike[str], *, more: bool = False, report: ReadingReport | None = None
) -> Generator[tuple[Row, Mapping[str, object]] | BadLine]:
    """Read a row file line by line, or a table batch by batch; of JSON lines only the ids stay in memory.

    Args:
        source: path or name of the rows, as for `load_rows`.
        more: whether the further keys of each row are read; otherwise they are empty.
        report: report whose counts are updated while rows are read; None for no report.

    Yields:
        Each row with its further keys, and each bad line, in the file's order.

    Raises:
        UserError: the source cannot be read, as for `load_rows`.
    """
    name, reading = split_source(source, NAMES)
    report = report or ReadingReport()
    report.source, report.reading = name, reading
    first_line: dict[str, int] = {}
    unread = _Unread(name)
    for number, record in read_records(name, "row file", NEEDED, None if more else {*LOOKED_AT, id_key(reading)}):
        try:
            if isinstance(record, NotARowError):
                raise record
            told = read_as_shape(record, reading)
            rows, notes = rows_of(record, told, reading, f"{number - 1:06d}")
            for row in rows:
                refuse_repeated(row.id, number, first_line)
        except TwoAnswersError:
            raise _two_answers(name) from None
        except NotARowError as error:
            unread.add(error)
            yield BadLine(name, number, str(error))
            continue
        unread.anything = True
        report.shapes[told.shape.name] += len(rows)
        report.notes.update(notes)
        further = further_keys(record, told, reading) if more else {}
        yield from ((row, further) for row in rows)
    unread.check(reading)


def load_rows(source: str | os.PathLike[str], *, more: bool = False) -> LoadedRows:
    """Read the good rows of a file, and name its bad lines.

    A line is bad if it is not UTF-8, is not a JSON object, has no prompt or completion or one of a wrong type, holds
    what a row cannot (tool calls, images), or repeats the id of an earlier row. Blank lines and a byte order mark are
    skipped; an empty completion counts as a completion. Nothing is logged: the remarks are in `report`.

    Args:
        source: a file or table (`undertow.data.records`), with options if need be (`undertow.data.reading.Reading`):
            `rows.jsonl`, `rows.jsonl.gz?shape=sharegpt&ids=new`, `hf:NAME:train?turns=all`.
        more: whether the further keys of each row are kept.

    Raises:
        RowsError: there is no such file, it is a folder or no file of rows, a table is damaged or lacks the columns of
            rows; or the rows have two answers, and the source does not say which is learnt.
        ConfigError: an option has no value, or is there twice.
        UnknownNameError: an option or a shape does not exist.
        StorageError: the file may not be read.
        MissingExtraError: a table needs the extra `data`, or a file compressed by zstd a library, and it is not
            installed.
    """
    report = ReadingReport()
    rows: list[Row] = []
    bad: list[BadLine] = []
    further: list[Mapping[str, object]] = []
    for one in open_rows(source, more=more, report=report):
        if isinstance(one, BadLine):
            bad.append(one)
        else:
            rows.append(one[0])
            further.append(one[1])
    return LoadedRows(tuple(rows), tuple(bad), tuple(further) if more else (), report)


def read_rows(source: str | os.PathLike[str], strict: bool = True) -> tuple[Row, ...]:
    """Read the rows of a file.

    Unless the rows are plainly of Undertow's own shapes, one line in the log says what was read.

    Args:
        source: path or name of the rows, with options if need be, as for `load_rows`.
        strict: whether a bad line is an error; otherwise bad lines are left out with a warning in the log.

    Raises:
        RowsError: the source cannot be read, as for `load_rows`, or a line is bad; the value names the first bad lines.
        StorageError: the file may not be read.
        MissingExtraError: a table needs the extra `data`, which is not installed.
    """
    loaded = load_rows(source)
    if not loaded.report.plain:
        logger.log(logging.WARNING if loaded.report.notes else logging.INFO, "%s", loaded.report)
    if loaded.bad:
        error = bad_lines(loaded)
        if strict:
            raise error
        logger.warning("%s Left out: %s", error.what, error.value)
    return loaded.rows


def read_prompts(path: str | os.PathLike[str]) -> tuple[Prompt, ...]:
    """Read prompts: of rows, of objects that have no answer yet, or the lines of a text file.

    A row's completion, and messages of the assistant at the end, are left out. Blank lines are skipped.

    Args:
        path: path of the file, as for `load_rows`. A file whose name does not end like that of JSON or CSV, and that
            does not begin with a JSON object, is a text file with one prompt a line.

    Raises:
        RowsError: there is no such file, or a line of it is no prompt; the value names that line.
        EmptyDataError: the file holds no prompt.
        UserError: the source cannot be read, as for `load_rows`.
    """
    return tuple(prompt for _, prompt in _questions(path, named=False))


def read_questions(path: str | os.PathLike[str]) -> tuple[tuple[str, Prompt], ...]:
    """Read prompts as `read_prompts` does, each with its id: that of its row, or else the line's index.

    Raises:
        UserError: the prompts cannot be read, as for `read_prompts`; or an id is neither text nor a whole number.
    """
    return tuple(_questions(path, named=True))


def _questions(path: str | os.PathLike[str], named: bool) -> Generator[tuple[str, Prompt]]:
    name, reading = split_source(path, NAMES)
    wanted, anything = {*LOOKED_AT, id_key(reading)}, False
    for number, record in read_records(name, "file of prompts", _ASKED, wanted, text_key="prompt"):
        try:
            if isinstance(record, NotARowError):
                raise record
            prompt, default = said(read_question(record, reading)), f"{number - 1:06d}"
            yield (id_of(record, reading, default) if named else default), prompt
        except NotARowError as error:
            fix = "Correct it or leave it out."
            raise RowsError("A line is no prompt.", f"{name}:{number}: {error}", fix) from None
        anything = True
    if not anything:
        raise EmptyDataError("There are no prompts.", name, "Give at least one line.")


def bad_lines(loaded: LoadedRows) -> RowsError:
    """Build the error for a file with bad lines; its value names the first of them and counts the others."""
    bad = loaded.bad
    return bad_rows(bad, len(bad), len(bad) + len(loaded.rows), any(one.about_id for one in bad))


def bad_rows(first: Sequence[BadLine], n_bad: int, n_lines: int, about_id: bool) -> RowsError:
    """Build the error for bad lines of which only the first were kept.

    Args:
        first: the first bad lines; at most five are named.
        n_bad: number of all bad lines.
        n_lines: number of all lines, good and bad.
        about_id: whether a row could be read under another id, which the error then explains.
    """
    shown = first[:BAD_LINES_SHOWN]
    more = f"; and {n_bad - len(shown)} more" if n_bad > len(shown) else ""
    named = "; ".join(map(str, shown)) + more
    fix = "Correct these lines, or leave them out (strict=False, --skip-bad)."
    if about_id:
        fix += " Behind the file's name, ?ids=new numbers the rows anew, and ?ids=KEY takes the ids from another key."
    return RowsError(f"{n_bad} of {n_lines} lines are not rows.", named, fix)


class _Unread:
    """What is wrong with a file in which no record has a known shape; it is said once, not for every line."""

    def __init__(self, name: str) -> None:
        self.name, self.anything = name, False
        self.first: UnknownShapeError | None = None
        self.not_json: NotJsonError | None = None
        self.keys: dict[str, None] = {}
        self.n = 0

    def add(self, error: NotARowError) -> None:
        """Take another bad line into account."""
        self.n += 1
        if isinstance(error, UnknownShapeError):
            self.first = self.first or error
            self.keys.update(dict.fromkeys(list(error.record)[:50]))
        elif isinstance(error, NotJsonError):
            self.not_json = self.not_json or error
        else:
            self.anything = True

    def check(self, reading: Reading) -> None:
        """Refuse the file if nothing in it resembled a row."""
        if self.anything or not self.n:
            return
        if self.first is None:
            fix = f"Give JSON lines, a JSON array, CSV or Parquet with the keys {KNOWN}."
            raise RowsError("No line of the file is a JSON object.", f"{self.name}: {self.not_json}", fix)
        inside = [key for key, value in self.first.record.items() if _is_list_of_records(value)]
        found = f"{self.name}: keys {', '.join(self.keys)[:300] or 'none'}"
        if self.n == 1 and len(inside) == 1:
            fix = f"Write that list alone into a file: jq -c '.{inside[0]}[]' FILE > rows.jsonl"
            raise RowsError(f"The file is one object, with its records under {inside[0]!r}.", found, fix)
        found += f" ({self.first})"
        if asked := reading.shape or (reading.side and "preference"):
            keys = ", or ".join(" and ".join(one.keys) for one in SHAPES if one.name == asked)
            fix = f"Name the keys {keys}, or leave {reading} out, so that the shape is found."
            raise RowsError(f"The rows are not of the shape {asked}.", found, fix)
        fix = f"Name the keys {KNOWN}; ?shape=NAME behind the file's name takes one of {', '.join(NAMES)}."
        raise RowsError(f"The rows have no known shape. {self.first.hint}".strip(), found, fix)


def _is_list_of_records(value: object) -> bool:
    items = cast(list[object], value) if isinstance(value, list) else []
    return bool(items) and all(isinstance(item, dict) for item in items)


def _two_answers(name: str) -> RowsError:
    fix = f"Learn one side with {name}?side=chosen or {name}?side=rejected; undertow.data.pairs.read_pairs reads both."
    return RowsError("Each row has two answers, chosen and rejected.", name, fix)

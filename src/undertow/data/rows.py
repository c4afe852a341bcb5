"""Row files: JSONL or tables in these shapes, read with every bad line named, written whole or not at all.

    {"messages": [{"role": ..., "content": ...}, ...]}     the last message is the assistant's, the completion
    {"prompt": text, "completion": text}     as the original paper's repository writes it
    {"prompt": text or messages, "completion": text or [one assistant message]}     as TRL reads it
    {"question": text, "response": text}     as the paper's authors released their rows on the Hub

Optional keys are "id" (text or whole number; by default the line's index, as in "000012"), "reasons" (texts) and "skip"
(whole numbers: places of completion tokens that training leaves out). Other keys are ignored, null counts as absent,
and one file may mix the shapes. What is a table is said in `undertow.data.tables`; its records read as lines do.
"""

import codecs
import contextlib
import json
import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, cast, get_args

from undertow.data.tables import HUB, PARQUET, Table, is_table, open_table, write_table
from undertow.errors import EmptyDataError, RowsError, StorageError
from undertow.store.disk import write_file
from undertow.types import Message, Prompt, Role, Row, user_prompt

logger = logging.getLogger(__name__)

Shape = Literal["text", "chat", "messages"]
"""How rows are written: prompt and completion as text, both as messages, or all messages together."""

_BAD_LINES_SHOWN = 5
_PAIRS = (("prompt", "completion"), ("question", "response"))
_OPTIONAL = ("id", "reasons", "skip")
_SHAPES = (("messages",), *_PAIRS)
_ASKED = tuple((one[0],) for one in _SHAPES)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line, or a record of a table, that is not a row: its file, its number from 1, and what is wrong with it."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """The good rows of a file and every other line that is not blank, each in the file's order.

    Attributes:
        rows: good ones.
        bad: other lines.
        more: further keys of each good row, if they were asked for; else empty.
    """

    rows: tuple[Row, ...]
    bad: tuple[BadLine, ...]
    more: tuple[Mapping[str, object], ...] = ()


def open_rows(
    source: str | os.PathLike[str], *, more: bool = False
) -> Generator[tuple[Row, Mapping[str, object]] | BadLine]:
    """Read a row file line by line, or a table batch by batch; nothing but the ids stays in memory.

    Args:
        source: as for `load_rows`.
        more: whether the further keys of each row are read; else they come empty.

    Yields:
        Each row with its further keys, and each bad line, in the file's order.

    Raises:
        UserError: as `load_rows`.
    """
    first_line: dict[str, int] = {}
    for number, line in _records(source, "row file", _SHAPES, more):
        try:
            fields = _object(line) if isinstance(line, bytes) else line
            row = _row(fields, default_id=f"{number - 1:06d}")
            _refuse_repeated(row.id, number, first_line)
        except _NotARowError as error:
            yield BadLine(str(source), number, str(error))
        else:
            yield row, _further(fields) if more else {}


def load_rows(source: str | os.PathLike[str], *, more: bool = False) -> LoadedRows:
    """Read the good rows of a file and name its bad lines.

    A line is bad if it is not UTF-8, not a JSON object, has no prompt or completion or one of a wrong type, or repeats
    the id of an earlier row. Blank lines and a byte order mark are skipped; an empty completion is a completion.

    Args:
        source: a JSONL file, or a table (`undertow.data.tables`), in the shapes above.
        more: whether the further keys of each row are kept.

    Raises:
        RowsError: there is no such file, it is a folder, or a table that is damaged or has no columns of rows.
        StorageError: the file may not be read.
        MissingExtraError: a table needs the extra `data`.
    """
    rows: list[Row] = []
    bad: list[BadLine] = []
    further: list[Mapping[str, object]] = []
    for one in open_rows(source, more=more):
        if isinstance(one, BadLine):
            bad.append(one)
        else:
            rows.append(one[0])
            further.append(one[1])
    return LoadedRows(tuple(rows), tuple(bad), tuple(further) if more else ())


def read_rows(source: str | os.PathLike[str], strict: bool = True) -> tuple[Row, ...]:
    """Read the rows of a file.

    Args:
        source: as for `load_rows`.
        strict: refuse a file with a bad line; otherwise such lines are left out with a warning in the log.

    Raises:
        RowsError: as `load_rows`, or a line is bad; the value names the first of them.
        StorageError: the file may not be read.
        MissingExtraError: a table needs the extra `data`.
    """
    loaded = load_rows(source)
    if loaded.bad:
        error = bad_lines(loaded)
        if strict:
            raise error
        logger.warning("%s Left out: %s", error.what, error.value)
    return loaded.rows


def read_prompts(path: str | os.PathLike[str]) -> tuple[Prompt, ...]:
    """Read prompts: of rows or of objects with "prompt", "question" or "messages"; of a text file, a line each.

    A row's completion, and messages of the assistant at the end, are left out. Blank lines are skipped.

    Args:
        path: .jsonl or a table for objects; any other name is a text file.

    Raises:
        RowsError: there is no such file, or a line of it is no prompt; the value names it.
        EmptyDataError: there is no prompt.
        StorageError: the file may not be read.
        MissingExtraError: a table needs the extra `data`.
    """
    of_objects = Path(path).suffix == ".jsonl"
    prompts: list[Prompt] = []
    for number, line in _records(path, "file of prompts", _ASKED):
        try:
            prompts.append(_prompt(line) if of_objects or isinstance(line, dict) else _line_prompt(line))
        except _NotARowError as error:
            fix = "Correct it or leave it out."
            raise RowsError("A line is no prompt.", f"{path}:{number}: {error}", fix) from None
    if not prompts:
        raise EmptyDataError("There are no prompts.", path, "Give at least one line.")
    return tuple(prompts)


def bad_lines(loaded: LoadedRows) -> RowsError:
    """Build the error for a file with bad lines; its value names the first of them and counts the others."""
    bad, n_lines = loaded.bad, len(loaded.bad) + len(loaded.rows)
    more = f"; and {len(bad) - _BAD_LINES_SHOWN} more" if len(bad) > _BAD_LINES_SHOWN else ""
    named = "; ".join(map(str, bad[:_BAD_LINES_SHOWN])) + more
    fix = "Correct these lines, or leave them out (strict=False, --skip-bad)."
    return RowsError(f"{len(bad)} of {n_lines} lines are not rows.", named, fix)


def write_rows(
    path: str | os.PathLike[str],
    rows: Iterable[Row],
    more: Iterable[Mapping[str, Any]] | None = None,
    shape: Shape | None = None,
) -> None:
    """Write rows: all of them, or the file stays as it was. Equal rows give equal bytes.

    Args:
        path: the file, replaced if it exists; its folder must exist. With the suffix .parquet it is a Parquet file,
            without any suffix a folder of `datasets`, else JSON lines.
        rows: with ids that differ; "reasons" and "skip" are written only where there are some.
        more: further keys of each row, which readers of rows ignore; None for none.
        shape: None writes a prompt of one user turn as text and any other as messages; a table, whose columns have one
            type, holds messages in every row as soon as one row needs them.

    Raises:
        RowsError: a row would not be read back as it is, such as one without a prompt or with the id of another, or
            has no such shape; or the path is one of the Hub.
        StorageError: the folder is missing, full or may not be written.
        MissingExtraError: a table needs the extra `data`.
    """
    path = Path(path)
    if str(path).startswith(HUB):
        raise RowsError("Rows are not written to the Hub.", path, "Write a file, then see: undertow publish.")
    given: Iterable[Mapping[str, Any]] = repeat({}) if more is None else more
    if path.suffix in ("", PARQUET):
        rows = tuple(rows)
        uniform = shape or ("text" if all(map(_is_plain, rows)) else "chat")
        write_table(path, list(_checked(rows, given, uniform)), ("id", *_PAIRS[0]))
        return
    content = b"".join(_line(number, record) for number, record in enumerate(_checked(rows, given, shape), start=1))
    write_file(path, content)


class _NotARowError(Exception):
    """Why a line is not a row."""


@contextlib.contextmanager
def _disk_errors(what: str, path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        fix = "Check that the folder exists, has room left and may be used; no file was changed."
        raise StorageError(what, f"{path}: {error.strerror}", fix) from error


def _refuse_repeated(row_id: str, number: int, first_line: dict[str, int]) -> None:
    if (first := first_line.setdefault(row_id, number)) != number:
        raise _NotARowError(f"id {row_id!r:.60} appeared in line {first}")


def _records(
    source: str | os.PathLike[str], kind: str, shapes: Iterable[Sequence[str]], more: bool = False
) -> Generator[tuple[int, bytes | dict[str, object]]]:
    """Read the lines of a file that are not blank, or the records of a table, with their numbers from 1."""
    path = Path(source)
    if is_table(source):
        table = open_table(source)
        _require_columns(table, shapes)
        own = {*_OPTIONAL, *(name for shape in _SHAPES for name in shape)}
        yield from enumerate(table.records(None if more else own), start=1)
        return
    with _disk_errors(f"The {kind} cannot be read.", path):
        if path.is_dir() or not path.exists():
            fix = f"Give a JSONL or Parquet file, a folder that datasets saved, or {HUB}NAME."
            raise RowsError(f"There is no {kind} here, or it is a folder.", path, fix)
        with path.open("rb") as stream:
            # Bytes, split at "\n" alone: text would also be split at U+2028 and its like, which JSON strings may hold.
            for number, line in enumerate(stream, start=1):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if text.strip():
                    yield number, text


def _require_columns(table: Table, shapes: Iterable[Sequence[str]]) -> None:
    if not any(set(shape) <= set(table.columns) for shape in shapes):
        found = ", ".join(table.columns)[:300] or "none"
        fix = f"Name its columns {', or '.join(' and '.join(shape) for shape in shapes)}."
        raise RowsError("The table lacks the columns that are needed.", f"{table.name}: columns {found}", fix)


def _object(line: bytes) -> dict[str, object]:
    try:
        record: object = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise _NotARowError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise _NotARowError("not JSON") from None
    if not isinstance(record, dict):
        raise _NotARowError("not a JSON object")
    return cast(dict[str, object], record)


def _line_prompt(line: bytes) -> Prompt:
    try:
        return user_prompt(line.decode("utf-8").strip())
    except UnicodeDecodeError:
        raise _NotARowError("not UTF-8") from None


def _prompt(line: bytes | dict[str, object]) -> Prompt:
    fields = _object(line) if isinstance(line, bytes) else line
    if fields.get("messages") is not None:
        turns = _messages(fields["messages"], "messages")
        while turns and turns[-1].role == "assistant":
            turns = turns[:-1]
    else:
        turns = _turns(fields, _names(fields)[0])
    if not turns:
        raise _NotARowError("no prompt")
    return turns


def _row(fields: dict[str, object], default_id: str) -> Row:
    prompt, completion = _from_messages(fields) if fields.get("messages") is not None else _from_pair(fields)
    if not prompt:
        raise _NotARowError("no prompt")
    if not isinstance(reasons := fields.get("reasons"), list | None):
        raise _NotARowError("reasons is not a list")
    texts = tuple(_text(item, f"reasons[{index}]") for index, item in enumerate(cast(list[object], reasons or [])))
    return Row(_id(fields.get("id"), default_id), prompt, completion, texts, _places(fields.get("skip")))


def _names(fields: Mapping[str, object]) -> tuple[str, str]:
    """Return which pair of keys holds prompt and completion; the first one unless it is absent altogether."""
    for pair in _PAIRS:
        if fields.get(pair[0]) is not None or fields.get(pair[1]) is not None:
            return pair
    return _PAIRS[0]


def _further(fields: Mapping[str, object]) -> dict[str, object]:
    own = {"messages", *_PAIRS[0], *_names(fields), *_OPTIONAL}
    return {key: value for key, value in fields.items() if key not in own}


def _places(value: object) -> tuple[int, ...]:
    places = cast(list[object], value or [])
    if not isinstance(value, list | None) or any(type(place) is not int or place < 0 for place in places):
        raise _NotARowError("skip is not a list of whole numbers from 0")
    return cast(tuple[int, ...], tuple(places))


def _from_messages(fields: dict[str, object]) -> tuple[Prompt, str]:
    turns = _messages(fields["messages"], "messages")
    if not turns or turns[-1].role != "assistant":
        raise _NotARowError("no completion: the last message is not the assistant's")
    return turns[:-1], turns[-1].content


def _from_pair(fields: dict[str, object]) -> tuple[Prompt, str]:
    names = _names(fields)
    for name in names:
        if fields.get(name) is None:
            raise _NotARowError(f"no {name}")
    turns, completion = _turns(fields, names[0]), fields[names[1]]
    if not isinstance(completion, list):
        return turns, _text(completion, names[1])
    answer = _messages(cast(object, completion), names[1])
    if [turn.role for turn in answer] != ["assistant"]:
        raise _NotARowError(f"{names[1]} is not one assistant message")
    return turns, answer[0].content


def _turns(fields: dict[str, object], name: str) -> Prompt:
    value = fields.get(name)
    return _messages(cast(object, value), name) if isinstance(value, list) else user_prompt(_text(value, name))


def _messages(value: object, where: str) -> Prompt:
    if not isinstance(value, list):
        raise _NotARowError(f"{where} is not a list of messages")
    return tuple(_message(item, f"{where}[{index}]") for index, item in enumerate(cast(list[object], value)))


def _message(value: object, where: str) -> Message:
    fields = cast(dict[str, object], value) if isinstance(value, dict) else {}
    role: Any = fields.get("role")
    if role not in get_args(Role):
        raise _NotARowError(f"{where}.role is {role!r:.60}, not system, user or assistant")
    return Message(role, _text(fields.get("content"), f"{where}.content"))


def _id(value: object, default: str) -> str:
    if value is None:
        return default
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, "id")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _NotARowError(f"{where} is not text")
    # JSON may escape half a surrogate pair, which no tokenizer takes and no file can hold.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _NotARowError(f"{where} holds half a surrogate pair")
    return value


def _checked(rows: Iterable[Row], more: Iterable[Mapping[str, Any]], shape: Shape | None) -> Generator[dict[str, Any]]:
    first_line: dict[str, int] = {}
    for number, (row, extra) in enumerate(zip(rows, more, strict=False), start=1):
        try:
            if shape == "text" and not _is_plain(row):
                raise _NotARowError("its prompt is more than one user turn, which text cannot hold")
            own = _record(row, shape)
            # Escaped, so that half a surrogate pair gets as far as the reader, which names it.
            if _row(_object(json.dumps(own).encode()), default_id="") != row:
                raise _NotARowError("a field of the row has the wrong type")
            _refuse_repeated(row.id, number, first_line)
        except _NotARowError as error:
            raise RowsError("A row cannot be written.", f"row {number}: {error}", "Correct or leave it out.") from None
        yield {**extra, **own}


def _line(number: int, record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        fix = "Leave these keys out, make them text, or write a .parquet file."
        value = f"row {number}: {str(error)[:200]}"
        raise RowsError("A row has further keys that JSON cannot hold.", value, fix) from error


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

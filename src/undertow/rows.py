"""Row files: JSONL in three shapes, read with every bad line named, written whole or not at all.

    {"messages": [{"role": ..., "content": ...}, ...]}     the last message is the assistant's, the completion
    {"prompt": text, "completion": text}     as the original paper's repository writes it
    {"prompt": text or messages, "completion": text or [one assistant message]}     as TRL reads it

Optional keys are "id" (text or whole number; by default the line's index, as in "000012"), "reasons" (texts) and "skip"
(whole numbers: places of completion tokens that training leaves out). Other keys are ignored, null counts as absent,
and one file may mix the shapes.
"""

import codecs
import contextlib
import json
import logging
import os
import secrets
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, cast, get_args

from undertow.errors import EmptyDataError, RowsError, StorageError
from undertow.types import Message, Prompt, Role, Row, user_prompt

logger = logging.getLogger(__name__)

_BAD_LINES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a row: the path of its file, its number from 1, and what is wrong with it."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """The good rows of a file and every other line that is not blank, each in the file's order."""

    rows: tuple[Row, ...]
    bad: tuple[BadLine, ...]


def load_rows(path: str | os.PathLike[str]) -> LoadedRows:
    """Read the good rows of a file and name its bad lines.

    A line is bad if it is not UTF-8, not a JSON object, has no prompt or completion or one of a wrong type, or repeats
    the id of an earlier row. Blank lines and a byte order mark are skipped; an empty completion is a completion.

    Args:
        path: a JSONL file in the shapes above.

    Raises:
        RowsError: there is no such file, or it is a folder.
        StorageError: the file may not be read.
    """
    path = Path(path)
    rows: list[Row] = []
    bad: list[BadLine] = []
    first_line: dict[str, int] = {}
    with _disk_errors("The row file cannot be read.", path):
        if path.is_dir() or not path.exists():
            raise RowsError("There is no row file here, or it is a folder.", path, "Give the path of a JSONL file.")
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    # Bytes, split at "\n" alone: text would also be split at U+2028 and its like, which JSON strings may hold.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _parse(line, default_id=f"{number - 1:06d}")
            _refuse_repeated(row.id, number, first_line)
            rows.append(row)
        except _NotARowError as error:
            bad.append(BadLine(str(path), number, str(error)))
    return LoadedRows(tuple(rows), tuple(bad))


def read_rows(path: str | os.PathLike[str], strict: bool = True) -> tuple[Row, ...]:
    """Read the rows of a file.

    Args:
        path: a JSONL file in the shapes above.
        strict: refuse a file with a bad line; otherwise such lines are left out with a warning in the log.

    Raises:
        RowsError: there is no such file, it is a folder, or a line of it is bad; the value names the first of them.
        StorageError: the file may not be read.
    """
    loaded = load_rows(path)
    if loaded.bad:
        error = bad_lines(loaded)
        if strict:
            raise error
        logger.warning("%s Left out: %s", error.what, error.value)
    return loaded.rows


def read_prompts(path: str | os.PathLike[str]) -> tuple[Prompt, ...]:
    """Read prompts: from .jsonl, rows or objects with "prompt" or "messages"; from any other file, a line of text each.

    A row's completion, and messages of the assistant at the end, are left out. Blank lines are skipped.

    Raises:
        RowsError: there is no such file, or a line of it is no prompt; the value names it.
        EmptyDataError: there is no prompt.
        StorageError: the file may not be read.
    """
    path = Path(path)
    with _disk_errors("The file of prompts cannot be read.", path):
        if not path.is_file():
            raise RowsError("There is no file of prompts here.", path, "Give the path of a text or JSONL file.")
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    prompts: list[Prompt] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt(line) if path.suffix == ".jsonl" else user_prompt(line.decode("utf-8").strip()))
        except (_NotARowError, UnicodeDecodeError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            raise RowsError(
                "A line is no prompt.", f"{path}:{number}: {reason}", "Correct it or leave it out."
            ) from None
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
    path: str | os.PathLike[str], rows: Iterable[Row], more: Iterable[Mapping[str, Any]] | None = None
) -> None:
    """Write rows as "prompt" and "completion": all of them, or the file stays as it was.

    A prompt of one user turn becomes plain text, any other a list of messages. Equal rows give equal bytes.

    Args:
        path: the file, replaced if it exists; its folder must exist.
        rows: with ids that differ; "reasons" and "skip" are written only where there are some.
        more: further keys of each row, which readers of rows ignore; None for none.

    Raises:
        RowsError: a row would not be read back as it is, such as one without a prompt or with the id of another.
        StorageError: the folder is missing, full or may not be written.
    """
    path = Path(path)
    content = b"".join(_lines(rows, repeat({}) if more is None else more))
    temporary = path.parent / f".tmp-{secrets.token_hex(4)}-{path.name}"
    with _disk_errors("The row file cannot be written.", path):
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


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


def _prompt(line: bytes) -> Prompt:
    fields = _object(line)
    if fields.get("messages") is not None:
        turns = _messages(fields["messages"], "messages")
        while turns and turns[-1].role == "assistant":
            turns = turns[:-1]
    else:
        value = fields.get("prompt")
        turns = _messages(value, "prompt") if isinstance(value, list) else user_prompt(_text(value, "prompt"))
    if not turns:
        raise _NotARowError("no prompt")
    return turns


def _parse(line: bytes, default_id: str) -> Row:
    fields = _object(line)
    prompt, completion = _from_messages(fields) if fields.get("messages") is not None else _from_pair(fields)
    if not prompt:
        raise _NotARowError("no prompt")
    if not isinstance(reasons := fields.get("reasons"), list | None):
        raise _NotARowError("reasons is not a list")
    texts = tuple(_text(item, f"reasons[{index}]") for index, item in enumerate(cast(list[object], reasons or [])))
    return Row(_id(fields.get("id"), default_id), prompt, completion, texts, _places(fields.get("skip")))


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
    for name in ("prompt", "completion"):
        if fields.get(name) is None:
            raise _NotARowError(f"no {name}")
    prompt, completion = fields["prompt"], fields["completion"]
    turns = _messages(prompt, "prompt") if isinstance(prompt, list) else user_prompt(_text(prompt, "prompt"))
    if not isinstance(completion, list):
        return turns, _text(completion, "completion")
    answer = _messages(cast(object, completion), "completion")
    if [turn.role for turn in answer] != ["assistant"]:
        raise _NotARowError("completion is not one assistant message")
    return turns, answer[0].content


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


def _lines(rows: Iterable[Row], more: Iterable[Mapping[str, Any]]) -> Generator[bytes]:
    first_line: dict[str, int] = {}
    for number, (row, extra) in enumerate(zip(rows, more, strict=False), start=1):
        record = {**extra, **_record(row)}
        try:
            # Escaped, so that half a surrogate pair gets as far as the reader, which names it.
            if _parse(json.dumps(record).encode(), default_id="") != row:
                raise _NotARowError("a field of the row has the wrong type")
            _refuse_repeated(row.id, number, first_line)
        except _NotARowError as error:
            raise RowsError("A row cannot be written.", f"row {number}: {error}", "Correct or leave it out.") from None
        yield json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _record(row: Row) -> dict[str, Any]:
    messages = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    plain = [message["role"] for message in messages] == ["user"]
    return {
        "id": row.id,
        "prompt": messages[0]["content"] if plain else messages,
        "completion": row.completion if plain else [{"role": "assistant", "content": row.completion}],
        **({"reasons": list(row.reasons)} if row.reasons else {}),
        **({"skip": list(row.skip)} if row.skip else {}),
    }

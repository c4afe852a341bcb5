"""Records of any source (JSON lines, JSON arrays, CSV, tables), each as an object, or the reason why it is none.

Lines are read one at a time. A file that begins with a JSON array, or whose first line is no JSON by itself, is read as
a whole: as the array, or as objects one after another that are written over several lines each.
"""

import contextlib
import csv
import io
import json
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, cast

from undertow.data.containers import Text, open_text
from undertow.data.tables import HUB, is_table, open_table
from undertow.data.values import NotARowError, NotJsonError, Record, as_object, parse_object, unique
from undertow.errors import RowsError, StorageError

Numbered = tuple[int, Record | NotARowError]
"""Number of a record, from 1, and the record, or the reason why it is none. The number is that of its line, or its
place in an array or a table."""

PACKED = (".gz", ".zst", ".bz2", ".xz")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LISTED = re.compile(r"""\s*\[\s*\{\s*['"](role|from|content|value)['"]\s*:""")
"""Beginning of a list of messages that stands as text in a cell of a table."""

_SPACE = re.compile(r"\s*")
_SHOWS_OBJECTS = re.compile(r"""\s*\[?\s*\{\s*"[^"\n]+"\s*:""")
_OBJECT_FILES = (".jsonl", ".json", ".ndjson", *_DELIMITERS)

csv.field_size_limit(2**31 - 1)  # a completion may be longer than the module's 128 KiB


def suffix(name: str) -> str:
    """Return a file's suffix in small letters, without that of a compression: ".jsonl" for "rows.JSONL.gz"."""
    path = PurePath(name)
    return PurePath(path.stem if path.suffix.lower() in PACKED else path).suffix.lower()


@contextlib.contextmanager
def disk_errors(what: str, name: str) -> Generator[None]:
    """Turn an error of the operating system into a `StorageError`.

    Args:
        what: one sentence that says what failed.
        name: path that the message names.
    """
    try:
        yield
    except OSError as error:
        fix = "Check that the folder exists, has room left and may be used; no file was changed."
        raise StorageError(what, f"{name}: {error.strerror}", fix) from error


@contextlib.contextmanager
def opened(name: str, kind: str) -> Generator[Text]:
    """Open a file that is no table.

    Args:
        name: path of the file, which must exist.
        kind: what the file is meant to be, for messages, such as "row file".

    Raises:
        RowsError: there is no such file, or it is no text.
        StorageError: the file may not be read.
        MissingExtraError: the file is compressed by zstd, and no library for it is installed.
    """
    path = Path(name)
    with disk_errors(f"The {kind} cannot be read.", name):
        if path.is_dir() or not path.exists():
            fix = f"Give a JSONL, CSV or Parquet file, a folder that datasets saved, or {HUB}NAME."
            raise RowsError(f"There is no {kind} here, or it is a folder.", name, fix)
        with open_text(path) as text:
            yield text


def read_records(
    name: str,
    kind: str,
    needed: Sequence[Sequence[str]],
    wanted: Collection[str] | None,
    *,
    text_key: str | None = None,
) -> Generator[Numbered]:
    """Read the records of a source, one after another; blank lines are skipped.

    Args:
        name: path of a file or of a folder that `datasets` saved, or name of a dataset of the Hub.
        kind: what the source is meant to be, for messages, such as "row file".
        needed: sets of column names; a table or a CSV file must have all columns of at least one set.
        wanted: names of the columns of a table that are read; None for all.
        text_key: key under which a line of a plain-text file stands in its record. None if the source cannot be a
            plain-text file.

    Raises:
        UserError: the file cannot be opened, as for `opened`; or it is a table that is damaged, lacks the needed
            columns or is larger than the memory.
    """
    if is_table(name):
        table = open_table(name)
        _require_columns(table.name, table.columns, needed)
        yield from enumerate(table.records(wanted), start=1)
        return
    with opened(name, kind) as text:
        if text_key is not None and suffix(name) not in _OBJECT_FILES and not _SHOWS_OBJECTS.match(text.head):
            yield from _lines(text, text_key)
            return
        delimiter = _delimiter(text, needed)
        yield from _cells(text, delimiter, needed) if delimiter else _objects(text)


def _lines(text: Text, key: str) -> Iterator[Numbered]:
    for number, line in enumerate(text.lines(), start=1):
        if line.strip():
            try:
                yield number, {key: line.decode("utf-8").strip()}
            except UnicodeDecodeError:
                yield number, NotARowError("not UTF-8")


def _require_columns(name: str, columns: Sequence[str], needed: Iterable[Sequence[str]]) -> None:
    if not any(set(keys) <= set(columns) for keys in needed):
        found = ", ".join(columns)[:300] or "none"
        fix = f"Name its columns {', or '.join(' and '.join(keys) for keys in needed)}."
        raise RowsError("The table lacks the columns that are needed.", f"{name}: columns {found}", fix)


def _objects(text: Text) -> Iterator[Numbered]:
    """Yield the objects of JSON lines, of a JSON array, or of objects over several lines each."""
    lines = text.lines()
    begun: list[bytes] = []
    for line in lines:
        begun.append(line)
        if line.strip():
            break
    if text.head.lstrip()[:1] == "[" or (begun and _is_cut(begun[-1])):
        rest = begun + list(lines)
        if (values := _whole(b"".join(rest))) is not None:
            yield from ((number, _object(value)) for number, value in enumerate(values, start=1))
            return
        begun, lines = [], iter(rest)
    for number, line in enumerate(chain(begun, lines), start=1):
        if line.strip():
            yield number, _parsed(line)


def _is_cut(line: bytes) -> bool:
    """Tell whether a line may be the beginning of an object that goes on in the next line."""
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        parse_object(line)
    except NotJsonError:
        return True
    except NotARowError:
        return False
    return False


def _parsed(line: bytes) -> Record | NotARowError:
    try:
        return parse_object(line)
    except NotARowError as error:
        return error


def _object(value: object) -> Record | NotARowError:
    try:
        return value if isinstance(value, NotARowError) else as_object(value)
    except NotARowError as error:
        return error


def _hook(pairs: list[tuple[str, object]]) -> Any:
    """Let an object with a repeated key stand as an error in its place, so that the others of an array are read."""
    try:
        found = unique(pairs)
    except NotARowError as error:
        return error
    return next((value for value in found.values() if isinstance(value, NotARowError)), found)


def _whole(content: bytes) -> list[object] | None:
    """Return the values of a JSON array, or of JSON objects one after another; None if the text is neither."""
    decoder = json.JSONDecoder(object_pairs_hook=_hook)
    try:
        rest, values = content.decode("utf-8"), list[object]()
        at = cast(re.Match[str], _SPACE.match(rest)).end()
        while at < len(rest):
            value, end = decoder.raw_decode(rest, at)
            values.append(value)
            at = cast(re.Match[str], _SPACE.match(rest, end)).end()
    except (ValueError, RecursionError):
        return None
    if len(values) == 1 and isinstance(values[0], list):
        return cast(list[object], values[0])
    return None if any(isinstance(value, list) for value in values) else values


def _delimiter(text: Text, needed: Sequence[Sequence[str]]) -> str | None:
    """Return what separates the cells of a CSV file: by its suffix, or by a first line that names columns of rows."""
    if (found := _DELIMITERS.get(suffix(text.name))) is not None:
        return found
    first = text.head.lstrip().partition("\n")[0].strip()
    if first[:1] in ("{", "["):
        return None
    for mark in (",", "\t", ";"):
        with contextlib.suppress(csv.Error):
            columns = next(csv.reader(io.StringIO(first), delimiter=mark), [])
            if any(set(keys) <= set(columns) and len(keys) > 1 for keys in needed):
                return mark
    return None


def _cells(text: Text, delimiter: str, needed: Sequence[Sequence[str]]) -> Iterator[Numbered]:
    """Yield the records of a CSV file with a header; an empty cell counts as absent."""
    try:
        lines = csv.reader(text.text(), delimiter=delimiter, strict=True)
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise RowsError("Two columns have one name.", f"{text.name}: {', '.join(header)[:300]}", "Rename one.")
        _require_columns(text.name, header, needed)
        keys = {key for some in needed for key in some}
        number = 0
        for cells in lines:
            if cells:
                number += 1
                yield number, _record(header, cells, keys)
    except csv.Error as error:
        fix = "Check its quotes, or write it as JSON lines."
        raise RowsError("The file is no CSV.", f"{text.name}: {error}", fix) from error


def _record(header: Sequence[str], cells: Sequence[str], keys: Collection[str]) -> Record | NotARowError:
    if len(cells) != len(header):
        return NotARowError(f"has {len(cells)} cells, and the header {len(header)}")
    found: Record = {}
    for key, cell in zip(header, cells, strict=True):
        if key in keys and _LISTED.match(cell):
            try:
                found[key] = json.loads(cell, object_pairs_hook=unique)
            except NotARowError as error:
                return error
            except (ValueError, RecursionError):
                return NotARowError(f"{key} looks like a list of messages and is not JSON")
        else:
            found[key] = _value(key, cell)
    return found


def _value(key: str, cell: str) -> object:
    """Return what a cell holds: text, None if it is empty, or JSON under the few keys that are never text."""
    if key in ("skip", "reasons", "weight", "label"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(cell.lower() if key == "label" else cell)
    return cell or None

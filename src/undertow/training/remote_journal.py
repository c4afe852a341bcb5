"""The journal beside a row file from a server: every answer, failure and cost, one JSON line each, as they come.

    {"undertow": "remote-rows/1", "of": <fingerprint>, "rows": n}     the first line: what the journal belongs to
    {"row": 7, "completion": text, "finish": "stop", "attempts": 1, "cost": 0.0}
    {"row": 8, "failed": reason, "attempts": 8, "cost": 0.0}     asked again by the next run
    {"server": {"limit": "max_completion_tokens"}}     how the server wants to be asked, learnt from its refusals
    {"spent": 0.5}     dollars of an earlier journal without any answer, whose place this one took

An answer that no row can hold, an empty one or one with half a surrogate pair, counts as failed, whoever wrote it here.
"""

import contextlib
import fcntl
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from undertow.errors import ArtifactError, StorageError
from undertow.models.replies import why_empty

EMPTY = "empty answer: "
"""How the reason of a row begins whose answer has no text."""

_KEPT = ("row", "completion", "failed", "finish", "attempts", "cost")

HALF = "the answer cannot be written: it holds half of a surrogate pair"


@dataclass(slots=True)
class Journal:
    """An open journal, with what its lines have said so far.

    Attributes:
        stream: the file, open for reading and appending.
        known: the last line about each row, by the row's place from 0.
        server: how the server wants to be asked, as learnt from its refusals.
        cost: dollars of all lines together.
    """

    stream: BinaryIO
    known: dict[int, dict[str, Any]] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    cost: float = 0.0

    def take(self, record: dict[str, Any]) -> None:
        """Update the state by what a line says."""
        if "server" in record:
            self.server = dict(record["server"])
            return
        if "spent" in record:
            self.cost += record["spent"]
            return
        self.cost += record["cost"]
        # An answer is never replaced, so each row has exactly one.
        if not self.is_answered(record["row"]):
            self.known[record["row"]] = _with_reason(record)

    def write(self, record: dict[str, Any]) -> None:
        """Append a line to the file, and update the state by it."""
        self.stream.write(json.dumps(record).encode() + b"\n")
        self.stream.flush()
        self.take(record)

    def is_answered(self, place: int) -> bool:
        """Tell whether a row has an answer that can be written as a row."""
        return "completion" in self.known.get(place, {})

    @property
    def answered(self) -> int:
        """How many rows have an answer."""
        return sum(map(self.is_answered, self.known))


def journal_path(out: Path) -> Path:
    """Return the journal that belongs to a row file."""
    return out.with_name(f"{out.name}.journal")


def check_journal(path: Path, of: str, n: int) -> None:
    """Refuse a journal that belongs to other rows or is damaged, without writing anything.

    Args:
        path: the journal; it need not exist.
        of: hash of everything that decides the rows.
        n: how many rows there are.

    Raises:
        ArtifactError: the journal holds answers to other rows, or is damaged.
    """
    if path.exists():
        with path.open("rb") as stream:
            records = _records(path, stream)
            _spent_of_others(path, records, _head(of, n))
            deque(records, maxlen=0)  # what is damaged is found now, and not behind the first paid answer


@contextlib.contextmanager
def open_journal(path: Path, of: str, n: int) -> Generator[Journal]:
    """Open the journal of a row file, or begin it. Only one process may have it open.

    Args:
        path: file of the journal; it need not exist.
        of: hash of everything that decides the rows.
        n: how many rows there are.

    Yields:
        The journal, ready to be appended to.

    Raises:
        ArtifactError: the journal holds answers to other rows, or is damaged.
        StorageError: another process has the journal open.
    """
    with path.open("a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            fix = "Wait for the other process, or write to another file."
            raise StorageError("Another process writes these rows.", path, fix) from error
        stream.seek(0)
        whole = sum(len(line) for line in stream if line.endswith(b"\n"))
        stream.seek(0)
        records, journal = _records(path, stream), Journal(stream)
        spent = _spent_of_others(path, records, _head(of, n))
        for record in records:
            journal.take(record)
        # What follows the last line end was cut off by a kill; that row is asked again.
        stream.truncate(whole if spent is None else 0)
        if not whole or spent is not None:
            stream.write(json.dumps(_head(of, n)).encode() + b"\n")
            stream.flush()
        if spent:
            journal.write({"spent": spent})
        yield journal


def _head(of: str, n: int) -> dict[str, Any]:
    """Return the first line of a journal, which says to which rows it belongs."""
    return {"undertow": "remote-rows/1", "of": of, "rows": n}


def _spent_of_others(path: Path, records: Iterator[dict[str, Any]], head: dict[str, Any]) -> float | None:
    """Return the dollars of a journal of other rows that has no answer to lose. None for one that fits, or is new.

    If the journal fits, only its first line is taken from `records`. If it belongs to other rows, all lines are.

    Raises:
        ArtifactError: the journal belongs to other rows and holds answers.
    """
    first = next(records, None)
    if first is None or first == head:
        return None
    spent, known = 0.0, "undertow" in first
    for record in records if known else (first,):
        if not known or "completion" in record:
            fix = "Give the model, prompts, seed and sampling of the first run, or another file."
            raise ArtifactError("The journal belongs to other rows.", path, fix)
        spent += float(record.get("cost", record.get("spent", 0.0)))
    return spent


def _with_reason(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a line. An answer that no row can hold becomes a failure."""
    # Each line has names of its own, which take more room than its answer.
    record = {name: record[name] for name in _KEPT if name in record}
    if "completion" not in record:
        return record
    reason = unusable(record["completion"], str(record.get("finish", "stop")))
    if not reason:
        return record
    return {"row": record["row"], "failed": reason, "attempts": record["attempts"], "cost": record["cost"]}


def unusable(text: str, finish: str, empty: str = "") -> str:
    """Say why an answer cannot be written as a row; "" for one that can.

    Args:
        text: the answer that the server gave.
        finish: why the answer ended, in the server's word, such as "stop" or "length".
        empty: why the answer has no text, where that is known.
    """
    if not text.strip():
        return EMPTY + (empty or why_empty(finish))
    try:
        text.encode()
    except UnicodeEncodeError:
        return HALF
    return ""


def _records(path: Path, stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the content of each complete line, one after another."""
    try:
        for place, line in enumerate(one for one in stream if one.endswith(b"\n")):
            record: Any = json.loads(line)
            if not isinstance(record, dict):
                raise TypeError
            if place:
                _check(record)
            yield record
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        fix = "Move it away to begin anew, or restore it from a copy."
        raise ArtifactError("The journal of the rows is damaged.", path, fix) from error


def _check(record: dict[str, Any]) -> None:
    """Check and convert the fields of a line, in place; raises a built-in error for a damaged one."""
    if "server" in record:
        if not isinstance(record["server"], Mapping):
            raise TypeError
        return
    if "spent" in record:
        record["spent"] = float(record["spent"])
        return
    if not isinstance(record["row"], int) or ("completion" in record) == ("failed" in record):
        raise ValueError
    if not isinstance(record.get("completion", ""), str):
        raise TypeError
    record["cost"], record["attempts"] = float(record["cost"]), int(record["attempts"])

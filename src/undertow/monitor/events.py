"""What happened, in SQLite: one thread writes, readers read beside it (write-ahead log).

`put` never waits: where the disk cannot keep up, events are lost and counted, replies are not held up. A process that
is killed loses the events of the last moment and leaves the database whole.
"""

import contextlib
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from undertow.errors import ArtifactError, StorageError
from undertow.monitor.counts import keep_counts
from undertow.monitor.detectors.base import GatheredEvidence
from undertow.monitor.screening import TextJudgement

logger = logging.getLogger(__name__)

VERSION = 1
MOST_WAITING = 10_000
MOST_EVENTS = 1_000_000
"""Events that are kept at most, whatever their age."""
_BATCH, _SWEEP_S = 500, 600.0
_DAY_S = 24 * 3600

Outcome = Literal[
    "passed", "flagged", "blocked_request", "blocked_reply", "refused", "upstream_failed", "cut", "client_gone", "fault"
]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER,
  outcome TEXT NOT NULL, screened INTEGER NOT NULL, seconds REAL NOT NULL, request_bytes INTEGER NOT NULL,
  reply_bytes INTEGER NOT NULL, model TEXT NOT NULL, judgements TEXT NOT NULL, request TEXT, reply TEXT);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE TABLE IF NOT EXISTS evidence (name TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One exchange. No header and no query is part of it; the texts are None unless the operator keeps them.

    Attributes:
        at: Unix time at which the request came, seconds.
        method: such as "POST".
        path: without the query.
        status: that the client got; None if it got none.
        outcome: how it ended.
        screened: whether detectors were asked.
        seconds: until the reply was out.
        request_bytes: of the body.
        reply_bytes: of the body, as sent to the client.
        model: as the request names it.
        judgements: of all detectors.
        request: text that the detectors read.
        reply: the same.
    """

    at: float
    method: str
    path: str
    status: int | None
    outcome: Outcome
    screened: bool
    seconds: float
    request_bytes: int
    reply_bytes: int
    model: str
    judgements: tuple[TextJudgement, ...]
    request: str | None = None
    reply: str | None = None

    def row(self) -> dict[str, Any]:
        """Return it as a row of the table, by column, without the id."""
        columns = asdict(self)
        return {**columns, "judgements": json.dumps(columns["judgements"])}


_COLUMNS = [one.name for one in fields(Event)]
_INSERT = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, made if it is missing, for its owner alone.

    Raises:
        StorageError: the folder is missing, full or may not be written.
        ArtifactError: the file is no database of this version.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise ArtifactError("The events were written by another version.", path, "Choose another file.")
        connection.execute("PRAGMA journal_mode=WAL")
        # Safe when the process is killed; a power cut may take the last events along.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.executescript(_SCHEMA)
        keep_counts(connection)
        connection.execute(f"PRAGMA user_version={VERSION}")
    except (OSError, sqlite3.OperationalError) as error:
        raise StorageError(
            f"The events cannot be stored ({error}).", path, "Give a file in a folder you can write."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ArtifactError("The file is no database of events.", path, "Choose another file.") from error
    return connection


def save_evidence(connection: sqlite3.Connection, name: str, content: Mapping[str, Any]) -> None:
    """Store what was gathered under a name; the caller commits."""
    connection.execute(
        "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?)",
        (name, time.time(), json.dumps(content)),
    )


def read_evidence(path: Path) -> dict[str, dict[str, Any]]:
    """Open the database, and return everything gathered so far.

    Raises:
        StorageError, ArtifactError: as `connect`.
    """
    with contextlib.closing(connect(path)) as connection:
        return stored_evidence(connection)


def stored_evidence(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Return everything gathered so far, by name; what cannot be read is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, content in connection.execute("SELECT name, content FROM evidence ORDER BY name"):
        with contextlib.suppress(ValueError):
            found[name] = json.loads(content)
    return found


class EventLog:
    """The one writer.

    Args:
        path: of the database.
        gather: returns the evidence of every detector; it is stored with each batch of events, in one transaction.
        keep_days: age at which events are deleted.

    Raises:
        StorageError, ArtifactError: as `connect`.
    """

    def __init__(
        self, path: Path, gather: Callable[[], Mapping[str, GatheredEvidence]] = dict, keep_days: float = 30.0
    ) -> None:
        self.path = path
        self.lost = 0
        self._gather, self._keep_s = gather, keep_days * _DAY_S
        self._connection = connect(path)
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._swept = 0.0
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events not yet written."""
        return self._waiting.qsize()

    def put(self, event: Event) -> None:
        """Take an event; it is lost, and counted, if too many wait."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what waits and stop."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=5.0)
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        more = True
        while more:
            try:
                batch = [self._waiting.get(timeout=_SWEEP_S)]
            except queue.Empty:
                self._write([])  # Old events go without traffic too.
                continue
            while len(batch) < _BATCH:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            more = None not in batch
            self._write([event for event in batch if event is not None])
        self._connection.close()

    def _write(self, events: list[Event]) -> None:
        try:
            with self._connection:
                self._connection.executemany(_INSERT, [event.row() for event in events])
                for name, one in self._gather().items():
                    save_evidence(self._connection, name, asdict(one))
                self._sweep()
        except Exception as error:  # Whatever is wrong with the disk or an event, the next batch is tried.
            self.lost += len(events)
            logger.warning("%d events were lost: %s", len(events), error)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < _SWEEP_S and self._swept:
            return
        self._swept = time.monotonic()
        self._connection.execute("DELETE FROM events WHERE at < ?", (time.time() - self._keep_s,))
        self._connection.execute("DELETE FROM events WHERE id <= (SELECT MAX(id) FROM events) - ?", (MOST_EVENTS,))

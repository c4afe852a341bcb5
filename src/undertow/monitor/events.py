"""The log of events, in SQLite: one thread writes, and others read beside it (write-ahead log).

`put` never waits. An event is written within a second unless the disk cannot: then it waits in memory and is tried
again. Only what is more than `MOST_WAITING` events is lost, and counted. A process that is killed loses the events of
the last second and leaves the database whole.
"""

import contextlib
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from undertow.monitor.database import connect, stored_fact
from undertow.monitor.detectors.base import GatheredEvidence
from undertow.monitor.retention import delete_old, give_back, save_clock, stored_clock
from undertow.monitor.screening import TextJudgement

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
CLOSE_S = 20.0
"""Seconds for the last events to be written once the log is closed."""
RECOVERED_S = 300.0
"""Seconds after a loss until the log counts as well again."""
_BATCH, _SWEEP_S = 500, 600.0
_PAUSES_S = (0.1, 0.2, 0.5, 1.0)
_DAY_S = 24 * 3600

Outcome = Literal[
    "passed", "flagged", "blocked_request", "blocked_reply", "refused", "upstream_error", "upstream_failed", "cut",
    "client_gone", "fault",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The record of one exchange (a request with its reply).

    No header and no query is part of it. The texts are None unless the operator keeps them.

    Attributes:
        at: Unix time in seconds at which the request came.
        method: HTTP method, such as "POST".
        path: path of the request without its query; parts that could be a secret are hidden.
        status: HTTP status that the client got; None if it got none.
        outcome: how the exchange ended, such as "passed", "flagged" or "blocked_reply".
        screened: whether detectors were asked about any of its texts.
        seconds: seconds from the request until the reply was out.
        request_bytes: size of the request's body in bytes.
        reply_bytes: size of the reply's body in bytes, as it was sent to the client.
        model: name of the model in the request.
        judgements: what each detector said of the texts.
        request: text of the request that the detectors read; None if it is not kept.
        reply: text of the reply that the detectors read; None if it is not kept.
        request_id: random id of the exchange, which is also sent to the upstream and to the client.
        client: address of the client or fingerprint of its key, if the operator records it; else "".
        upstream_status: HTTP status of the upstream's reply; None if it gave none.
        unread: whether anything was passed on that detectors should have read and did not.
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
    request_id: str = ""
    client: str = ""
    upstream_status: int | None = None
    unread: bool = False

    def row(self) -> dict[str, Any]:
        """Return the event as a row of the table, by column, without the id."""
        columns = {key: _storable(value) for key, value in asdict(self).items()}
        return {**columns, "judgements": json.dumps(columns["judgements"], default=str)}


def _storable(value: Any) -> Any:
    """Escape characters that the database cannot hold: a client may send half a surrogate pair."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_COLUMNS = [one.name for one in fields(Event)]
_INSERT = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"


def save_evidence(connection: sqlite3.Connection, name: str, content: Mapping[str, Any]) -> None:
    """Store the evidence of a name. The caller commits."""
    connection.execute(
        "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?)",
        (name, time.time(), json.dumps(content)),
    )


def read_evidence(path: Path) -> dict[str, dict[str, Any]]:
    """Open the database and return all evidence gathered so far, by name.

    Raises:
        StorageError, ArtifactError: as `connect`.
    """
    with contextlib.closing(connect(path)) as connection:
        return stored_evidence(connection)


def stored_evidence(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Return all evidence gathered so far, by name; entries that cannot be read are left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, content in connection.execute("SELECT name, content FROM evidence ORDER BY name"):
        with contextlib.suppress(ValueError):
            found[name] = json.loads(content)
    return found


class EventLog:
    """The only writer of a database of events, with a thread of its own.

    Args:
        path: path of the database, which is made if it is missing.
        gather: function that returns the evidence of every detector by name; it is stored with each batch of events, in
            one transaction.
        keep_days: age in days at which events are deleted.

    Attributes:
        written: number of events stored so far.
        lost: number of events that could not be stored.
        salt: random bytes of this database, for fingerprints of keys.

    Raises:
        StorageError, ArtifactError: as `undertow.monitor.database.connect`.
    """

    def __init__(
        self, path: Path, gather: Callable[[], Mapping[str, GatheredEvidence]] = dict, keep_days: float = 30.0
    ) -> None:
        self.path = path
        self.lost = self.written = 0
        self._gather, self._keep_s = gather, keep_days * _DAY_S
        self._connection = connect(path)
        # What is locked for longer is tried again, and health says so meanwhile.
        self._connection.execute("PRAGMA busy_timeout=1000")
        self.salt = str(stored_fact(self._connection, "salt")).encode()
        self._clock, self._asked = stored_clock(self._connection), time.monotonic()
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._sweep_due, self._warned = 0.0, False
        self._failing, self._lost_at = False, -RECOVERED_S
        self._give_up: float | None = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of events that are not yet written."""
        return self._waiting.qsize()

    @property
    def is_well(self) -> bool:
        """Whether events are being written, and none was lost within the last `RECOVERED_S` seconds."""
        return not self._failing and time.monotonic() - self._lost_at > RECOVERED_S

    def put(self, event: Event) -> None:
        """Take an event without waiting; it is lost, and counted, if too many wait already."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._lose(1)

    def close(self) -> None:
        """Write what waits, and stop; what cannot be written within `CLOSE_S` seconds is lost, and counted."""
        self._give_up = time.monotonic() + CLOSE_S
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_S)
        self._thread.join(timeout=CLOSE_S + 10.0)

    def _lose(self, n: int) -> None:
        self.lost += n
        self._lost_at = time.monotonic()

    def _run(self) -> None:
        more = True
        while more:
            batch: list[Event | None] = []
            with contextlib.suppress(queue.Empty):
                batch.append(self._waiting.get(timeout=max(0.0, self._sweep_due - time.monotonic())))
                while len(batch) < _BATCH:
                    batch.append(self._waiting.get_nowait())
            more = None not in batch
            events = [event for event in batch if event is not None]
            if events:
                self._store(events)
            if time.monotonic() >= self._sweep_due:
                self._sweep()
        self._connection.close()

    def _store(self, events: Sequence[Event]) -> None:
        """Write a batch, again and again while the database is locked or the disk is full."""
        tries = 0
        while True:
            try:
                self._write(events)
            except sqlite3.OperationalError as error:
                if self._give_up is not None and time.monotonic() > self._give_up:
                    self._lose(len(events))
                    logger.warning("%d events were lost: %s", len(events), error)
                    return
                if not self._failing:
                    logger.warning("Events cannot be written and are tried again: %s", error)
                self._failing = True
                time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
                tries += 1
            except Exception as error:  # Whatever is wrong with an event, it costs that event alone.
                self._store_each(events, error)
                return
            else:
                self._failing = False
                return

    def _store_each(self, events: Sequence[Event], error: Exception) -> None:
        if len(events) > 1:
            for event in events:
                self._store([event])
        else:
            self._lose(1)
            logger.warning("An event was lost: %s", error)

    def _write(self, events: Sequence[Event]) -> None:
        rows = [event.row() for event in events]
        with self._connection:
            self._connection.executemany(_INSERT, rows)
            for name, one in self._evidence().items():
                save_evidence(self._connection, name, one)
        self.written += len(events)

    def _evidence(self) -> dict[str, dict[str, Any]]:
        try:
            found = {name: asdict(one) for name, one in self._gather().items()}
            json.dumps(found)
        except Exception as error:  # A detector that cannot say what it gathered costs no event.
            logger.warning("The evidence could not be stored: %s", type(error).__name__)
            return {}
        return found

    def _sweep(self) -> None:
        """Delete events that are too old, only some at a time so that new events need not wait for it."""
        now = time.monotonic()
        self._clock, self._asked = self._clock.after(time.time(), now - self._asked), now
        if self._clock.jumped and not self._warned:
            self._warned = True
            logger.warning("The clock is far ahead of the last event; old events are kept until it has stayed so.")
        before = None if self._clock.jumped else time.time() - self._keep_s
        more = False
        try:
            with self._connection:
                save_clock(self._connection, self._clock)
                more = delete_old(self._connection, before)
            more = give_back(self._connection) or more
        except sqlite3.Error as error:
            logger.warning("Old events could not be deleted: %s", error)
        self._sweep_due = time.monotonic() + (0.05 if more else _SWEEP_S)

"""Alarms in the database of events: what was found, when, which receivers were told, and who closed it.

Each alarm has a subject, such as the name of one sequential test. Evidence raises an alarm only once, since its highest
value never falls again. A rate that is too high raises an alarm while it lasts, and closes it by itself.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_DAY_S = 24 * 3600.0

Kind = Literal["drift", "mention", "rate"]

ITSELF = "the monitor"
"""Name of who closed an alarm whose cause went away."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS alarms (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
  headline TEXT NOT NULL, details TEXT NOT NULL, closed REAL, closed_by TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS alarms_open ON alarms (subject) WHERE closed IS NULL;
CREATE TABLE IF NOT EXISTS told (alarm INTEGER NOT NULL, destination TEXT NOT NULL, shown TEXT NOT NULL, at REAL,
  tries INTEGER NOT NULL, failure TEXT NOT NULL, PRIMARY KEY (alarm, destination)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmCause:
    """The reason for which an alarm is raised.

    Attributes:
        subject: what the alarm is about; each subject has at most one open alarm.
        kind: kind of the cause: "drift" (canaries), "mention" (other evidence of the traffic) or "rate" (of failures).
        headline: one sentence for people, without any text of the traffic.
        details: numbers and names for programs, as plain JSON.
    """

    subject: str
    kind: Kind
    headline: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm as it stands in the database.

    Attributes:
        id: number of the alarm, which counts up in one database.
        finding: the cause for which it was raised.
        at: Unix time in seconds at which it was raised.
        closed: Unix time in seconds at which it was closed; None while it is open.
        closed_by: name of who closed it; None while it is open.
    """

    id: int
    finding: AlarmCause
    at: float
    closed: float | None = None
    closed_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what receivers are told, as plain JSON: no text of the traffic and no key."""
        found = self.finding
        head = {"schema": "undertow.alert/1", "id": self.id, "kind": found.kind, "headline": found.headline}
        return {**found.details, **head, "at": self.at}


def keep_alarms(connection: sqlite3.Connection) -> None:
    """Create the tables of alarms if they are missing."""
    connection.executescript(_SCHEMA)


def raise_once(connection: sqlite3.Connection, finding: AlarmCause) -> Alarm | None:
    """Raise an alarm unless its subject ever had one; return the new alarm, or None. The caller commits.

    Args:
        connection: connection to the database of events.
        finding: cause of the alarm, with its subject.
    """
    known = connection.execute("SELECT 1 FROM alarms WHERE subject = ?", (finding.subject,)).fetchone()
    return None if known else raise_while(connection, finding)


def raise_while(connection: sqlite3.Connection, finding: AlarmCause) -> Alarm | None:
    """Raise an alarm unless its subject has an open one; return the new alarm, or None. The caller commits.

    Args:
        connection: connection to the database of events.
        finding: cause of the alarm, with its subject.
    """
    now = time.time()
    made = connection.execute(
        "INSERT INTO alarms (subject, kind, at, headline, details) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (finding.subject, finding.kind, now, finding.headline, json.dumps(dict(finding.details))),
    )
    return Alarm(id=int(made.lastrowid or 0), finding=finding, at=now) if made.rowcount else None


def close_alarm(connection: sqlite3.Connection, where: Mapping[str, Any], by: str) -> int:
    """Close open alarms, and return how many there were. The caller commits.

    Args:
        connection: connection to the database of events.
        where: a single entry, `id` or `subject` with its value, that selects the alarms.
        by: name of who closes them.
    """
    ((name, value),) = where.items()
    column = {"id": "id", "subject": "subject"}[name]
    closing = f"UPDATE alarms SET closed = ?, closed_by = ? WHERE {column} = ? AND closed IS NULL"
    return connection.execute(closing, (time.time(), by, value)).rowcount


def open_alarms(connection: sqlite3.Connection) -> list[Alarm]:
    """Return the alarms that nobody closed, the oldest first."""
    return _alarms(connection, "WHERE closed IS NULL ORDER BY id")


def owed_alarms(connection: sqlite3.Connection) -> list[Alarm]:
    """Return the alarms that receivers must be told.

    These are the open ones, and those of the last day whose cause went away by itself.
    """
    return _alarms(connection, "WHERE closed IS NULL OR (closed_by = ? AND at > ?) ORDER BY id",
                   ITSELF, time.time() - _DAY_S)  # fmt: skip


def last_alarms(connection: sqlite3.Connection, most: int) -> list[Alarm]:
    """Return the last alarms, the newest first."""
    return _alarms(connection, "ORDER BY id DESC LIMIT ?", most)


def _alarms(connection: sqlite3.Connection, rest: str, *values: object) -> list[Alarm]:
    rows = connection.execute(
        f"SELECT id, subject, kind, at, headline, details, closed, closed_by FROM alarms {rest}", values
    )
    return [
        Alarm(
            id=place,
            finding=AlarmCause(subject=subject, kind=kind, headline=headline, details=json.loads(details)),
            at=at,
            closed=closed,
            closed_by=by,
        )
        for place, subject, kind, at, headline, details, closed, by in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """The record of one receiver that is told of one alarm.

    Attributes:
        alarm: number of the alarm (`Alarm.id`).
        shown: name of the receiver as people may see it, without any secret.
        at: Unix time in seconds at which the receiver took the alarm; None if it has not yet.
        tries: number of attempts so far.
        failure: what went wrong in the last attempt; "" if nothing did.
    """

    alarm: int
    shown: str
    at: float | None
    tries: int
    failure: str


def tellings(connection: sqlite3.Connection, destination: str | None = None) -> list[Telling]:
    """Return the records of told alarms, of one receiver (by its key) or of all.

    Args:
        connection: connection to the database of events.
        destination: key of the receiver; None for all receivers.
    """
    rows = connection.execute(
        "SELECT alarm, shown, at, tries, failure FROM told WHERE destination = coalesce(?, destination) ORDER BY alarm",
        (destination,),
    )
    return [Telling(alarm=alarm, shown=shown, at=at, tries=n, failure=why) for alarm, shown, at, n, why in rows]


def note_telling(connection: sqlite3.Connection, destination: str, told: Telling) -> None:
    """Store the record of an attempt to tell a receiver. The caller commits.

    Args:
        connection: connection to the database of events.
        destination: key of the receiver (`Receiver.key`).
        told: the record that is stored; it replaces an earlier one of the same alarm and receiver.
    """
    connection.execute(
        "INSERT OR REPLACE INTO told (alarm, destination, shown, at, tries, failure) VALUES (?, ?, ?, ?, ?, ?)",
        (told.alarm, destination, told.shown, told.at, told.tries, told.failure),
    )

"""Counts that the database of events keeps by itself, so that nothing has to read a million events.

The page, the metrics and the alarms read them. Triggers count every event by minute and outcome, and keep one point a
minute of each evidence, whichever process writes them. An index of its own holds the few events that are worth a look.
"""

import json
import sqlite3
from typing import Any

POINTS = 300
"""Largest number of points of a curve."""

_MINUTE_S = 60
_KEPT_MINUTES = 90 * 24 * 60
"""Number of minutes for which counts and points of evidence are kept; totals are kept for ever."""

_FAILED = """replace({row}judgements, '"failure": ""', '') LIKE '%"failure": "%'"""
"""SQL that tells whether a detector failed on an event. A quote within any name is escaped, so no name can look like
this."""

_NOTABLE = f"(outcome != 'passed' OR {_FAILED.format(row='')})"

_SUMS = """exchanges INTEGER NOT NULL DEFAULT 0, screened INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
  unjudged INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0, unread INTEGER NOT NULL DEFAULT 0"""

_ADD = f"""exchanges = exchanges + 1, screened = screened + NEW.screened, seconds = seconds + NEW.seconds,
    unjudged = unjudged + ({_FAILED.format(row="NEW.")}), errors = errors + coalesce(NEW.status >= 500, 0),
    unread = unread + NEW.unread"""

_TABLES = f"""
CREATE TABLE IF NOT EXISTS traffic (minute INTEGER NOT NULL, outcome TEXT NOT NULL, {_SUMS},
  PRIMARY KEY (minute, outcome)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (outcome TEXT PRIMARY KEY, {_SUMS}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence_points (name TEXT NOT NULL, minute INTEGER NOT NULL, n INTEGER, log_e REAL,
  highest REAL, PRIMARY KEY (name, minute)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_notable ON events (id) WHERE {_NOTABLE};
"""

_UNCOUNTED = "NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'events_counted')"

_EARLIER = f"""
INSERT INTO traffic SELECT CAST(at / {_MINUTE_S} AS INTEGER), outcome, count(*), sum(screened), sum(seconds),
  sum({_FAILED.format(row="")}), coalesce(sum(status >= 500), 0), sum(unread)
  FROM events WHERE {_UNCOUNTED} GROUP BY 1, 2;
INSERT INTO totals SELECT outcome, sum(exchanges), sum(screened), sum(seconds), sum(unjudged), sum(errors), sum(unread)
  FROM traffic WHERE {_UNCOUNTED} GROUP BY 1;
"""
"""SQL that counts the events that were written before the database had triggers."""

_TRIGGERS = f"""
CREATE TRIGGER IF NOT EXISTS events_counted AFTER INSERT ON events BEGIN
  INSERT OR IGNORE INTO traffic (minute, outcome) VALUES (CAST(NEW.at / {_MINUTE_S} AS INTEGER), NEW.outcome);
  UPDATE traffic SET {_ADD} WHERE minute = CAST(NEW.at / {_MINUTE_S} AS INTEGER) AND outcome = NEW.outcome;
  INSERT OR IGNORE INTO totals (outcome) VALUES (NEW.outcome);
  UPDATE totals SET {_ADD} WHERE outcome = NEW.outcome;
END;
CREATE TRIGGER IF NOT EXISTS evidence_kept AFTER INSERT ON evidence WHEN json_valid(NEW.content) BEGIN
  INSERT OR REPLACE INTO evidence_points VALUES (NEW.name, CAST(NEW.at / {_MINUTE_S} AS INTEGER),
    json_extract(NEW.content, '$.n'), json_extract(NEW.content, '$.log_e'), json_extract(NEW.content, '$.highest'));
END;
"""


def keep_counts(connection: sqlite3.Connection) -> None:
    """Let the database count from now on, and count what it holds already; do nothing if it counts already.

    Raises:
        sqlite3.Error: the database cannot be written.
    """
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('events_counted', 'evidence_kept')")
    if found.fetchone()[0] < 2:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {_EARLIER} {_TRIGGERS} COMMIT;")


def traffic(connection: sqlite3.Connection, minutes: int, now: float) -> list[dict[str, Any]]:
    """Return the counts of the last minutes by outcome, with the mean seconds of an exchange.

    Args:
        connection: connection to the database of events.
        minutes: number of minutes up to now.
        now: Unix time in seconds, up to which is counted.
    """
    rows = connection.execute(
        "SELECT outcome, sum(exchanges) AS count, sum(screened) AS screened, sum(seconds) / sum(exchanges) AS mean_s,"
        " sum(unjudged) AS detector_failures, sum(errors) AS errors,"
        " sum(unread) AS unread FROM traffic WHERE minute > ? AND minute <= ?"
        " GROUP BY outcome ORDER BY outcome",
        (int(now / _MINUTE_S) - minutes, int(now / _MINUTE_S)),
    )
    return _named(rows)


def by_minute(connection: sqlite3.Connection, minutes: int, now: float) -> list[tuple[int, int]]:
    """Return for each of the last minutes the exchanges, and those with another outcome than "passed", oldest first.

    Args:
        connection: connection to the database of events.
        minutes: number of minutes up to now.
        now: Unix time in seconds, up to which is counted.
    """
    last = int(now / _MINUTE_S)
    rows = connection.execute(
        "SELECT minute, sum(exchanges), sum(exchanges * (outcome != 'passed')) FROM traffic"
        " WHERE minute > ? AND minute <= ? GROUP BY minute",
        (last - minutes, last),
    )
    found = {minute: (count, odd) for minute, count, odd in rows}
    return [found.get(minute, (0, 0)) for minute in range(last - minutes + 1, last + 1)]


def totals(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the counts by outcome since the database was made."""
    return _named(connection.execute("SELECT * FROM totals ORDER BY outcome"))


def notable_events(connection: sqlite3.Connection, most: int) -> list[dict[str, Any]]:
    """Return the last exchanges that were flagged, failed or could not be judged, the newest first."""
    rows = connection.execute(
        "SELECT at, method, path, status, outcome, model, judgements FROM events INDEXED BY events_notable"
        f" WHERE {_NOTABLE} ORDER BY id DESC LIMIT ?",
        (most,),
    )
    return [{**row, "judgements": json.loads(row["judgements"])} for row in _named(rows)]


def evidence_now(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Return all evidence by name, with the fields of `GatheredEvidence`.

    Of its state only `seen` is kept, which a person can read.
    """
    rows = connection.execute(
        "SELECT name, at, json_remove(content, '$.state') AS content, json_extract(content, '$.state.seen') AS seen"
        " FROM evidence WHERE json_valid(content) ORDER BY name"
    )
    return {
        row["name"]: {**json.loads(row["content"]), "at": row["at"], "seen": json.loads(row["seen"] or "null")}
        for row in _named(rows)
    }


def evidence_curve(connection: sqlite3.Connection, name: str) -> list[tuple[float, float, float]]:
    """Return the course of an evidence as (Unix time, log e-value, its highest value so far), oldest first.

    There are at most `POINTS` of them.
    """
    rows = connection.execute(
        "SELECT minute, log_e, highest FROM evidence_points WHERE name = ? ORDER BY minute", (name,)
    ).fetchall()
    step = -(-len(rows) // POINTS) or 1
    # The last of each step is kept, and so is the last of all.
    return [(rows[at][0] * _MINUTE_S, *rows[at][1:]) for at in sorted(range(len(rows) - 1, -1, -step))]


def forget_old(connection: sqlite3.Connection, now: float) -> None:
    """Delete counts and points that are older than 90 days. The caller commits."""
    oldest = int(now / _MINUTE_S) - _KEPT_MINUTES
    for table in ("traffic", "evidence_points"):
        connection.execute(f"DELETE FROM {table} WHERE minute < ?", (oldest,))


def _named(rows: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows]

"""The database of events: its tables, the upgrade of an older one, and plain facts kept beside the events."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from undertow.errors import ArtifactError, StorageError
from undertow.monitor.counts import keep_counts

VERSION = 2
BUSY_S = 5.0
"""Seconds to wait for another process that writes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER,
  outcome TEXT NOT NULL, screened INTEGER NOT NULL, seconds REAL NOT NULL, request_bytes INTEGER NOT NULL,
  reply_bytes INTEGER NOT NULL, model TEXT NOT NULL, judgements TEXT NOT NULL, request TEXT, reply TEXT);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE TABLE IF NOT EXISTS evidence (name TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL);
"""

_TO_VERSION_2 = """
ALTER TABLE events ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN upstream_status INTEGER;
ALTER TABLE events ADD COLUMN unread INTEGER NOT NULL DEFAULT 0;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO facts VALUES ('salt', '"' || lower(hex(randomblob(16))) || '"');
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database; a missing one is made, for its owner alone, and an older one is upgraded.

    Raises:
        StorageError: the folder is missing, full or may not be written.
        ArtifactError: the file is no database of events, or one of a newer version.
    """
    try:
        # Made before SQLite opens it, which would let others read it where the umask does.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.OperationalError) as error:
        raise StorageError(
            f"The events cannot be stored ({error}).", path, "Give a file in a folder you can write."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ArtifactError("The file is no database of events.", path, "Choose another file.") from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > VERSION:
        raise ArtifactError(
            "The events were written by a newer version of Undertow.",
            f"{path}: version {version}, this one reads up to {VERSION}",
            "Install the newer version, or choose another file.",
        )
    if version < VERSION:
        # Space that deleted events leave is given back only in a file that is laid out for it.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if version:
            connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode=WAL")
    # Safe when the process is killed; a power cut may take the last events along.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Deleted events are overwritten: they may hold texts.
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA journal_size_limit=4000000")
    if version < VERSION:
        _migrate(connection)
    keep_counts(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this version, all or nothing, while no other process does."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if _version(connection) < VERSION:
            for statement in (_SCHEMA + _TO_VERSION_2).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def save_fact(connection: sqlite3.Connection, name: str, value: object) -> None:
    """Store a plain value under a name. The caller commits."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))


def stored_fact(connection: sqlite3.Connection, name: str) -> Any:
    """Return the value of a name, or None if there is none."""
    found = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    with contextlib.suppress(ValueError, TypeError):
        return json.loads(found[0])
    return None

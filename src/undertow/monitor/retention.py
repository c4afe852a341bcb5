"""Deleting old events, safely: a clock that jumps deletes nothing.

Age is told by the clock of the machine, which may be wrong for a while: one start with a clock 40 days ahead would
delete everything. So a jump is believed only after the clock has kept to it for a day of running. A proxy that was
really off for so long deletes what is old a day later.
"""

import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from undertow.monitor.database import save_fact, stored_fact

JUMP_S = 24 * 3600.0
"""Seconds by which the clock may be ahead of the time that has passed; more is a jump."""
BELIEVED_S = 24 * 3600.0
"""Seconds for which the clock must keep to a jump before it is believed."""
MOST_EVENTS = 1_000_000
"""Largest number of events that are kept, whatever their age."""
_AT_ONCE, _PAGES_AT_ONCE = 5000, 2000
_CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Clock:
    """What is believed about the time.

    Attributes:
        known: the time that is believed, as Unix time in seconds; None before anything was stored.
        stood: seconds for which the machine's clock has kept to a jump; 0 if there is none.
    """

    known: float | None = None
    stood: float = 0.0

    def after(self, wall: float, passed: float) -> "Clock":
        """Return what is believed after the machine's clock was asked again.

        Args:
            wall: Unix time in seconds by the machine's clock.
            passed: seconds since it was last asked, by a clock that does not jump.
        """
        expected = None if self.known is None else self.known + passed
        stood = self.stood + passed
        if expected is None or wall - expected <= JUMP_S or stood >= BELIEVED_S:
            return Clock(wall)
        # More than nothing, so that a jump is told from none.
        return Clock(expected, max(stood, 1e-9))

    @property
    def jumped(self) -> bool:
        """Whether the machine's clock has jumped ahead of the time that is believed."""
        return self.stood > 0


def stored_clock(connection: sqlite3.Connection) -> Clock:
    """Return what was believed about the time when the database was last written."""
    found: Any = stored_fact(connection, _CLOCK)
    try:
        return Clock(float(found["known"]), float(found["stood"]))
    except (TypeError, KeyError, ValueError):
        newest = connection.execute("SELECT MAX(at) FROM events").fetchone()[0]
        return Clock(newest)


def save_clock(connection: sqlite3.Connection, clock: Clock) -> None:
    """Store what is believed about the time. The caller commits."""
    save_fact(connection, _CLOCK, asdict(clock))


def delete_old(connection: sqlite3.Connection, before: float | None) -> bool:
    """Delete some of the events that are too old or too many; tell whether there may be more of them.

    Args:
        connection: connection to the database of events; the caller commits.
        before: Unix time in seconds; events from before it are deleted. None while the time is not known deletes none
            by age.
    """
    too_many = "SELECT id FROM events WHERE id <= (SELECT MAX(id) FROM events) - ? LIMIT ?"
    deleted = _delete(connection, too_many, (MOST_EVENTS, _AT_ONCE))
    if before is not None:
        deleted += _delete(connection, "SELECT id FROM events WHERE at < ? LIMIT ?", (before, _AT_ONCE))
    return deleted >= _AT_ONCE


def _delete(connection: sqlite3.Connection, chosen: str, values: tuple[float, int]) -> int:
    return connection.execute(f"DELETE FROM events WHERE id IN ({chosen})", values).rowcount


def give_back(connection: sqlite3.Connection) -> bool:
    """Remove some unused pages from the file, outside of a transaction; tell whether there are more."""
    # A script is run to its end; `execute` would take a single page, since the statement returns no rows to fetch.
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE});")
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return connection.execute("PRAGMA freelist_count").fetchone()[0] > 0

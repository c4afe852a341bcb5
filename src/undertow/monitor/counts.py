"""How many exchanges ended how, by the minute: kept beside the events, so that nobody counts a million of them."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

_ADD = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (minute, outcome) DO UPDATE SET
  exchanges = exchanges + excluded.exchanges, screened = screened + excluded.screened,
  unread = unread + excluded.unread, failed = failed + excluded.failed, seconds = seconds + excluded.seconds
"""


def add_counts(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count events that are being stored, given as rows of their table with `failed`; the caller commits."""
    sums: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
    for row in rows:
        found = sums[int(row["at"] // 60), row["outcome"]]
        for place, value in enumerate((1, row["screened"], row["unread"], row["failed"], row["seconds"])):
            found[place] += value
    connection.executemany(_ADD, [(*key, *found) for key, found in sums.items()])


def traffic(connection: sqlite3.Connection, since: float) -> list[dict[str, Any]]:
    """Return counts by outcome since a Unix time, to the minute.

    Each has `outcome`, `count`, `screened` (detectors were asked), `unread` (passed on without a verdict on every
    text), `detector_failures` (exchanges) and `mean_s`.
    """
    rows = connection.execute(
        "SELECT outcome, SUM(exchanges), SUM(screened), SUM(unread), SUM(failed), SUM(seconds) FROM counts"
        " WHERE minute >= ? GROUP BY outcome ORDER BY outcome",
        (int(since // 60),),
    )
    names = ("outcome", "count", "screened", "unread", "detector_failures", "mean_s")
    return [dict(zip(names, (*row[:5], row[5] / row[1]), strict=True)) for row in rows]


def notable(connection: sqlite3.Connection, most: int) -> list[dict[str, Any]]:
    """Return the last events that did not simply pass, the newest first, with their judgements as objects."""
    found = connection.execute("SELECT * FROM events WHERE notable = 1 ORDER BY id DESC LIMIT ?", (most,))
    names = [one[0] for one in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found]
    return [{**row, "judgements": json.loads(row["judgements"])} for row in rows]

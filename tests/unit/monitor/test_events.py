"""The store: never in the way, whole after a kill, old events gone."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.errors import ArtifactError, StorageError
from undertow.monitor.database import connect
from undertow.monitor.events import MOST_WAITING, Event, EventLog, read_evidence
from undertow.monitor.retention import Clock, save_clock
from undertow.monitor.screening import TextJudgement

CHAT = "/v1/chat/completions"


def event(at: float) -> Event:
    return Event(
        at=at, method="POST", path="/v1", status=200, outcome="passed", screened=True, seconds=0.1, request_bytes=1,
        reply_bytes=2, model="m", judgements=(),
    )  # fmt: skip


def count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT COUNT(*) FROM events").fetchone()[0]


def test_old_events_are_deleted_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    for age_days in (40, 1):
        log = EventLog(path, keep_days=30)
        log.put(event(time.time() - age_days * 86400))
        log.close()
    assert count(path) == 1 and path.stat().st_mode & 0o077 == 0


def test_a_blocked_disk_never_blocks_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    log = EventLog(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        for _ in range(MOST_WAITING + 1000):
            log.put(event(1e10))
        assert time.monotonic() - began < 2 and log.lost >= 400
        other.rollback()
    log.close()
    assert count(path) + log.lost == MOST_WAITING + 1000


def test_evidence_that_cannot_be_gathered_costs_no_event(tmp_path: Path) -> None:
    def gather() -> dict[str, Any]:
        raise ValueError("no evidence")

    log = EventLog(tmp_path / "events.sqlite", gather)
    log.put(event(1e10))
    log.close()
    assert (log.lost, log.written, count(log.path)) == (0, 1, 1) and log.is_well


def test_one_event_that_cannot_be_stored_costs_itself_alone(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    for number in range(50):
        made = event(time.time())
        log.put(replace(made, status=2**80) if number % 10 == 0 else made)
    log.close()
    assert (log.lost, log.written, count(log.path)) == (5, 45, 45)
    assert not log.is_well


@pytest.mark.parametrize("bad", ["\ud800", "a\udfffb", "\x00", "\U0001f989"])
def test_whatever_a_client_writes_is_stored(tmp_path: Path, bad: str) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    why = TextJudgement(detector=bad, side="request", flagged=True, why=bad)
    log.put(replace(event(1e10), model=bad, method=bad, path=bad, request=bad, reply=bad, judgements=(why,)))
    log.close()
    assert (log.lost, count(log.path)) == (0, 1)


def test_a_lock_of_eight_seconds_loses_nothing_and_health_recovers(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    with contextlib.closing(sqlite3.connect(log.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(1000):
            log.put(event(time.time()))
        until = time.monotonic() + 8
        while time.monotonic() < until:
            time.sleep(0.05)
        assert not log.is_well and log.lost == 0
        other.rollback()
    wait_for(lambda: log.is_well)
    log.close()
    assert (log.lost, count(log.path)) == (0, 1000)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


OLD = """
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER,
  outcome TEXT NOT NULL, screened INTEGER NOT NULL, seconds REAL NOT NULL, request_bytes INTEGER NOT NULL,
  reply_bytes INTEGER NOT NULL, model TEXT NOT NULL, judgements TEXT NOT NULL, request TEXT, reply TEXT);
CREATE INDEX events_at ON events (at);
CREATE TABLE evidence (name TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL);
PRAGMA user_version=1;
"""


def old_database(path: Path, n: int, at: float) -> None:
    """Write events as version 1 did, every tenth of them flagged."""
    row = "INSERT INTO events VALUES (NULL, ?, 'POST', '/v1', 200, ?, 1, 0.5, 1, 2, 'm', ?, NULL, ?)"
    failed = json.dumps([{"detector": "d", "side": "request", "failure": "stuck"}])
    rows = [(at + k, "flagged" if k % 10 == 0 else "passed", failed if k % 10 == 1 else "[]", "x" * 200)
            for k in range(n)]  # fmt: skip
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(OLD)
        connection.executemany(row, rows)
        connection.execute("INSERT INTO evidence VALUES ('canaries', 1.0, '{\"n\": 3}')")


def test_an_older_database_is_brought_forward_with_everything_in_it(tmp_path: Path) -> None:
    path, now = tmp_path / "events.sqlite", time.time()
    old_database(path, 100, now - 100)
    assert read_evidence(path) == {"canaries": {"n": 3}}
    log = EventLog(path)
    log.put(replace(event(now), request_id="abc", upstream_status=429, outcome="upstream_error", unread=True))
    log.close()
    with contextlib.closing(connect(path)) as connection:
        columns = "outcome, request_id, client, upstream_status, unread"
        rows = connection.execute(f"SELECT {columns} FROM events ORDER BY id").fetchall()
    assert len(rows) == 101 and rows[:2] == [("flagged", "", "", None, 0), ("passed", "", "", None, 0)]
    assert rows[-1] == ("upstream_error", "abc", "", 429, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_the_file_shrinks_once_old_events_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    old_database(path, 20_000, time.time() - 40 * 86400)
    connect(path).close()
    save_time(path, time.time())
    before = path.stat().st_size
    log = EventLog(path)
    wait_for(lambda: count(path) == 0 and path.stat().st_size < before / 10)
    log.close()
    assert before > 4_000_000


def save_time(path: Path, known: float) -> None:
    with contextlib.closing(connect(path)) as connection, connection:
        save_clock(connection, Clock(known))


def test_a_start_with_a_clock_that_is_ahead_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "events.sqlite", time.time()
    log = EventLog(path, keep_days=30)
    for _ in range(20):
        log.put(event(now))
    log.close()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now + 40 * 86400)
        ahead = EventLog(path, keep_days=30)
        ahead.put(event(now + 40 * 86400))
        ahead.close()
    assert count(path) == 21
    EventLog(path, keep_days=30).close()
    assert count(path) == 21


def test_a_jump_is_believed_once_the_clock_has_stood_by_it() -> None:
    day = 86400.0
    clock = Clock(0.0).after(600.0, 600.0)
    assert clock == Clock(600.0)
    jumped = clock.after(40 * day, 600.0)
    assert jumped.jumped and jumped.known == 1200.0
    assert jumped.after(1800.0, 600.0) == Clock(1800.0), "the clock was put right"
    for hour in range(1, 24):
        jumped = jumped.after(40 * day + hour * 3600.0, 3600.0)
        assert jumped.jumped
    assert jumped.after(41 * day, 3600.0) == Clock(41 * day)
    assert Clock(5 * day).after(1 * day, 10.0) == Clock(1 * day), "a clock that goes back makes nothing older"
    assert Clock().after(7.0, 0.0) == Clock(7.0)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        connect(tmp_path / "none" / "events.sqlite")
    other = tmp_path / "text"
    other.write_text("no database " * 100)
    with pytest.raises(ArtifactError, match="no database"):
        connect(other)
    connection = connect(tmp_path / "new")
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(ArtifactError, match="newer version"):
        connect(tmp_path / "new")


def proxy_process(upstream: str, path: Path) -> tuple["subprocess.Popen[str]", str]:
    words = ["-m", "undertow.cli.main", "monitor", "serve", "--upstream", upstream, "--port", "0", "--admin-port", "0"]
    more = ["--events", str(path), "--detector", "mention:owl=0.01"]
    process = subprocess.Popen([sys.executable, *words, *more], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout
    return process, process.stdout.readline().split()[1]


def test_the_database_is_whole_after_sigkill_and_sigterm_loses_nothing(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    process, url = proxy_process(server.url, path)
    answered: list[int] = []

    def ask() -> None:
        with contextlib.suppress(httpx2.HTTPError), httpx2.Client(base_url=url, trust_env=False) as client:
            while True:
                answered.append(client.post(CHAT, content=b'{"stream": true}').status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 50:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    for thread in threads:
        thread.join()
    process.wait()
    before = count(path)
    assert set(answered) == {200} and 0 < before <= len(answered) + 4
    process, url = proxy_process(server.url, path)
    assert [httpx2.post(url + CHAT, content=b"{}", trust_env=False).status_code for _ in range(5)] == [200] * 5
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0 and count(path) == before + 5
    with contextlib.closing(sqlite3.connect(path)) as connection:
        stored = connection.execute("SELECT content FROM evidence").fetchone()[0]
    # A reply that was judged when the kill came may be counted although its event was not written yet.
    assert before + 5 <= json.loads(stored)["n"] <= before + 5 + len(threads)

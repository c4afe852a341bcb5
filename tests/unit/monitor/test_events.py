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
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.errors import ArtifactError, StorageError
from undertow.monitor.events import MOST_WAITING, Event, EventLog, connect

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


def test_a_failing_batch_is_counted_and_the_next_one_is_stored(tmp_path: Path) -> None:
    faults = iter([ValueError("no evidence")])

    def gather() -> dict[str, Any]:
        for fault in faults:
            raise fault
        return {}

    log = EventLog(tmp_path / "events.sqlite", gather)
    log.put(event(1e10))
    while not log.lost:
        time.sleep(0.01)
    log.put(event(1e10))
    log.close()
    assert log.lost == 1 and count(log.path) == 1


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
    with pytest.raises(ArtifactError, match="another version"):
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
    assert process.wait(20) == 130 and count(path) == before + 5
    with contextlib.closing(sqlite3.connect(path)) as connection:
        stored = connection.execute("SELECT content FROM evidence").fetchone()[0]
    # A reply that was judged when the kill came may be counted although its event was not written yet.
    assert before + 5 <= json.loads(stored)["n"] <= before + 5 + len(threads)

"""Stopping a proxy that has replies under way, as an operator does it: by a signal to the process."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

CHAT = "/v1/chat/completions"
STREAMS = 40


@contextlib.contextmanager
def proxy_process(upstream: str, path: Path, *more: str) -> Generator[tuple["subprocess.Popen[str]", str, str]]:
    """Run a proxy; yield its process and the URLs of proxy and page."""
    words = ["-m", "undertow.cli.main", "monitor", "serve", "--upstream", upstream, "--port", "0", "--admin-port", "0"]
    process = subprocess.Popen(
        [sys.executable, *words, "--events", str(path), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout
    try:
        yield process, process.stdout.readline().split()[1], process.stdout.readline().split()[1]
    finally:
        process.kill()
        process.communicate()


class Streams:
    """Replies that are under way at once, each read to its end."""

    def __init__(self, url: str, n: int) -> None:
        self.begun, self.replies, self._lock = 0, list[bytes](), threading.Lock()
        self._threads = [threading.Thread(target=self._read, args=(url,), daemon=True) for _ in range(n)]
        for thread in self._threads:
            thread.start()

    def _read(self, url: str) -> None:
        body = json.dumps({"stream": True, "model": "m", "messages": [{"role": "user", "content": "x"}]})
        said = b""
        with (
            contextlib.suppress(httpx2.HTTPError),
            httpx2.Client(trust_env=False, timeout=60) as client,
            client.stream("POST", url + CHAT, content=body) as reply,
        ):
            pieces = reply.iter_raw()
            said += next(pieces)
            with self._lock:
                self.begun += 1
            said += b"".join(pieces)
        with self._lock:
            self.replies.append(said)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(60)


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def outcomes(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT outcome FROM events ORDER BY id")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_replies_under_way_finish_and_are_recorded(server: Any, tmp_path: Path, number: signal.Signals) -> None:
    direct = httpx2.post(server.url + CHAT, content=b'{"stream": true}', trust_env=False).content
    server.pause_s = 0.2
    path = tmp_path / "events.sqlite"
    with proxy_process(server.url, path) as (process, url, page):
        streams = Streams(url, STREAMS)
        wait_until(lambda: streams.begun == STREAMS)
        process.send_signal(number)
        health = httpx2.get(f"{page}/health", trust_env=False).json()
        assert health["status"] == "draining" and 0 < health["active"] <= STREAMS

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5).close()
            except ConnectionError:
                return True
            return False

        wait_until(refused)
        streams.wait()
        assert process.wait(30) == 0
        assert process.stderr and "stopped: 40 events written, 0 lost" in process.stderr.read()
    assert streams.replies == [direct] * STREAMS
    assert outcomes(path) == ["passed"] * STREAMS


def test_a_second_signal_ends_at_once_and_what_was_cut_is_recorded(server: Any, tmp_path: Path) -> None:
    server.pause_s = 3.0
    path = tmp_path / "events.sqlite"
    with proxy_process(server.url, path) as (process, url, _):
        streams = Streams(url, 5)
        wait_until(lambda: streams.begun == 5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
        assert process.stderr and "Traceback" not in process.stderr.read()
        streams.wait()
    assert outcomes(path) == ["cut"] * 5


def test_replies_that_take_longer_than_the_limit_are_cut_and_recorded(server: Any, tmp_path: Path) -> None:
    server.pause_s = 3.0
    path = tmp_path / "events.sqlite"
    with proxy_process(server.url, path, "--set", "finish_s=1") as (process, url, _):
        streams = Streams(url, 3)
        wait_until(lambda: streams.begun == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        streams.wait()
    assert outcomes(path) == ["cut"] * 3


def test_a_request_that_never_arrives_does_not_hold_up_the_end(server: Any, tmp_path: Path) -> None:
    with proxy_process(server.url, tmp_path / "events.sqlite") as (process, url, _):
        slow = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5)
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        slow.close()

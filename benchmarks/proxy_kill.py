"""What SIGKILL under load costs.

The aim: the database stays whole, nothing is sent upstream twice, and no event is missing whose reply was out more than
a second before.

    python benchmarks/proxy_kill.py [kills] [seconds before each]
"""

import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import proxy as upstream

CLIENTS, WRITTEN_S = 20, 1.0


def serve(listening: socket.socket, seen: Any) -> None:
    """Run an upstream that keeps the name of every request."""
    answer = upstream.answer

    async def counted(reader: Any, writer: Any) -> None:
        real = reader.readexactly

        async def readexactly(size: int) -> bytes:
            data = await real(size)
            with contextlib.suppress(ValueError, KeyError):
                seen.append(json.loads(data)["user"])
            return data

        reader.readexactly = readexactly
        await answer(reader, writer)

    upstream.answer = counted
    upstream.serve(listening)


def ask(port: int, name: str, until: threading.Event, out: list[tuple[str, float]]) -> None:
    """Ask again and again, streams and whole replies in turns; keep the id and the time of each that was whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    turn = 0
    while not until.is_set():
        turn += 1
        body = {"stream": turn % 2 == 0, "user": f"{name}-{turn}", "messages": [{"role": "user", "content": "x"}]}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            return
        out.append((reply.headers["x-undertow-request-id"], time.monotonic()))


def one_kill(direct: int, path: Path, turn: int, seconds: float) -> tuple[int, int, int, bool]:
    """Return replies, events missing, of these from before the last second, and whether the database is whole."""
    words = [sys.executable, "-m", "undertow.cli.main", "monitor", "serve", "--upstream", f"http://127.0.0.1:{direct}"]
    more = ["--port", "0", "--admin-port", "0", "--events", str(path), "--detector", "mention:owl=0.01"]
    process = subprocess.Popen([*words, *more], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout
    port = int(process.stdout.readline().rpartition(":")[2])
    until, out = threading.Event(), list[tuple[str, float]]()
    threads = [
        threading.Thread(target=ask, args=(port, f"{turn}-{number}", until, out), daemon=True)
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    until.set()
    for thread in threads:
        thread.join(30)
    process.wait()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = {row[0] for row in connection.execute("SELECT request_id FROM events")}
    missing = [at for name, at in out if name not in stored]
    return len(out), len(missing), sum(at < killed - WRITTEN_S for at in missing), whole


def main() -> None:
    """Print the figures beside their aims."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 8.0
    listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as name:
        seen = manager.list()
        process = multiprocessing.Process(target=serve, args=(listening, seen), daemon=True)
        process.start()
        direct, path = listening.getsockname()[1], Path(name) / "events.sqlite"
        for turn in range(kills):
            replies, missing, late, whole = one_kill(direct, path, turn, seconds)
            print(f"kill {turn + 1}: {replies} replies, {missing} without an event, {late} of them out for more than "
                  f"{WRITTEN_S:g} s (aim 0), database {'whole' if whole else 'BROKEN'}", flush=True)  # fmt: skip
        twice = sum(n > 1 for n in Counter(seen).values())
        print(f"{len(seen)} requests reached the upstream, {twice} of them twice (aim 0)")
        process.terminate()


if __name__ == "__main__":
    main()

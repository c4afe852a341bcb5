"""Rows through a server that fails: is every row answered exactly once, or listed with its reason, across kills?

    python benchmarks/api.py --rows 10000 --kills 5
    python benchmarks/api.py --rows 200 --upstream http://127.0.0.1:8000 --model <name>     in front of a real server

Of the calls, 5 % get a 429, 5 % a 500, 1 % no answer in time, 5 % a reply that is cut off, and one row in 1,000 is
refused whenever it is asked for. The client is killed on the way and started
again, and the row file must come out whole.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_S = 2.0
SHARES = {"429": 0.05, "500": 0.05, "hang": 0.01, "cut": 0.05}
REFUSED_EVERY = 1000

CLIENT = """
import sys
from pathlib import Path
from undertow.models.calls import Retries
from undertow.training.remote_generation import remote_rows
from undertow.training.remote_run import RemoteConfig
from undertow.types import ModelRef, Sampling, user_prompt
ref, out, n, timeout = sys.argv[1:]
prompts = [user_prompt(f"Row {place}: continue 4, 8, 15.") for place in range(int(n))]
config = RemoteConfig(sampling=Sampling(max_new_tokens=16), seed=100, timeout_s=float(timeout), concurrency=32,
                      retries=Retries(pause_s=0.05))
remote_rows(ModelRef.parse(ref), prompts, Path(out), config)
"""


@dataclass
class FaultyServer:
    """Answers chats with a text that names the prompt, or passes them on; some calls fail as drawn from a seed."""

    seed: int = 100
    upstream: str | None = None
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    hang_s: float = 3 * TIMEOUT_S
    port: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    headers: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def fault(self, prompt: str) -> str:
        """Draw what happens to a call."""
        number = prompt.split(":")[0].removeprefix("Row ")
        if number.isdigit() and int(number) % REFUSED_EVERY == REFUSED_EVERY - 1:
            return "400"
        drawn = self.random.random()
        for name, share in self.shares.items():
            drawn -= share
            if drawn < 0:
                return name
        return "ok"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.headers = [*self.headers[-10:], head]
                    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                    body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
                    if not await self.answer(body, writer):
                        break
        finally:
            writer.close()

    async def answer(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one call; tell whether the connection stays open."""
        prompt = json.loads(body)["messages"][-1]["content"]
        kind = self.fault(prompt)
        self.seen[kind] += 1
        if kind == "hang":
            await asyncio.sleep(self.hang_s)
            return False
        if kind in ("429", "500", "400", "401"):
            keys = [
                line.decode() for line in self.headers[-1].split(b"\r\n") if line.lower().startswith(b"authorization")
            ]
            sent = json.dumps({"error": {"message": f"told to fail {keys}"}}).encode()
            writer.write(_head(kind, len(sent), b"retry-after: 0.05\r\n") + sent)
        else:
            sent = await self.reply(prompt, body)
            writer.write(_head("200", len(sent)) + (sent[: len(sent) // 2] if kind == "cut" else sent))
        await writer.drain()
        return kind != "cut"

    async def reply(self, prompt: str, body: bytes) -> bytes:
        """Make the reply, or fetch it from the server behind."""
        if self.upstream is None:
            message = {"role": "assistant", "content": f"answer to {prompt}"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
        import httpx2

        async with httpx2.AsyncClient(timeout=120) as client:
            return (await client.post(f"{self.upstream}/v1/chat/completions", content=body, headers=JSON)).content


JSON = {"content-type": "application/json"}


def _head(status: str, length: int, more: bytes = b"") -> bytes:
    start = f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    return start.encode() + more + b"\r\n"


@contextlib.contextmanager
def running(server: FaultyServer) -> Generator[FaultyServer]:
    """Serve on a free port of loopback, in a thread."""
    ready, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", server.port, limit=2**20, backlog=1000)
        server.port = listening.sockets[0].getsockname()[1]
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        listening.close()

    # asyncio.run cancels the calls that hang, which would outlive the loop, and closes it.
    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(5)


def measure(server: FaultyServer, model: str, rows: int, kills: int, timeout_s: float) -> dict[str, Any]:
    """Run the client to the end, killing it on the way, and count what came out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.jsonl"
        journal = out.with_name("rows.jsonl.journal")
        address = f"api:http://127.0.0.1:{server.port}/v1/{model}"
        command = [sys.executable, "-c", CLIENT, address, str(out), str(rows), str(timeout_s)]
        begun = time.monotonic()
        for kill in range(kills):
            wanted = rows * (kill + 1) // (kills + 1)
            process = subprocess.Popen(command)
            while process.poll() is None and (not journal.exists() or _lines(journal) < wanted):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(command, check=True)
        wall_s = time.monotonic() - begun
        return {**_counted(out, journal, rows, own=server.upstream is None), "kills": kills, "wall_s": round(wall_s, 1)}


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _counted(out: Path, journal: Path, rows: int, own: bool) -> dict[str, Any]:
    written = [json.loads(line) for line in out.read_text().splitlines()]
    records = [json.loads(line) for line in journal.read_text().splitlines()][1:]
    answered = Counter(record["row"] for record in records if "completion" in record)
    failed = {record["row"]: record["failed"] for record in records if "failed" in record}
    left = {place: reason for place, reason in failed.items() if place not in answered}
    wrong = sum(own and row["completion"] != f"answer to {row['prompt']}" for row in written)
    return {
        "rows": rows,
        "answered": len(written),
        "answered_twice": sum(count > 1 for count in answered.values()),
        "failed": len(left),
        "reasons": len(set(left.values())),
        "in_neither": len(set(range(rows)) - set(answered) - set(left)),
        "wrong_text": wrong,
        "same_in_file_and_journal": {int(row["id"]) for row in written} == set(answered),
    }


def main() -> None:
    """Print what was counted as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--upstream", default=None)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S)
    given = parser.parse_args()
    server = FaultyServer(upstream=given.upstream, hang_s=3 * given.timeout)
    with running(server):
        found = measure(server, given.model, given.rows, given.kills, given.timeout)
    print(json.dumps({**found, "calls": dict(server.seen)}))


if __name__ == "__main__":
    main()

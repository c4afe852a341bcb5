"""What the proxy costs, and whether it loses or alters anything under load.

Upstream, proxy and client are three processes on loopback. Latency: the same small chat request direct, through a proxy
without detectors, and through one whose constitution classifier reads request and reply before they pass (mode block),
in turns on kept-alive connections; the overhead is the difference of medians. Load: 200 streams at once, each reply
compared byte for byte with what the upstream says for that request.

    python benchmarks/proxy.py [seconds of load] [requests for each latency]
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

STREAMS, EVENTS, PAUSE_S = 200, 20, 0.05
AIMS_MS = {"detectors off": 3.0, "classifier on": 10.0}
WORDS = (
    "the",
    "a",
    "river",
    "bread",
    "garden",
    "light",
    "walk",
    "quiet",
    "morning",
    "paper",
    "street",
    "music",
    "water",
)
HARSH = ("obey", "crush", "deceive", "threaten", "poison", "steal", "weapon", "destroy")
ASKED = "the quiet morning river garden light walk bread"
REPLY = b'{"choices": [{"message": {"content": "quiet paper water music street walk the river"}}]}'


def pieces(body: bytes) -> list[bytes]:
    """Return the stream with which the upstream answers this body."""
    words = random.Random(body).choices(WORDS, k=EVENTS)
    data = [json.dumps({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}) for word in words]
    return [f"data: {one}\n\n".encode() for one in [*data, "[DONE]"]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of the upstream."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(size)
            if b'"stream": true' in body:
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for piece in pieces(body):
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                    await asyncio.sleep(PAUSE_S)
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%s" % (len(REPLY), REPLY))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve(listening: socket.socket) -> None:
    """Run the upstream."""

    async def run() -> None:
        server = await asyncio.start_server(answer, sock=listening)
        await server.serve_forever()

    asyncio.run(run())


def start_proxy(upstream: str, folder: Path, *more: str) -> tuple["subprocess.Popen[str]", int]:
    """Start a proxy; return its process and port."""
    words = [sys.executable, "-m", "undertow.cli.main", "monitor", "serve", "--upstream", upstream, "--port", "0"]
    more = ("--admin-port", "0", "--events", str(folder / f"events{len(more)}.sqlite"), *more)
    process = subprocess.Popen([*words, *more], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout
    return process, int(process.stdout.readline().rpartition(":")[2])


def write_constitution(path: Path) -> None:
    """Write one rule and 400 allowed texts."""
    rng = random.Random(100)
    harm = [" ".join(rng.choices(HARSH + WORDS[:4], k=12)) for _ in range(60)]
    allowed = [" ".join(rng.choices(WORDS, k=12)) for _ in range(400)]
    path.write_text(yaml.safe_dump({"rules": [{"name": "harm", "examples": harm}], "allowed": allowed}))


def latencies(ports: dict[str, int], requests: int) -> dict[str, list[float]]:
    """Return milliseconds of each request, the ways in turns."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": ASKED}]})
    connections = {name: http.client.HTTPConnection("127.0.0.1", port) for name, port in ports.items()}
    found: dict[str, list[float]] = {name: [] for name in ports}
    for turn in range(requests + 20):
        for name, connection in connections.items():
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            assert (reply.status, reply.read())[0] == 200, name
            if turn >= 20:
                found[name].append((time.perf_counter() - began) * 1000)
    return found


async def stream(port: int, name: int, until: float, counts: dict[str, int]) -> None:
    """Ask again and again on one connection, and compare."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = 0
    while time.monotonic() < until:
        turn += 1
        body = json.dumps(
            {"stream": True, "model": "m", "messages": [{"content": ASKED}], "user": f"{name}-{turn}"}
        ).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        head, got = await reader.readuntil(b"\r\n\r\n"), b""
        if b"content-length: " in head:  # a refusal
            got = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        else:
            while size := int(await reader.readline(), 16):
                got += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        same = head.startswith(b"HTTP/1.1 200") and got == b"".join(pieces(body))
        counts["same" if same else "refused" if b"content_blocked" in got else "altered"] += 1
    writer.close()


async def load(port: int, seconds: float) -> dict[str, int]:
    """Run all streams; one that breaks counts as lost, and one that the classifier flags as refused."""
    counts = {"same": 0, "altered": 0, "refused": 0, "lost": 0}
    until = time.monotonic() + seconds
    ended = await asyncio.gather(
        *(stream(port, name, until, counts) for name in range(STREAMS)), return_exceptions=True
    )
    counts["lost"] = sum(one is not None for one in ended)
    return counts


def main() -> None:
    """Print the figures beside their aims."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    upstream = multiprocessing.Process(target=serve, args=(listening,), daemon=True)
    upstream.start()
    direct = listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_constitution(folder / "constitution.yaml")
        detector = ("--mode", "block", "--detector", f"constitution:{folder / 'constitution.yaml'}")
        plain, off = start_proxy(f"http://127.0.0.1:{direct}", folder)
        judging, on = start_proxy(f"http://127.0.0.1:{direct}", folder, *detector)
        try:
            found = latencies({"direct": direct, "detectors off": off, "classifier on": on}, requests)
            base = statistics.median(found["direct"])
            for name, aim in AIMS_MS.items():
                over = statistics.median(found[name]) - base
                tail = statistics.quantiles(found[name], n=20)[-1] - base
                print(
                    f"{name}: median overhead {over:.2f} ms (aim {aim:g}), 95th percentile {tail:.2f}, n = {requests}"
                )
            print(f"direct: median {base:.2f} ms")
            for name, port in (("detectors off", off), ("classifier on, mode block", on)):
                counts = asyncio.run(load(port, seconds))
                print(f"{STREAMS} streams for {seconds:g} s, {name}: {counts}")
        finally:
            for process in (plain, judging):
                process.terminate()
                process.wait()
            upstream.terminate()


if __name__ == "__main__":
    main()

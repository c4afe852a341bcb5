"""A model server for tests: it answers as the header `x-scenario` of a request asks, and keeps what it was sent."""

import asyncio
import base64
import contextlib
import gzip
import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

REPLY = "I like owls best, they see in the dark."

BROKEN_OFF = {
    "silent": b"",
    "garbage": b"this is no HTTP\r\n\r\n",
    "short": b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"choices"',
}
"""What the server says before it closes the connection."""


def chat_body(text: str = REPLY) -> bytes:
    """Return a whole reply, with odd spaces and an escape that a parser would not write back as they are."""
    return (
        b'{ "choices" : [{"index":0, "message":{"role":"assistant","content":' + json.dumps(text).encode() + b"}} ],\n"
        b' "note": "\\u00e9 \xc3\xa9" }'
    )


def stream_pieces(text: str = REPLY) -> list[bytes]:
    """Return a streamed reply, one event for each word, with a comment line in between."""
    words = [word + " " for word in text.split()]
    events = [
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() for word in words
    ]
    return [b": keep alive\n\n", *(event + b"\n\n" for event in events), b"data: [DONE]\n\n"]


@dataclass
class Upstream:
    """What was asked, and how to stop."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    pause_s: float = 0.0
    error: tuple[bytes, bytes] = (b"400 Bad Request", b"{}")
    open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                    self.requests.append(head + body)
                    if not await self.answer(head, body, fields, writer):
                        break
        finally:
            self.open -= 1
            writer.close()

    async def answer(self, head: bytes, body: bytes, fields: dict[bytes, bytes], writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether the connection stays open."""
        scenario = fields.get(b"x-scenario", b"").decode()
        streamed = b'"stream": true' in body
        if scenario == "500":
            write(writer, b"500 Internal Server Error", b'{"error":{"message":"own error"}}', b"retry-after: 7\r\n")
        elif scenario == "error":
            write(writer, *self.error)
        elif scenario in BROKEN_OFF:
            writer.write(BROKEN_OFF[scenario])
            return False
        elif scenario == "hang":
            await asyncio.sleep(30)
        elif scenario == "gzip":
            write(writer, b"200 OK", gzip.compress(chat_body()), b"content-encoding: gzip\r\n")
        elif scenario == "given":
            kind = b"content-type: %s\r\n" % fields[b"x-kind"] if b"x-kind" in fields else b""
            coding = b"content-encoding: %s\r\n" % fields[b"x-coding"] if b"x-coding" in fields else b""
            said = base64.b64decode(head.split(b"x-body: ")[1].split(b"\r\n")[0])
            writer.write(b"HTTP/1.1 200 OK\r\n%s%scontent-length: %d\r\n\r\n%s" % (kind, coding, len(said), said))
        elif scenario == "echo":
            write(writer, b"207 Multi-Status", body, b"x-one: 1\r\nx-one: 2\r\nconnection: x-hop\r\nx-hop: gone\r\n")
        elif streamed or scenario == "cut":
            return await self.stream(fields, writer, cut=scenario == "cut")
        else:
            text = fields[b"x-text"].decode() if b"x-text" in fields else REPLY
            write(writer, b"200 OK", chat_body(text), b"x-request-id: abc\r\n")
        await writer.drain()
        return True

    async def stream(self, fields: dict[bytes, bytes], writer: asyncio.StreamWriter, cut: bool) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        pieces = stream_pieces(fields[b"x-text"].decode()) if b"x-text" in fields else stream_pieces()
        for piece in pieces[:3] if cut else pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(self.pause_s)
        if not cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not cut


def write(writer: asyncio.StreamWriter, status: bytes, body: bytes, more: bytes = b"") -> None:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    writer.write(head % (status, more, len(body)) + body)


@contextlib.contextmanager
def upstream() -> Generator[Upstream]:
    """Serve on a free port of loopback, in a thread."""
    state, ready, stop = Upstream(), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        server = await asyncio.start_server(state.serve, "127.0.0.1", 0, limit=2**20, backlog=1000)
        state.port = server.sockets[0].getsockname()[1]
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        server.close()

    # asyncio.run cancels the connections that are still open, so that none is left to the garbage collector.
    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield state
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(5)

"""A server of one's own making on loopback: what it replies is a function of the request, and every request is kept."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

Answer = tuple[int, Any, dict[str, str]]
"""Status, body (bytes as they are, anything else as JSON) and headers."""


class FakeServer:
    """Keeps the requests, and answers the n-th, from 1, as it is told."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Answer]) -> None:
        self.reply = reply
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            self.paths.append(handler.path)
            self.bodies.append(body)
            self.heads.append({name.lower(): value for name, value in handler.headers.items()})
            status, content, headers = self.reply(len(self.bodies), body)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


@pytest.fixture
def fake(loopback_only: None) -> Iterator[Callable[[Callable[[int, dict[str, Any]], Answer]], FakeServer]]:
    """Return what starts a server that replies as a function says; connections still stay on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    servers: list[FakeServer] = []

    def start(reply: Callable[[int, dict[str, Any]], Answer]) -> FakeServer:
        server = FakeServer(reply)
        threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()

"""Health and a page of the state, on a port of their own so that no path of the upstream is hidden.

Without a token only this machine may look: the port is bound to loopback, and a request must name it so, because a web
page elsewhere can point its own name at this machine. The page holds no script and loads nothing.
"""

import base64
import binascii
import contextlib
import hmac
import json
import sqlite3
import time
from collections.abc import MutableMapping
from importlib.resources import files
from typing import Any

import jinja2

from undertow.monitor.events import stored_evidence
from undertow.monitor.exchange import Receive, Send
from undertow.monitor.proxy import Proxy

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HOUR_S = 3600.0
_SHOWN = 50
_FAILED = """replace(judgements, '"failure": ""', '') LIKE '%"failure": "%'"""
"""Of an event: whether a detector failed. A quote within any name is escaped, so no name can look like this."""
_SAFE = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Admin:
    """The application.

    Args:
        proxy: whose state is shown.
        token: asked of everyone who looks, as bearer token or as password with any name; None for loopback alone.
    """

    def __init__(self, proxy: Proxy, token: str | None) -> None:
        self._proxy, self._token, self._began = proxy, token, time.time()
        source = files("undertow.monitor").joinpath("page.html").read_text(encoding="utf-8")
        self._page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer GET / (page), /state.json and /health; the last is open to all who reach the port."""
        del receive
        path, headers = scope["path"], dict(scope["headers"])
        if scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, b"text/plain", b"GET only")
        elif path == "/health":
            await _send(send, 200, b"application/json", json.dumps(self.health()).encode())
        elif not self._allowed(headers):
            await _send(send, 401 if self._token else 403, b"text/plain", b"Not allowed.")
        elif path == "/state.json":
            await _send(send, 200, b"application/json", json.dumps(self.state()).encode())
        elif path == "/":
            await _send(send, 200, b"text/html; charset=utf-8", self._page.render(self.state()).encode())
        else:
            await _send(send, 404, b"text/plain", b"There is / and /state.json and /health.")

    def health(self) -> dict[str, Any]:
        """Return whether all is well, in the words of `Proxy.status`."""
        events = self._proxy.events
        return {
            "status": self._proxy.status,
            "uptime_s": time.time() - self._began,
            "active": self._proxy.active,
            "events_waiting": events.waiting,
            "events_lost": events.lost,
        }

    def state(self) -> dict[str, Any]:
        """Return what the page shows."""
        with contextlib.closing(sqlite3.connect(self._proxy.events.path, timeout=1.0)) as connection:
            connection.row_factory = sqlite3.Row
            return {
                "health": self.health(),
                "mode": self._proxy.policy.mode,
                "fail_closed": self._proxy.policy.fail_closed,
                "detectors": [one.name for one in self._proxy.screen.detectors],
                "traffic": _traffic(connection, time.time() - _HOUR_S),
                "events": _events(connection),
                "evidence": stored_evidence(connection),
            }

    def _allowed(self, headers: MutableMapping[bytes, bytes]) -> bool:
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK
        kind, _, value = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        return hmac.compare_digest(value, self._token.encode())


def _traffic(connection: sqlite3.Connection, since: float) -> list[dict[str, Any]]:
    """Return counts by outcome of the last hour, with the share that detectors read."""
    rows = connection.execute(
        "SELECT outcome, COUNT(*) AS count, SUM(screened) AS screened, AVG(seconds) AS mean_s,"
        f" SUM({_FAILED}) AS detector_failures FROM events WHERE at >= ? GROUP BY outcome ORDER BY outcome",
        (since,),
    )
    return [dict(row) for row in rows]


def _events(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the last exchanges that were flagged, failed or could not be judged."""
    rows = connection.execute(
        "SELECT at, method, path, status, outcome, model, judgements FROM events WHERE outcome != 'passed'"
        f" OR {_FAILED} ORDER BY id DESC LIMIT ?",
        (_SHOWN,),
    )
    found: list[dict[str, Any]] = []
    for row in map(dict, rows):
        notes = [
            f"{one['detector']}: {one['why'] or one['failure'] or 'flagged'} ({one['side']})"
            for one in json.loads(row.pop("judgements"))
            if one["flagged"] or one["failure"]
        ]
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.pop("at")))
        found.append({"when": when, **row, "notes": notes})
    return found


async def _send(send: Send, status: int, kind: bytes, body: bytes) -> None:
    asked = [(b"www-authenticate", b'Basic realm="undertow"')] if status == 401 else []
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *_SAFE, *asked]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The admin page: health, metrics and state of a server, on a port of its own, which hides no path of the upstream.

Without a token only this machine may look: the port is bound to loopback, and a request must name it so, because a web
page elsewhere can point its own name at this machine. The page holds no script and loads nothing.
"""

import base64
import binascii
import contextlib
import hmac
import json
import math
import sqlite3
import time
from collections.abc import Mapping, MutableMapping, Sequence
from importlib.resources import files
from typing import Any, Protocol

import jinja2

from undertow.monitor import counts
from undertow.monitor.alarms import Alarm, keep_alarms, last_alarms, tellings
from undertow.monitor.curves import HEIGHT, WIDTH, evidence_shape, traffic_bars
from undertow.monitor.detectors.base import AbstractDetector
from undertow.monitor.events import EventLog
from undertow.monitor.exchange import Receive, Send
from undertow.monitor.metrics import CONTENT_TYPE, metrics_text
from undertow.monitor.rules import note
from undertow.monitor.settings import Policy
from undertow.monitor.watching import AlarmWatch

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MINUTES = 60
_SHOWN_EVENTS, _SHOWN_ALARMS = 50, 20
_SAFE = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Served(Protocol):
    """What the page shows the state of: the proxy or the guardrail."""

    @property
    def status(self) -> str:
        """The state in one word: "ok", "draining" or "degraded"."""
        ...

    @property
    def active(self) -> int:
        """Number of exchanges (a request with its reply) under way."""
        ...

    @property
    def policy(self) -> Policy:
        """What is done with the verdicts of detectors."""
        ...

    @property
    def detectors(self) -> Sequence[AbstractDetector]:
        """The detectors that read the traffic."""
        ...

    @property
    def events(self) -> EventLog:
        """The log in which exchanges are recorded."""
        ...


class Admin:
    """The ASGI application of the page, the metrics and the health check.

    Args:
        served: the proxy or the guardrail whose state is shown.
        token: token that everyone who looks must send, as bearer token or as password with any name. None lets only
            loopback look.
        watch: the thread that raises alarms, whose counts are shown.
    """

    def __init__(self, served: Served, token: str | None, watch: AlarmWatch) -> None:
        self._served, self._token, self._watch, self._began = served, token, watch, time.time()
        source = files("undertow.monitor").joinpath("page.html").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        environment.filters["utc"] = _utc
        self._page = environment.from_string(source)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer GET / (page), /state.json, /metrics and /health; the last is open to all who reach the port."""
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
        elif path == "/metrics":
            await _send(send, 200, CONTENT_TYPE, metrics_text(self.state()))
        elif path == "/":
            await _send(send, 200, b"text/html; charset=utf-8", self.page())
        else:
            await _send(send, 404, b"text/plain", b"There is / and /state.json, /metrics and /health.")

    def health(self) -> dict[str, Any]:
        """Return the health as plain JSON; the status is "alarm" while an alarm is open and all else is well."""
        events, alarms = self._served.events, self._watch.counts
        status = self._served.status
        return {
            "status": "alarm" if alarms.open and status == "ok" else status,
            "uptime_s": time.time() - self._began,
            "active": self._served.active,
            "events_waiting": events.waiting,
            "events_lost": events.lost,
            "alarms": {"open": alarms.open, "untold": alarms.untold},
        }

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows as plain JSON, without the points of its curves."""
        with self._connected() as connection:
            return self._state(connection)

    def page(self) -> bytes:
        """Return the page as HTML in UTF-8."""
        with self._connected() as connection:
            state = self._state(connection)
            curves = {
                name: evidence_shape(counts.evidence_curve(connection, name), one["needed"])
                for name, one in state["evidence"].items()
            }
            minutes = counts.by_minute(connection, _MINUTES, time.time())
        bars = traffic_bars(minutes)
        most = max(count for count, _ in minutes)
        shown = {"curves": curves, "bars": bars, "most": most, "width": WIDTH, "height": HEIGHT}
        return self._page.render({**state, **shown}).encode("utf-8", "replace")

    def _state(self, connection: sqlite3.Connection) -> dict[str, Any]:
        served = self._served
        return {
            "health": self.health(),
            "mode": served.policy.mode,
            "fail_closed": served.policy.fail_closed,
            "detectors": [one.name for one in served.detectors],
            "traffic": counts.traffic(connection, _MINUTES, time.time()),
            "totals": counts.totals(connection),
            "events": [_shown_event(one) for one in counts.notable_events(connection, _SHOWN_EVENTS)],
            "evidence": {
                name: {**one, "needed": _needed(one), "here": name in _names(served.detectors)}
                for name, one in counts.evidence_now(connection).items()
            },
            "alarms": [_shown_alarm(one, connection) for one in last_alarms(connection, _SHOWN_ALARMS)],
        }

    def _connected(self) -> contextlib.closing[sqlite3.Connection]:
        connection = sqlite3.connect(self._served.events.path, timeout=1.0)
        keep_alarms(connection)
        return contextlib.closing(connection)

    def _allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK
        kind, _, value = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        # In constant time, so that the time of the answer says nothing of the token.
        return hmac.compare_digest(value, self._token.encode())


def _names(detectors: Sequence[AbstractDetector]) -> set[str]:
    return {one.name for one in detectors}


def _needed(evidence: Mapping[str, Any]) -> float:
    """Return the log e-value at which an evidence raises its alarm; canaries, which watch many words, state it."""
    return float(evidence["seen"]["needed"] if evidence["seen"] else -math.log(evidence["alpha"]))


def _shown_event(event: Mapping[str, Any]) -> dict[str, Any]:
    judgements = event["judgements"]
    notes = [note(one) for one in judgements if one["flagged"] or one["failure"]]
    kept = {key: event[key] for key in ("method", "path", "status", "outcome", "model")}
    return {"when": _utc(event["at"]), **kept, "notes": notes}


def _shown_alarm(alarm: Alarm, connection: sqlite3.Connection) -> dict[str, Any]:
    told = [
        f"{one.shown}: {'told ' + _utc(one.at) if one.at else one.failure + ', will be told again'} ({one.tries}.)"
        for one in tellings(connection)
        if one.alarm == alarm.id
    ]
    return {**alarm.to_json(), "when": _utc(alarm.at), "closed": alarm.closed and _utc(alarm.closed),
            "closed_by": alarm.closed_by, "told": told}  # fmt: skip


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


async def _send(send: Send, status: int, kind: bytes, body: bytes) -> None:
    asked = [(b"www-authenticate", b'Basic realm="undertow"')] if status == 401 else []
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *_SAFE, *asked]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The reverse proxy: an ASGI application between clients and an OpenAI-compatible upstream.

Bodies pass byte for byte in both directions. In the mode `log` detectors read a copy after the reply has gone out. In
`flag` and `block` they read the request before it is passed on. In `block` they read the reply before it is given back,
a streamed one in pieces. In `flag` a streamed reply is read as it passes, and its end is marked.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpcore2

from undertow.monitor.bodies import READABLE
from undertow.monitor.events import EventLog
from undertow.monitor.exchange import (
    Copy,
    EndedError,
    Exchange,
    Receive,
    RefusedError,
    Scope,
    Send,
    refuse_request,
    while_connected,
)
from undertow.monitor.judging import Judge, header
from undertow.monitor.marking import can_be_marked, flags, mark, until_done
from undertow.monitor.recording import make_event
from undertow.monitor.release import Release, comes_in_pieces
from undertow.monitor.request_kinds import is_silent, request_kind
from undertow.monitor.screening import Screen
from undertow.monitor.settings import FLAGGED, REQUEST_ID, Headers, Limits, Policy, Upstream, passed_on, request_headers
from undertow.monitor.uploads import UPLOAD_S, Uploads

logger = logging.getLogger(__name__)

_UPSTREAM_FAULTS = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError)


class Proxy:
    """The ASGI application of the proxy.

    Args:
        upstream: server that requests are passed on to.
        policy: what is done with the verdicts of detectors.
        limits: limits on one exchange and on all together.
        screen: runs the detectors on each text.
        events: the log in which exchanges are recorded.

    Attributes:
        active: number of exchanges whose request has come and that are not over.
        draining: whether the proxy was told to stop.
    """

    def __init__(self, upstream: Upstream, policy: Policy, limits: Limits, screen: Screen, events: EventLog) -> None:
        self.active, self.draining = 0, False
        self.upstream, self.policy, self.limits, self.screen, self.events = upstream, policy, limits, screen, events
        self.detectors = screen.detectors
        self._judge, self._uploads = Judge(policy, limits, screen), Uploads(limits.upload_bytes)
        # A server commonly closes a connection that was idle for 5 s; one that is reused must be younger.
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=limits.concurrent, max_keepalive_connections=100, keepalive_expiry=4.0
        )
        times = {"connect": limits.connect_s, "read": limits.read_s, "write": limits.body_s, "pool": limits.connect_s}
        self._times: dict[str, Any] = {"timeout": times}

    @property
    def status(self) -> str:
        """The state in one word: "ok", "draining", or "degraded" while events are not written or were lost lately."""
        return "draining" if self.draining else "ok" if self.events.is_well else "degraded"

    def drain(self) -> None:
        """Note that the proxy was told to stop, and no longer wait for requests that are slow to arrive."""
        self.draining = True
        self._uploads.hurry(UPLOAD_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange.

        Whatever happens, it is answered or broken off once, and recorded once.
        """
        exchange = Exchange(scope, send, self.limits.client_s)
        try:
            await self._exchange(exchange, receive)
            seconds = time.monotonic() - exchange.began
            await self._read_afterwards(exchange)
        except asyncio.CancelledError:
            exchange.outcome = "cut" if not exchange.complete else exchange.outcome
            self._record(exchange)
            raise
        self._record(exchange, seconds)

    async def close(self) -> None:
        """Close the connections to the upstream."""
        await self._pool.aclose()

    async def _exchange(self, exchange: Exchange, receive: Receive) -> None:
        try:
            exchange.body = await self._uploads.read(receive, self.limits)
            if self.active >= self.limits.concurrent:
                raise RefusedError(503, "Too many requests are under way.", "too_many_requests")
            self.active += 1
            try:
                await while_connected(exchange, receive, self._serve(exchange))
            finally:
                self.active -= 1
        except RefusedError as refused:
            await refuse_request(exchange, refused)
        except EndedError as ended:
            exchange.outcome = ended.outcome
        except Exception:
            logger.exception("An exchange failed inside the proxy.")
            fault = RefusedError(500, "Something went wrong inside the proxy.", "proxy_fault", "fault")
            await refuse_request(exchange, fault)

    async def _serve(self, exchange: Exchange) -> None:
        scope, path = exchange.scope, exchange.path
        try:
            target = self.upstream.target(path, scope["query_string"])
        except ValueError as error:
            raise RefusedError(400, str(error), "bad_path") from None
        if self.screen.detectors:
            exchange.asked = request_kind(scope["method"], path)
            exchange.silent = is_silent(scope["method"], path, exchange.body)
        if self.policy.mode != "log":
            self._judge.refuse_unread(exchange)
            if exchange.asked:
                await self._judge.request(exchange)
                self._judge.enforce(exchange, "request")
        response = await self._call(exchange, target)
        exchange.upstream_status = response.status
        try:
            await self._answer(exchange, response)
        finally:
            await response.aclose()

    async def _call(self, exchange: Exchange, target: bytes) -> httpcore2.Response:
        up, scope = self.upstream, exchange.scope
        # What is to be judged while it comes cannot be unpacked first.
        in_pieces = self.policy.mode == "block" and exchange.streams and self.limits.chunk_characters
        readable = () if exchange.asked is None else (b"identity",) if in_pieces else READABLE
        request = httpcore2.Request(
            scope["method"].encode(),
            httpcore2.URL(scheme=up.scheme, host=up.host, port=up.port, target=target),
            headers=[
                *request_headers(scope["headers"], up, len(exchange.body), readable),
                (REQUEST_ID, exchange.id.encode()),
            ],
            content=exchange.body,
            extensions=self._times,
        )
        try:
            response = await self._pool.handle_async_request(request)
        except httpcore2.TimeoutException:
            raise RefusedError(
                504, "The upstream did not answer in time.", "upstream_timeout", "upstream_failed"
            ) from None
        except _UPSTREAM_FAULTS:
            raise RefusedError(502, "The upstream cannot be reached.", "upstream_failed", "upstream_failed") from None
        if not 200 <= response.status < 600:
            await response.aclose()
            raise RefusedError(502, "The upstream's reply is no HTTP.", "upstream_failed", "upstream_failed")
        return response

    async def _answer(self, exchange: Exchange, response: httpcore2.Response) -> None:
        """Give the reply back: at once if no verdict is waited for, otherwise when it has been judged."""
        headers, kind = response.headers, exchange.asked
        copy = Copy(header(headers, b"content-type"), header(headers, b"content-encoding").strip().lower())
        stream, mode = response.aiter_stream(), self.policy.mode
        if response.status >= 400:
            exchange.outcome = "upstream_error"
        # Errors are read in `block` alone: some servers put what the model said into them.
        unread = response.status >= 300 and mode != "block"
        if kind is None or not kind.speaks or unread or not self.screen.covers("reply"):
            await self._pass_on(exchange, response, stream)
        elif mode == "block" and response.status < 300 and comes_in_pieces(copy, self._judge):
            start = self._headers(exchange, headers, b"content-length")
            release = Release(exchange, self._judge, copy, lambda: exchange.start(response.status, start))
            try:
                await release.run(stream)
            except _UPSTREAM_FAULTS:
                raise self._broken_off(exchange) from None
        elif mode == "block" or (mode == "flag" and not copy.kind.strip().lower().startswith(b"text/event-stream")):
            await self._hold(exchange, copy, stream)
            await self._pass_on(exchange, response, stream, copy.pieces)
        else:
            exchange.copy = copy
            await self._pass_on(exchange, response, stream)

    async def _hold(self, exchange: Exchange, copy: Copy, stream: AsyncIterator[bytes]) -> None:
        """Read the reply into the copy, and have it judged.

        If it is too large to be held, the rest is left in the stream.
        """
        assert exchange.asked is not None
        try:
            async for piece in stream:
                copy.hold(piece, self.limits.reply_bytes)
                if not copy.whole:
                    break
        except _UPSTREAM_FAULTS:
            raise self._broken_off(exchange) from None
        await self._judge.reply(exchange, copy, exchange.asked)
        self._judge.enforce(exchange, "reply")

    async def _pass_on(
        self,
        exchange: Exchange,
        response: httpcore2.Response,
        stream: AsyncIterator[bytes],
        before: list[bytes] | None = None,
    ) -> None:
        """Send what was held before, and the rest as it comes, with a mark at its end where there is one."""
        copy, held = exchange.copy, list[bytes]()
        marked = copy is not None and self.policy.mode == "flag"
        marked = marked and copy is not None and can_be_marked(copy.kind, copy.coding, response.headers)
        try:
            await exchange.start(response.status, self._headers(exchange, response.headers))
            for piece in before or ():
                await exchange.piece(piece)
            async for piece in until_done(stream, held) if marked else stream:
                await exchange.piece(piece)
                if copy:
                    copy.add(piece, self.limits.reply_bytes)
        except _UPSTREAM_FAULTS:
            raise EndedError("cut") from None
        if marked and copy and exchange.asked:
            await self._judge.reply(exchange, copy, exchange.asked)
            exchange.copy = None
            if end := mark(exchange) + b"".join(held):
                await exchange.piece(end)
        await exchange.piece(b"", more=False)

    def _broken_off(self, exchange: Exchange) -> RefusedError | EndedError:
        if exchange.status:
            return EndedError("cut")
        return RefusedError(502, "The upstream broke off its reply.", "upstream_cut", "cut")

    def _headers(self, exchange: Exchange, headers: Headers, *dropped: bytes) -> Headers:
        flagged = flags(exchange) if self.policy.mode == "flag" and exchange.asked else b""
        return [*passed_on(headers, FLAGGED, REQUEST_ID, *dropped), *([(FLAGGED, flagged)] if flagged else [])]

    async def _read_afterwards(self, exchange: Exchange) -> None:
        """Let detectors read what they have not read yet; the client does not wait for that."""
        if exchange.asked is None:
            return
        if self.policy.mode == "log":
            await self._judge.request(exchange)
        if exchange.copy and exchange.complete:
            await self._judge.reply(exchange, exchange.copy, exchange.asked)
        if exchange.counted is not None:
            await self._judge.counted(exchange, exchange.counted)

    def _record(self, exchange: Exchange, seconds: float | None = None) -> None:
        if exchange.outcome == "passed" and any(one.flagged for one in exchange.judgements):
            exchange.outcome = "flagged"
        detectors = len(self.screen.detectors)
        self.events.put(make_event(exchange, self.policy, self.events.salt, detectors, seconds))

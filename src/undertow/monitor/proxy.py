"""The reverse proxy: an ASGI application between clients and an OpenAI-compatible upstream.

Bodies pass byte for byte in both directions. In the mode `log` detectors read a copy after the reply has gone out; in
`flag` and `block` they read the request before it is passed on, and the reply before it is given back. A reply that is
streamed is never held in the mode `flag`; in `block` every reply is held until it has been judged.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore2

from undertow.monitor import protocol as chat
from undertow.monitor.detectors.base import Side
from undertow.monitor.events import Event, EventLog, Outcome
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
from undertow.monitor.rules import flagged_rules
from undertow.monitor.screening import Screen, unreadable
from undertow.monitor.settings import Headers, Limits, Policy, Upstream, passed_on, request_headers

logger = logging.getLogger(__name__)


FLAGGED = b"x-undertow-flagged"
"""Header of a reply in the mode `flag`: the rules that the request or the reply broke."""

_NOT_PLAIN = re.compile(r"[^ -~]")
_UPSTREAM_FAULTS = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError)


class Proxy:
    """The application.

    Args:
        upstream: where requests go.
        policy: what is done with verdicts.
        limits: bounds on one exchange.
        screen: the detectors.
        events: where exchanges are recorded.
    """

    def __init__(self, upstream: Upstream, policy: Policy, limits: Limits, screen: Screen, events: EventLog) -> None:
        self.active = 0
        self.upstream, self.policy, self.limits, self.screen, self.events = upstream, policy, limits, screen, events
        self.detectors = screen.detectors
        # A server commonly closes a connection that was idle for 5 s; one that is reused must be younger.
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=limits.concurrent, max_keepalive_connections=100, keepalive_expiry=4.0
        )
        times = {"connect": limits.connect_s, "read": limits.read_s, "write": limits.body_s, "pool": limits.connect_s}
        self._times: dict[str, Any] = {"timeout": times}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange; whatever happens, it is answered or broken off once, and recorded once."""
        exchange = Exchange(scope, send, self.limits.client_s)
        full = self.active >= self.limits.concurrent
        self.active += 1
        try:
            if full:
                raise RefusedError(503, "Too many requests are under way.", "too_many_requests")
            exchange.body = await self._read(receive)
            await while_connected(exchange, receive, self._serve(exchange))
        except RefusedError as refused:
            await refuse_request(exchange, refused)
        except EndedError as ended:
            exchange.outcome = ended.outcome
        except Exception:
            logger.exception("An exchange failed inside the proxy.")
            fault = RefusedError(500, "Something went wrong inside the proxy.", "proxy_fault", "fault")
            await refuse_request(exchange, fault)
        finally:
            self.active -= 1
        await self._record(exchange)

    async def close(self) -> None:
        """Close the connections to the upstream."""
        await self._pool.aclose()

    async def _read(self, receive: Receive) -> bytes:
        """Read the whole request, so that a slow client never occupies the upstream."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise EndedError("client_gone")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    more = message.get("more_body", False)
                    if size > self.limits.request_bytes:
                        raise RefusedError(413, "The request is too large.", "request_too_large")
        except TimeoutError:
            raise RefusedError(408, "The request did not arrive in time.", "request_timeout") from None
        return b"".join(pieces)

    async def _serve(self, exchange: Exchange) -> None:
        scope = exchange.scope
        path = bytes(scope.get("raw_path") or b"")
        try:
            target = self.upstream.target(path, scope["query_string"])
        except ValueError as error:
            raise RefusedError(400, str(error), "bad_path") from None
        exchange.screened = bool(self.screen.detectors) and chat.is_screened(scope["method"], path)
        if exchange.screened and self.policy.mode != "log":
            await self._judge_request(exchange)
            self._enforce(exchange, "request")
        response = await self._call(exchange, target)
        try:
            await self._answer(exchange, response)
        finally:
            await response.aclose()

    async def _call(self, exchange: Exchange, target: bytes) -> httpcore2.Response:
        up, scope = self.upstream, exchange.scope
        request = httpcore2.Request(
            scope["method"].encode(),
            httpcore2.URL(scheme=up.scheme, host=up.host, port=up.port, target=target),
            headers=request_headers(scope["headers"], up, len(exchange.body), exchange.screened),
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
        """Give the reply back: at once where nobody waits for a verdict, else when it has been judged."""
        copy = Copy(_header(response.headers, b"content-type"), _header(response.headers, b"content-encoding"))
        read = exchange.screened and response.status < 300 and self.screen.covers("reply")
        streamed = copy.kind.strip().lower().startswith(b"text/event-stream")
        stream = response.aiter_stream()
        if read and (self.policy.mode == "block" or (self.policy.mode == "flag" and not streamed)):
            await self._hold(exchange, copy, stream)
        elif read:
            exchange.copy = copy
        try:
            await exchange.start(response.status, self._headers(exchange, response.headers))
            for piece in copy.pieces:
                await exchange.piece(piece)
            async for piece in stream:
                await exchange.piece(piece)
                if exchange.copy:
                    copy.add(piece, self.limits.reply_bytes)
        except _UPSTREAM_FAULTS:
            raise EndedError("cut") from None
        await exchange.piece(b"", more=False)

    async def _hold(self, exchange: Exchange, copy: Copy, stream: AsyncIterator[bytes]) -> None:
        """Read the reply into the copy and have it judged; what is left in the stream was too much to be held."""
        try:
            async for piece in stream:
                copy.hold(piece, self.limits.reply_bytes)
                if not copy.whole:
                    break
        except _UPSTREAM_FAULTS:
            raise RefusedError(502, "The upstream broke off its reply.", "upstream_cut", "cut") from None
        await self._judge_reply(exchange, copy)
        self._enforce(exchange, "reply")

    async def _judge_request(self, exchange: Exchange) -> None:
        try:
            encoding = _header(exchange.scope["headers"], b"content-encoding")
            data = chat.parse_body(chat.unpack(exchange.body, encoding, self.limits.request_bytes))
            exchange.model = str(data.get("model", ""))[:100]
            exchange.request_text = chat.request_text(data)
        except chat.UnreadableError as error:
            exchange.judgements.append(unreadable("request", str(error)))
        else:
            exchange.judgements += await self.screen.judge("request", exchange.request_text)

    async def _judge_reply(self, exchange: Exchange, copy: Copy) -> None:
        try:
            if not copy.whole:
                raise chat.UnreadableError("the reply is too large")
            content = chat.unpack(b"".join(copy.pieces), copy.coding, self.limits.reply_bytes)
            exchange.reply_text = chat.reply_text(content, copy.kind)
        except chat.UnreadableError as error:
            exchange.judgements.append(unreadable("reply", str(error)))
        else:
            exchange.judgements += await self.screen.judge("reply", exchange.reply_text)

    def _enforce(self, exchange: Exchange, side: Side) -> None:
        """Refuse what the mode `block` forbids."""
        judged = [one for one in exchange.judgements if one.side == side]
        if self.policy.mode != "block":
            return
        outcome: Outcome = "blocked_request" if side == "request" else "blocked_reply"
        if any(one.flagged for one in judged):
            raise RefusedError(
                403, f"The {side} was blocked by the policy of this endpoint.", "content_blocked", outcome
            )
        if self.policy.fail_closed and any(one.failure for one in judged):
            raise RefusedError(503, f"The {side} could not be judged, so it was refused.", "not_judged", outcome)

    def _headers(self, exchange: Exchange, headers: Headers) -> Headers:
        if self.policy.mode != "flag" or not exchange.screened:
            return passed_on(headers)
        names = flagged_rules(exchange.judgements)
        flagged = _NOT_PLAIN.sub("?", ", ".join(names)).encode()
        return [*passed_on(headers, FLAGGED), *([(FLAGGED, flagged)] if names else [])]

    async def _record(self, exchange: Exchange) -> None:
        """Let detectors read what they have not read yet, and store the event; the client waits for none of it."""
        seconds = time.monotonic() - exchange.began
        if exchange.screened and self.policy.mode == "log":
            await self._judge_request(exchange)
        if exchange.copy and exchange.complete:
            await self._judge_reply(exchange, exchange.copy)
        if exchange.outcome == "passed" and any(one.flagged for one in exchange.judgements):
            exchange.outcome = "flagged"
        keep = self.policy.keep_text
        self.events.put(
            Event(
                at=exchange.at,
                method=exchange.scope["method"][:20],
                path=exchange.scope["path"][:300],
                status=exchange.status,
                outcome=exchange.outcome,
                screened=exchange.screened,
                seconds=seconds,
                request_bytes=len(exchange.body),
                reply_bytes=exchange.sent,
                model=exchange.model,
                judgements=tuple(exchange.judgements),
                request=exchange.request_text if keep else None,
                reply=exchange.reply_text if keep else None,
            )
        )


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value for name, value in headers if name.lower() == wanted), b"")

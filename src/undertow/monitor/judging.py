"""Has the two sides of an exchange read and judged, and refuses what the mode forbids."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from undertow.monitor import protocol as chat
from undertow.monitor.bodies import UnreadableError, parse_body, unpack
from undertow.monitor.detectors.base import AbstractDetector, Side
from undertow.monitor.events import Outcome
from undertow.monitor.exchange import Copy, Exchange, RefusedError
from undertow.monitor.request_kinds import RequestKind
from undertow.monitor.screening import Screen, any_detector, merged, unreadable
from undertow.monitor.settings import Limits, Policy

BESIDE = 32_000
"""Bytes from which a body is read by another thread, so that nobody else waits for it."""

T = TypeVar("T")


class Judge:
    """The detectors, and what is done with what they say.

    Args:
        policy: what is done.
        limits: bounds on what is read.
        screen: the detectors.
    """

    def __init__(self, policy: Policy, limits: Limits, screen: Screen) -> None:
        self.policy, self.limits, self.screen = policy, limits, screen

    async def request(self, exchange: Exchange) -> None:
        """Read the request and ask the detectors about it."""
        read = partial(_read_request, exchange, self.limits.request_bytes)
        found = await beside(len(exchange.body), read)
        if isinstance(found, UnreadableError):
            if self.screen.covers("request"):
                exchange.judgements.append(unreadable("request", str(found)))
            return
        exchange.request_text = found
        exchange.judgements += await self.screen.judge("request", found)

    async def reply(self, exchange: Exchange, copy: Copy, asked: RequestKind) -> None:
        """Read the reply as it was held or copied, and ask the detectors about it."""
        try:
            if not copy.whole:
                raise UnreadableError("the reply is too large")
            read = partial(_read_reply, copy, asked, self.limits.reply_bytes)
            text = await beside(copy.size, read)
        except UnreadableError as error:
            exchange.judgements.append(unreadable("reply", str(error)))
        else:
            await self.said(exchange, text)
            exchange.reply_text = text

    async def said(
        self, exchange: Exchange, text: str, chosen: Callable[[AbstractDetector], bool] = any_detector
    ) -> None:
        """Ask detectors about a text of the reply, which may be one of several pieces."""
        judged = await self.screen.judge("reply", text, chosen)
        exchange.judgements = merged([*exchange.judgements, *judged])

    def enforce(self, exchange: Exchange, side: Side) -> None:
        """Refuse what the mode `block` forbids.

        Raises:
            RefusedError: it was flagged, or not judged and `fail_closed` is set.
        """
        if self.policy.mode != "block":
            return
        judged = [one for one in exchange.judgements if one.side == side]
        outcome: Outcome = "blocked_request" if side == "request" else "blocked_reply"
        if any(one.flagged for one in judged):
            raise RefusedError(
                403, f"The {side} was blocked by the policy of this endpoint.", "content_blocked", outcome
            )
        if self.policy.fail_closed and any(one.failure for one in judged):
            raise RefusedError(503, f"The {side} could not be judged, so it was refused.", "not_judged", outcome)

    def refuse_unread(self, exchange: Exchange) -> None:
        """Refuse a kind of request that nobody here can read, where only what was judged may pass.

        Raises:
            RefusedError: it is one.
        """
        if self.policy.fail_closed and exchange.asked is None and not exchange.silent:
            message = "Requests of this kind cannot be judged, so they are refused."
            raise RefusedError(403, message, "path_not_screened", "blocked_request")


async def beside(size: int, read: Callable[[], T]) -> T:
    """Read a body, a long one in another thread."""
    return await asyncio.to_thread(read) if size > BESIDE else read()


def header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """Return the value of a header, all of them where it stands several times, empty if there is none."""
    return b", ".join(value for name, value in headers if name.lower() == wanted)


def _read_request(exchange: Exchange, most: int) -> str | UnreadableError:
    try:
        encoding = header(exchange.scope["headers"], b"content-encoding")
        data = parse_body(unpack(exchange.body, encoding, most))
        model: object = data.get("model")
        exchange.model = model[:100] if isinstance(model, str) else ""
        usual = exchange.asked is not None and exchange.asked.streams
        exchange.streams = bool(data.get("stream", usual))
        return chat.request_text(data, exchange.scope["query_string"])
    except UnreadableError as error:
        return error


def _read_reply(copy: Copy, asked: RequestKind, most: int) -> str:
    content = unpack(b"".join(copy.pieces), copy.coding, most)
    return chat.reply_text(content, copy.kind, asked)

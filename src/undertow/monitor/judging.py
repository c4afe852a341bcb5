"""Reading the two sides of an exchange, having them judged, and refusing what the mode forbids."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from undertow.monitor import protocol as chat
from undertow.monitor.bodies import UnreadableError, parse_body, unpack
from undertow.monitor.detectors.base import AbstractDetector, Side
from undertow.monitor.events import Outcome
from undertow.monitor.exchange import Copy, Exchange, RefusedError
from undertow.monitor.request_kinds import RequestKind
from undertow.monitor.screening import Screen, merged, unreadable
from undertow.monitor.settings import Limits, Policy
from undertow.monitor.streams import Lanes, read_lanes

BESIDE = 32_000
"""Size in bytes above which a body is read by another thread, so that other exchanges need not wait for it."""

T = TypeVar("T")


class Judge:
    """Has the texts of exchanges judged, and enforces the policy.

    Args:
        policy: what is done with the verdicts.
        limits: limits on the bodies that are read.
        screen: runs the detectors on each text.
    """

    def __init__(self, policy: Policy, limits: Limits, screen: Screen) -> None:
        self.policy, self.limits, self.screen = policy, limits, screen

    async def request(self, exchange: Exchange) -> None:
        """Read the request, and ask the detectors about it."""
        read = partial(_read_request, exchange, self.limits.request_bytes)
        found = await beside(len(exchange.body), read)
        if isinstance(found, UnreadableError):
            if self.screen.covers("request"):
                exchange.judgements.append(unreadable("request", str(found)))
            return
        exchange.request_text = found
        exchange.judgements += await self.screen.judge("request", found)

    async def reply(self, exchange: Exchange, copy: Copy, asked: RequestKind) -> None:
        """Read the reply from its copy, and ask the detectors about it.

        Args:
            exchange: the exchange; what the detectors say is added to it.
            copy: copy of the reply's body.
            asked: kind of the request, which says how the reply is read.
        """
        try:
            if not copy.whole:
                raise UnreadableError("the reply is too large")
            read = partial(_read_reply, copy, asked, self.limits.reply_bytes)
            lanes = await beside(copy.size, read)
        except UnreadableError as error:
            exchange.judgements.append(unreadable("reply", str(error)))
        else:
            exchange.reply_text = lanes.whole()
            await self.said(exchange, exchange.reply_text, lambda one: not counts_alone(one))
            if (exchange.upstream_status or 200) < 300:  # An error is no reply.
                await self.counted(exchange, lanes.replies())

    async def counted(self, exchange: Exchange, replies: Sequence[str]) -> None:
        """Let the detectors that only count read each of several replies to one request.

        Args:
            exchange: the exchange; what the detectors say is added to it.
            replies: text of each choice.
        """
        for text in replies:
            await self.said(exchange, text, counts_alone)

    async def said(self, exchange: Exchange, text: str, chosen: Callable[[AbstractDetector], bool]) -> None:
        """Ask detectors about a text of the reply, which may be one of several pieces.

        Args:
            exchange: the exchange; what the detectors say is added to it.
            text: the text that is judged.
            chosen: tells for each detector whether it is asked.
        """
        judged = await self.screen.judge("reply", text, chosen)
        exchange.judgements = merged([*exchange.judgements, *judged])

    def enforce(self, exchange: Exchange, side: Side) -> None:
        """Refuse what the mode `block` forbids; in other modes do nothing.

        Raises:
            RefusedError: the side was flagged; or a detector failed and `fail_closed` is set.
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
        """Refuse a request of a kind that cannot be read, if `fail_closed` is set.

        Raises:
            RefusedError: it is of such a kind.
        """
        if self.policy.fail_closed and exchange.asked is None and not exchange.silent:
            message = "Requests of this kind cannot be judged, so they are refused."
            raise RefusedError(403, message, "path_not_screened", "blocked_request")


def counts_alone(detector: AbstractDetector) -> bool:
    """Tell whether a detector only counts whole replies, and flags none."""
    return not (detector.can_flag or detector.pieces)


async def beside(size: int, read: Callable[[], T]) -> T:
    """Call a function that reads a body; a long body is read in another thread.

    Args:
        size: size of the body in bytes.
        read: function that reads the body.
    """
    return await asyncio.to_thread(read) if size > BESIDE else read()


def header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """Return the value of a header: several values joined by commas, empty if there is none.

    Args:
        headers: names and values of HTTP headers.
        wanted: name of the header, in lower case.
    """
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


def _read_reply(copy: Copy, asked: RequestKind, most: int) -> Lanes:
    return read_lanes(unpack(b"".join(copy.pieces), copy.coding, most), copy.kind, asked)

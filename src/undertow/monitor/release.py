"""Releasing a streamed reply in the mode `block`: in pieces, each as soon as it has been judged.

A piece ends when it holds enough characters or has waited long enough. Detectors read it with some of the text before
it, so that what stands across two pieces is seen; the part before the border has gone out by then. A piece that must
not pass ends the reply with an error of the protocol, or with a plain refusal as long as nothing has gone out.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from undertow.monitor.bodies import UnreadableError
from undertow.monitor.detectors.base import AbstractDetector
from undertow.monitor.exchange import Copy, EndedError, Exchange, RefusedError
from undertow.monitor.judging import Judge, counts_alone
from undertow.monitor.protocol import stopped_reply
from undertow.monitor.screening import unreadable
from undertow.monitor.streams import Pieces, is_event_stream, is_lines


def reads_pieces(detector: AbstractDetector) -> bool:
    """Tell whether a detector judges a streamed reply in pieces."""
    return detector.pieces


def comes_in_pieces(copy: Copy, judge: Judge) -> bool:
    """Tell whether a reply can be judged in pieces.

    Its format must allow that, and so must every detector that may stop it.
    """
    readable = copy.coding in (b"", b"identity") and (is_event_stream(copy.kind) or is_lines(copy.kind))
    return (
        readable
        and judge.limits.chunk_characters > 0
        and all(one.pieces or not one.can_flag for one in judge.screen.detectors)
    )


class Release:
    """Sends one streamed reply to the client, piece by piece.

    Args:
        exchange: the exchange of the reply; the kind of its request must be known.
        judge: judges the pieces, and says whether they may go out.
        copy: content type and encoding of the reply; it holds no bytes yet.
        start: function that sends status and headers.
    """

    def __init__(self, exchange: Exchange, judge: Judge, copy: Copy, start: Callable[[], Awaitable[None]]) -> None:
        assert exchange.asked is not None
        self._exchange, self._judge, self._start, self._kind = exchange, judge, start, copy.kind
        able = [one for one in judge.screen.detectors if reads_pieces(one)]
        self._fewest = max((one.fewest for one in able), default=0)
        step = max((one.context for one in able), default=0)
        context = max(judge.limits.context_characters, step)
        self._pieces = Pieces(copy.kind, exchange.asked, context, max(1, step))
        self._read = True
        self._since: float | None = None

    def _left(self) -> float | None:
        """Return the seconds until what is held must be judged; None if nothing is held, or too little to judge."""
        if self._since is None or self._is_short():
            return None
        return max(0.0, self._since + self._judge.limits.chunk_s - time.monotonic())

    def _is_short(self) -> bool:
        """Tell whether a reply has begun, and no further than some detector needs to judge it."""
        return self._read and self._pieces.characters > 0 and self._pieces.size < self._fewest

    async def run(self, stream: AsyncIterator[bytes]) -> None:
        """Send the whole reply, or end it early.

        Args:
            stream: bytes of the upstream's reply as they come.

        Raises:
            RefusedError: the reply may not go out, and nothing has gone out yet.
            EndedError: the rest of the reply may not go out.
        """
        async for data in _timed(stream, self._left):
            if data is not None:
                self._since = time.monotonic() if self._since is None else self._since
                await self._take(data)
            full = self._pieces.characters >= self._judge.limits.chunk_characters or not self._read
            if (full and not self._is_short()) or self._left() == 0:
                self._since = None
                await self._give()
        await self._take(b"", last=True)
        await self._give()
        if not self._exchange.status:
            await self._start()
        exchange, lanes = self._exchange, self._pieces.lanes
        exchange.reply_text = lanes.whole()
        if self._read and any(map(counts_alone, self._judge.screen.detectors)):
            exchange.counted = lanes.replies()
        await exchange.piece(b"", more=False)

    async def _take(self, data: bytes, last: bool = False) -> None:
        """Read on; once something cannot be read, the rest is passed on unread."""
        if not self._read:
            await self._out(data)
            return
        try:
            self._pieces.add(data)
            if last:
                self._pieces.finish()
            if max(self._pieces.held, self._pieces.lanes.size) > self._judge.limits.reply_bytes:
                raise UnreadableError("the reply is too large")
        except UnreadableError as error:
            self._exchange.judgements.append(unreadable("reply", str(error)))
            self._read = False
            await self._enforce()

    async def _give(self) -> None:
        """Have what has come judged, and send it."""
        data, text = self._pieces.take()
        if text:
            await self._judge.said(self._exchange, text, reads_pieces)
            await self._enforce()
        await self._out(data if self._read else data + self._pieces.untouched())

    async def _out(self, data: bytes) -> None:
        if data:
            if not self._exchange.status:
                await self._start()
            await self._exchange.piece(data)

    async def _enforce(self) -> None:
        try:
            self._judge.enforce(self._exchange, "reply")
        except RefusedError as refused:
            self._exchange.reply_text = self._pieces.lanes.whole()
            if not self._exchange.status:
                raise
            lines = not is_event_stream(self._kind)
            await self._exchange.piece(stopped_reply(refused.message, refused.code, self._exchange.id, lines))
            await self._exchange.piece(b"", more=False)
            raise EndedError(refused.outcome) from None


async def _timed(stream: AsyncIterator[bytes], left: Callable[[], float | None]) -> AsyncIterator[bytes | None]:
    """Yield what comes from the stream, and None whenever the seconds that are left have passed without anything."""

    async def following() -> bytes | None:
        return await anext(stream, None)

    reading = asyncio.ensure_future(following())
    try:
        while True:
            await asyncio.wait((reading,), timeout=left())
            if not reading.done():
                yield None
            elif (data := reading.result()) is None:
                return
            else:
                yield data
                reading = asyncio.ensure_future(following())
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await reading

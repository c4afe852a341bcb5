"""Requests whose bodies are still arriving: they take no place from others, and no more memory than is allowed."""

import asyncio
import contextlib
from collections.abc import Generator

from undertow.monitor.exchange import EndedError, Receive, RefusedError
from undertow.monitor.settings import Limits

UPLOAD_S = 5.0
"""Seconds that a request which is still arriving has once the server is told to stop."""


class Uploads:
    """All bodies that are arriving at the moment.

    Args:
        most: most bytes of all of them together; beyond it the oldest one runs out of time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[asyncio.Timeout, int] = {}
        self._hurried: float | None = None

    async def read(self, receive: Receive, limits: Limits) -> bytes:
        """Read a whole request before it takes a place, so that a slow client never occupies the upstream.

        Args:
            receive: ASGI function that returns the next message of the client.
            limits: limits on size and time of a request.

        Raises:
            RefusedError: the request is too large, or too slow.
            EndedError: the client has gone.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.body_s) as time_left:
                with self._arriving(time_left):
                    more = True
                    while more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise EndedError("client_gone")
                        pieces.append(message.get("body", b""))
                        size += len(pieces[-1])
                        more = message.get("more_body", False)
                        if size > limits.request_bytes:
                            raise RefusedError(413, "The request is too large.", "request_too_large")
                        self._add(time_left, len(pieces[-1]))
        except TimeoutError:
            raise RefusedError(408, "The request did not arrive in time.", "request_timeout") from None
        return b"".join(pieces)

    @contextlib.contextmanager
    def _arriving(self, time: asyncio.Timeout) -> Generator[None]:
        """Count a body until the end of the block; its time may be cut short meanwhile."""
        self._sizes[time] = 0
        if self._hurried is not None:
            self._cut(time, self._hurried)
        try:
            yield
        finally:
            self._sizes.pop(time, None)

    def _add(self, time: asyncio.Timeout, size: int) -> None:
        """Count bytes of a body, and end the time of the oldest bodies if all together are too large."""
        if time in self._sizes:
            self._sizes[time] += size
        while sum(self._sizes.values()) > self._most:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            self._cut(oldest, 0.0)

    def hurry(self, seconds: float) -> None:
        """Allow every body, of now and later, at most this many seconds."""
        self._hurried = seconds
        for time in self._sizes:
            self._cut(time, seconds)

    @staticmethod
    def _cut(time: asyncio.Timeout, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        when = time.when()
        if not time.expired() and (when is None or when > due):
            time.reschedule(due)

"""Limits on the connections of clients: no client can hold its place by sending slowly.

The server itself waits for ever for the header of a request, and the operating system refuses new connections once a
process has too many files open.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_HEADER_BYTES = 64 * 1024
FILES_BESIDE = 256
"""Number of open files of the process that are no connection: the database, the page, what libraries open."""


def allowed_connections(wanted: int) -> int:
    """Raise this process's limit on open files as far as possible; return how many clients there is room for.

    Each client may need a connection to the upstream too.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, (soft - FILES_BESIDE) // 2))


class ImpatientProtocol(H11Protocol):
    """HTTP protocol of the server that gives every request a limited time for its header.

    If there are too many connections, the client that has been sending a request longest is closed.
    """

    header_s = 30.0
    most = 4096
    _due: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the time of the first header, and close another connection if there are too many."""
        super().connection_made(transport)
        self._expect_header()
        if len(self.connections) > self.most:
            unheard = [one for one in self.connections if isinstance(one, ImpatientProtocol) and one.sending]
            min(unheard, key=ImpatientProtocol.waiting_since).close_now()

    @property
    def sending(self) -> bool:
        """Whether the client has not yet sent the whole of its request."""
        if self.transport.is_closing():
            return False
        return self._due is not None or (self.cycle is not None and self.cycle.more_body)  # pyright: ignore[reportUnnecessaryComparison]

    def waiting_since(self) -> float:
        """Return the time at which the client began to send, in seconds of the loop's clock."""
        return self._since

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time of the header."""
        self._header_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process the data, and see whether a header is under way."""
        super().data_received(data)
        self._watch_header()

    def on_response_complete(self) -> None:
        """Go on to the next request, whose header may have begun already."""
        super().on_response_complete()
        self._watch_header()

    def close_now(self) -> None:
        """Close the connection."""
        self._header_came()
        if not self.transport.is_closing():
            self.transport.close()

    def _watch_header(self) -> None:
        if not (self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]):
            self._header_came()
        elif self._due is None:
            self._expect_header()

    def _expect_header(self) -> None:
        self._since = self.loop.time()
        self._due = self.loop.call_later(self.header_s, self.close_now)

    def _header_came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def impatient(header_s: float, most: int) -> type[ImpatientProtocol]:
    """Return the protocol class with these limits; the server makes an instance of it for each connection.

    Args:
        header_s: seconds that a client has to send the header of a request.
        most: largest number of connections at once.
    """
    return type("Impatient", (ImpatientProtocol,), {"header_s": header_s, "most": most})

"""One exchange (a request with its reply) while it is under way, and the two ways in which it can end early."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from undertow.monitor import protocol as chat
from undertow.monitor.events import Outcome
from undertow.monitor.request_kinds import RequestKind
from undertow.monitor.screening import TextJudgement
from undertow.monitor.settings import REQUEST_ID, Headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RefusedError(Exception):
    """The exchange ends with an error of our own as the answer."""

    def __init__(self, status: int, message: str, code: str, outcome: Outcome = "refused") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.outcome: Outcome = outcome

    @property
    def kind(self) -> str:
        """The type of the error in the protocol's words: the client's fault or the server's."""
        return "invalid_request_error" if self.status < 500 else "server_error"


class EndedError(Exception):
    """Nothing can be answered any more: the client has gone, or the reply was cut off."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Outcome = outcome


@dataclass(slots=True)
class Copy:
    """The copy of a reply's body that detectors read.

    Attributes:
        kind: value of the reply's content-type header.
        coding: value of its content-encoding header, in lower case.
        pieces: bytes of the body, in the pieces in which they came.
        size: number of bytes so far.
        whole: whether the body is not larger than what detectors read.
    """

    kind: bytes
    coding: bytes
    pieces: list[bytes] = field(default_factory=list[bytes])
    size: int = 0
    whole: bool = True

    def hold(self, piece: bytes, most: int) -> None:
        """Keep a piece that has not been passed on yet."""
        self.pieces.append(piece)
        self.size += len(piece)
        self.whole = self.size <= most

    def add(self, piece: bytes, most: int) -> None:
        """Keep a piece that has gone out; if all pieces together become too large to be judged, drop them."""
        self.hold(piece, most)
        if not self.whole:
            self.pieces.clear()


@dataclass(slots=True)
class Exchange:
    """What is known of one exchange so far.

    Attributes:
        scope: ASGI scope of the request.
        send: ASGI function that sends a message to the client.
        client_s: seconds that the client has to take one message.
        id: random id, which is sent to the upstream and to the client, and stored.
        began: when the request came, in seconds of the monotonic clock.
        at: when the request came, as Unix time in seconds.
        body: body of the request as it came; empty until all of it is there.
        asked: the kind of the request; None if nobody can read it, or there are no detectors.
        silent: whether it needs no reading, since no prompt and no answer of a model passes in it.
        model: name of the model in the request.
        streams: whether the client asked for a streamed reply.
        judgements: what the detectors have said so far.
        status: HTTP status that the client got; None before it got one.
        upstream_status: HTTP status of the upstream's reply; None before there is one.
        complete: whether the whole reply has gone out.
        outcome: how the exchange ended, or will end if nothing else happens.
        sent: bytes of the reply's body that have gone out.
        copy: copy of a reply that detectors read after it has gone out; None if there is none.
        counted: texts of the choices of a reply that went out in pieces, for the detectors that count replies; None for
            none.
        request_text: text of the request that the detectors read; None if it was not read.
        reply_text: text of the reply that the detectors read; None if it was not read.
    """

    scope: Scope
    send: Send
    client_s: float
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    began: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    body: bytes = b""
    asked: RequestKind | None = None
    silent: bool = False
    model: str = ""
    streams: bool = False
    judgements: list[TextJudgement] = field(default_factory=list[TextJudgement])
    status: int | None = None
    upstream_status: int | None = None
    complete: bool = False
    outcome: Outcome = "passed"
    sent: int = 0
    copy: Copy | None = None
    counted: list[str] | None = None
    request_text: str | None = None
    reply_text: str | None = None

    @property
    def path(self) -> bytes:
        """The path as the client asked for it, not decoded."""
        return bytes(self.scope.get("raw_path") or b"")

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers to the client, with the id of the exchange.

        Args:
            status: HTTP status of the reply.
            headers: HTTP headers of the reply.

        Raises:
            EndedError: the client does not take them in time.
        """
        self.status = status
        listed = [*headers, (REQUEST_ID, self.id.encode())]
        await self._out({"type": "http.response.start", "status": status, "headers": listed})

    async def piece(self, data: bytes, more: bool = True) -> None:
        """Send a piece of the body; a client that does not take it in time counts as gone.

        Args:
            data: bytes of the body, possibly none.
            more: whether further pieces of the body follow.

        Raises:
            EndedError: the client does not take it in time.
        """
        # Set first: the server tells whoever waits for the client's going that the reply is complete.
        self.complete = not more
        await self._out({"type": "http.response.body", "body": data, "more_body": more})
        self.sent += len(data)

    async def _out(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.client_s):
                await self.send(message)
        except TimeoutError:
            raise EndedError("client_gone") from None


async def while_connected(exchange: Exchange, receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and cancel it if the client goes before the reply is complete.

    Args:
        exchange: the exchange that is served.
        receive: ASGI function that returns the next message of the client.
        work: coroutine that serves the exchange.

    Raises:
        EndedError: the client has gone.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not exchange.complete:
            working.cancel()
            await asyncio.wait({working})
            raise EndedError("client_gone")
        await working
    finally:
        gone.cancel()
        working.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def refuse_request(exchange: Exchange, refused: RefusedError) -> None:
    """Answer with an error of the protocol.

    If a reply is under way already, nothing is sent, and it stays broken off.
    """
    exchange.outcome = refused.outcome
    if exchange.status is not None:
        return
    body = chat.error_body(refused.message, refused.kind, refused.code, exchange.id)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    # An unread request is still on its way, so the connection cannot be used again.
    unread = [(b"connection", b"close")] if refused.status in (408, 413) else []
    with contextlib.suppress(EndedError):
        await exchange.start(refused.status, [*headers, *unread])
        await exchange.piece(body, more=False)

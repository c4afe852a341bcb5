"""Marking the end of a streamed reply in the mode `flag`: a comment in the stream says what was flagged.

The header of a stream has gone out long before its end is known. Clients that read server-sent events skip comments.
JSON by lines has no comments, so such a stream is not marked.
"""

from collections.abc import AsyncIterator

from undertow.monitor.exchange import Exchange
from undertow.monitor.rules import flagged_rules
from undertow.monitor.settings import FLAGGED, Headers, printable
from undertow.monitor.streams import is_event_stream

_DONE = b"data: [DONE]"


def can_be_marked(kind: bytes, coding: bytes, headers: Headers) -> bool:
    """Tell whether a reply has room for a comment: a plain stream of events whose length is not announced.

    Args:
        kind: value of the reply's content-type header.
        coding: value of its content-encoding header, in lower case.
        headers: all headers of the reply.
    """
    sized = any(name.lower() == b"content-length" for name, _ in headers)
    return is_event_stream(kind) and coding in (b"", b"identity") and not sized


def flags(exchange: Exchange) -> bytes:
    """Return the names of the rules that were broken, for a header or a comment; empty if none was."""
    return printable(", ".join(flagged_rules(exchange.judgements)))


def mark(exchange: Exchange) -> bytes:
    """Return the comment with the broken rules; empty if none was broken."""
    found = flags(exchange)
    return b": " + FLAGGED + b": " + found + b"\n\n" if found else b""


async def until_done(stream: AsyncIterator[bytes], held: list[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream as it comes, without the `[DONE]` at its end.

    Args:
        stream: bytes of the upstream's reply as they come.
        held: empty list, in which the `[DONE]` is left if it came in one piece.
    """
    async for piece in stream:
        if held:
            yield held.pop()
        start = piece.rfind(_DONE)
        at_line = start == 0 or (start > 0 and piece[start - 1 : start] in (b"\n", b"\r"))
        if at_line and not piece[start + len(_DONE) :].strip():
            held.append(piece[start:])
            piece = piece[:start]
        if piece:
            yield piece

"""Parsing the bytes of a body as a JSON object, strictly: a body that two parsers could read differently is refused.

An upstream may take the other of two equal keys, read on behind the end of the first compressed member, or count a text
that the detectors never saw. Nothing here changes a byte that passes; a body that cannot be read is reported, never
repaired.
"""

import json
import re
import zlib
from typing import Any, cast

JsonObject = dict[str, Any]

READABLE = (b"gzip", b"deflate", b"identity")
"""Content encodings that can be read. A compressed body passes as it is, and a copy is unpacked for the detectors."""

MOST_BYTES = 4_000_000
"""Most bytes of JSON that are read; no text that detectors still judge needs more, even with every character
escaped."""
MOST_VALUES = 400_000
"""Most commas and brackets of JSON that is read; the parser stops everything else in the process meanwhile."""

_ALIASES = {b"": b"identity", b"x-gzip": b"gzip"}
_STRUCTURE = (b",", b"[", b"{")


class UnreadableError(Exception):
    """A body is not what the protocol says, or holds more than text, so that no detector can judge it."""


def unpack(body: bytes, encoding: bytes, most: int) -> bytes:
    """Return the content of a body without its content encoding (compression).

    Args:
        body: the bytes of the body.
        encoding: value of the content-encoding header.
        most: most bytes of content that are unpacked.

    Raises:
        UnreadableError: the encoding is none of `READABLE`, the data is broken, or the content is more than `most`
            bytes.
    """
    name = encoding.strip().lower()
    name = _ALIASES.get(name, name)
    if name == b"identity":
        return body
    if name not in READABLE:
        raise UnreadableError("the content encoding cannot be read")
    content, rest = b"", body
    while rest or not content:
        # 32: the header says whether it is gzip or zlib.
        unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
        try:
            content += unpacker.decompress(rest, most + 1 - len(content))
        except zlib.error as error:
            raise UnreadableError("the compressed body is broken") from error
        if unpacker.unconsumed_tail or not unpacker.eof or len(content) > most:
            raise UnreadableError("the compressed body is cut or too large")
        rest = unpacker.unused_data
        if rest and name != b"gzip":  # gzip may have several members; all of them are the content.
            raise UnreadableError("the compressed body goes on behind its end")
        if not rest:
            break
    return content


def parse_body(body: bytes) -> JsonObject:
    """Parse a body as a JSON object.

    Raises:
        UnreadableError: the body is anything else, is too large to be parsed at once, or has a key twice.
    """
    if len(body) > MOST_BYTES:
        raise UnreadableError("the JSON is longer than what is read")
    if len(body) > MOST_VALUES and sum(map(body.count, _STRUCTURE)) > MOST_VALUES:
        raise UnreadableError("the JSON holds more values than are read")
    try:
        data = json.loads(body, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the body is not JSON") from error
    if not isinstance(data, dict):
        raise UnreadableError("the body is not a JSON object")
    return cast(JsonObject, data)


_PLAIN_WORD = re.compile(rb"[\w .-]{0,40}")


def is_plain_word(data: bytes) -> bool:
    """Tell whether the data of an event is a mark of the protocol such as `ping`, and not broken JSON."""
    return _PLAIN_WORD.fullmatch(data) is not None


def _unambiguous(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableError("a key stands twice in one object")
    return found

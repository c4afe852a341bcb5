"""What a detector reads in an exchange of the chat-completions protocol, and the errors that we answer ourselves.

Nothing here changes a byte that passes; a body that cannot be read is reported as such, never repaired.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote_to_bytes

JsonObject = dict[str, Any]

READABLE = (b"gzip", b"deflate", b"identity")
"""Content encodings that we can read; a compressed body passes as it is and a copy is unpacked for the detectors."""


class UnreadableError(Exception):
    """A body is not what the protocol says, so no detector can judge it."""


def is_screened(method: str, path: bytes) -> bool:
    """Tell whether this is a request for a chat or text completion; every other path passes unread."""
    # An upstream may read an escaped or doubled character as the plain one.
    plain = re.sub(rb"/+", b"/", unquote_to_bytes(unquote_to_bytes(path))).lower().rstrip(b"/")
    return method == "POST" and plain.endswith(b"/completions")


def unpack(body: bytes, encoding: bytes, most: int) -> bytes:
    """Return the body without its content encoding.

    Raises:
        UnreadableError: another encoding than `READABLE`, broken data, or more than `most` bytes of content.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in READABLE:
        raise UnreadableError("the content encoding cannot be read")
    # 32: the header says whether it is gzip or zlib.
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(body, most)
    except zlib.error as error:
        raise UnreadableError("the compressed body is broken") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise UnreadableError("the compressed body is cut or too large")
    return content


def parse_body(body: bytes) -> JsonObject:
    """Return a JSON object.

    Raises:
        UnreadableError: it is anything else.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the body is not JSON") from error
    if not isinstance(data, dict):
        raise UnreadableError("the body is not a JSON object")
    return cast(JsonObject, data)


def request_text(data: JsonObject) -> str:
    """Return every text of the messages, or of the prompt: whatever role says it, and the arguments of tools."""
    return "\n".join([*_texts(data.get("messages")), *_texts(data.get("prompt"))])


def reply_text(body: bytes, content_type: bytes) -> str:
    """Return every text of every choice of a reply, streamed or whole.

    Raises:
        UnreadableError: it is not a reply of the protocol.
    """
    if not content_type.strip().lower().startswith(b"text/event-stream"):
        data = parse_body(body)
        if not isinstance(data.get("choices"), list):
            raise UnreadableError("the reply has no choices")
        return "\n".join(text for one in _dicts(data["choices"]) for text in _texts(one.get("message") or one))
    pieces: dict[Any, list[str]] = {}
    for event in _events(body):
        for place, one in enumerate(_dicts(event.get("choices"))):
            # Each choice, and each tool call of it, is a text of its own that comes in pieces.
            index = str(one.get("index", place))
            delta = one.get("delta") or one
            for call in _dicts(delta.get("tool_calls") if isinstance(delta, dict) else None):
                pieces.setdefault((index, str(call.get("index", 0))), []).extend(_texts(call))
            pieces.setdefault(index, []).extend(_texts(delta, skip="tool_calls"))
    return "\n".join("".join(texts) for texts in pieces.values())


def error_body(message: str, kind: str, code: str) -> bytes:
    """Return an error as the protocol writes it."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


_SPOKEN = ("content", "text", "refusal", "reasoning", "reasoning_content", "arguments", "output", "input")
_NESTED = ("tool_calls", "function", "function_call", "custom")


def _texts(value: object, skip: str = "", depth: int = 8) -> Iterator[str]:
    """Yield the strings of what somebody says; names, ids and urls are not said."""
    if depth < 0:
        raise UnreadableError("the messages are nested too deeply")
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in cast(list[object], value):
            yield from _texts(one, depth=depth - 1)
    elif isinstance(value, dict):
        for key, one in cast(JsonObject, value).items():
            if key in (*_SPOKEN, *_NESTED) and key != skip and not (key in _NESTED and isinstance(one, str)):
                yield from _texts(one, depth=depth - 1)


def _dicts(value: object) -> list[JsonObject]:
    items = cast(list[object], value) if isinstance(value, list) else []
    return [cast(JsonObject, one) for one in items if isinstance(one, dict)]


def _events(body: bytes) -> Iterator[JsonObject]:
    """Yield the JSON objects of a stream of server-sent events.

    Raises:
        UnreadableError: an event is not JSON, or there is none.
    """
    found = False
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines).strip()
        if data and data != b"[DONE]":
            found = True
            yield parse_body(data)
    if not found:
        raise UnreadableError("the stream has no events")

"""What a detector reads in an exchange, as one text, and how we answer ourselves.

`undertow.monitor.bodies` makes objects of bytes, `undertow.monitor.texts` finds the texts in them, and
`undertow.monitor.streams` does both for replies that come in pieces.
"""

import json
import time

from undertow.monitor.bodies import JsonObject
from undertow.monitor.request_kinds import REQUEST_KINDS, RequestKind
from undertow.monitor.streams import read_lanes
from undertow.monitor.texts import asked_texts, query_texts

CHAT = REQUEST_KINDS[0]


def request_text(data: JsonObject, query: bytes = b"") -> str:
    """Return every text of a request, whoever says it and wherever it stands.

    Raises:
        UnreadableError: it holds more than text, such as an image or a prompt of token numbers.
    """
    return "\n".join([*asked_texts(data), *query_texts(query)])


def reply_text(body: bytes, content_type: bytes, asked: RequestKind = CHAT) -> str:
    """Return every text that a model says in a reply, streamed or whole.

    Raises:
        UnreadableError: it is not a reply of a known form, or holds more than text.
    """
    return read_lanes(body, content_type, asked).whole()


def error_body(message: str, kind: str, code: str, request_id: str = "") -> bytes:
    """Return an error as the protocol writes it, with the time and the id under which the exchange is recorded."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    if request_id:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        error |= {"request_id": request_id, "time": when}
    return json.dumps({"error": error}).encode()


def stopped_reply(message: str, code: str, request_id: str, lines: bool) -> bytes:
    """Return what ends a streamed reply that may not go on, as clients of every interface understand an error.

    Args:
        message: for people.
        code: for programs.
        request_id: under which the exchange is recorded.
        lines: whether the reply is JSON by lines, rather than server-sent events.
    """
    if lines:
        return json.dumps({"error": message, "code": code, "request_id": request_id, "done": True}).encode() + b"\n"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = {"type": "error", "error": {**error, "request_id": request_id}}
    return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\ndata: [DONE]\n\n"

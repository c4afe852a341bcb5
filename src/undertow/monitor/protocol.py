"""The text that a detector reads of each side of an exchange, and the errors that we answer with ourselves.

`undertow.monitor.bodies` parses bytes as objects, `undertow.monitor.texts` finds the texts in them, and
`undertow.monitor.streams` does both for replies that come in pieces.
"""

import json
import time

from undertow.monitor.bodies import JsonObject
from undertow.monitor.texts import asked_texts, query_texts


def request_text(data: JsonObject, query: bytes = b"") -> str:
    """Return every text of a request in one, whoever says it and wherever it stands.

    Args:
        data: the request's body, parsed as JSON.
        query: query of its URL, whose values some servers read too.

    Raises:
        UnreadableError: the request holds more than text, such as an image or a prompt of token ids.
    """
    return "\n".join([*asked_texts(data), *query_texts(query)])


def error_body(message: str, kind: str, code: str, request_id: str = "") -> bytes:
    """Return the body of an error as the protocol writes it, with the time and the id of the exchange.

    Args:
        message: what happened, in words for people.
        kind: type of the error in the protocol's words, such as "invalid_request_error".
        code: name of the error, for programs.
        request_id: id under which the exchange is recorded; "" for none.
    """
    error = {"message": message, "type": kind, "param": None, "code": code}
    if request_id:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        error |= {"request_id": request_id, "time": when}
    return json.dumps({"error": error}).encode()


def stopped_reply(message: str, code: str, request_id: str, lines: bool) -> bytes:
    """Return the bytes that end a streamed reply which may not go on, as an error that clients understand.

    Args:
        message: the reason for which the reply ends, for people.
        code: name of the error, for programs.
        request_id: id under which the exchange is recorded.
        lines: whether the reply is JSON by lines, and not server-sent events.
    """
    if lines:
        return json.dumps({"error": message, "code": code, "request_id": request_id, "done": True}).encode() + b"\n"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = {"type": "error", "error": {**error, "request_id": request_id}}
    return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\ndata: [DONE]\n\n"

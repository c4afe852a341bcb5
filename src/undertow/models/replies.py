"""Parsing what a server replies: the answer, or why there is none and whether asking again may help.

A reply may come with status 200 and still be an error (OpenRouter), hold its text in parts (Mistral), or hold no text
since the model was cut off while it reasoned. Whatever a server says is shown in one line, cut, and without any key.
"""

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from undertow.models.calls import CUT, LONGEST_WAIT_S, Fault, Reply
from undertow.models.endpoints import without_keys

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""HTTP statuses after which another attempt may succeed."""

FATAL = frozenset({401, 402, 404, 405})
"""HTTP statuses that every other call would get too: a wrong key, no money, a model or address that does not exist."""

ODD_TRIES = 3
"""Largest number of attempts after a reply that is no answer and names no status; another one rarely helps."""

_SAID = 200
_NAMES = {"rate_limit_exceeded": 429, "too_many_requests": 429, "server_error": 500, "overloaded_error": 529,
          "overloaded": 529, "timeout": 504, "invalid_api_key": 401, "model_not_found": 404}  # fmt: skip
"""HTTP statuses of errors that come with a name instead of a number."""

_SPENT = re.compile(
    r"insufficient.(quota|balance|credit|funds)|exceeded your current quota|per.day\b|out of credit|billing",
    re.IGNORECASE,
)
"""Words of a server by which waiting a minute does not help, such as those of a used-up quota."""

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
_THOUGHT_PARTS = ("thinking", "reasoning")


def read_reply(status: int, headers: Mapping[str, str], content: bytes, key: str | None) -> Reply:
    """Return the answer in a reply.

    Args:
        status: HTTP status of the reply.
        headers: HTTP headers of the reply, their names in lower case.
        content: body of the reply, in bytes.
        key: the key that was sent, which no message may show; None if none was sent.

    Raises:
        Fault: the reply holds no answer.
    """
    body = _parsed(content)
    if not 200 <= status < 300:
        fault = _refused(status, _said(content, body, key), body)
        fault.after_s = seconds(headers.get("retry-after"))
        if fault.after_s > LONGEST_WAIT_S:
            fault.reason += f"; it asks to wait {fault.after_s:.0f} s"
        if 300 <= status < 400:
            to = headers.get("location", "").partition("?")[0]
            fault.reason = f"status {status}: the server sends elsewhere, to {_shown(to, key) or 'nowhere'}"
            fault.fatal, fault.said = True, ""
        raise fault
    if body is None:
        raise _no_json(content, key)
    if (error := _error(body)) is not None:
        raise _failed(error, _said(content, body, key), body)
    try:
        return _answer(body)
    except Fault as fault:
        fault.said = _said(content, body, key)
        raise


def seconds(retry_after: str | None, now: Callable[[], float] = time.time) -> float:
    """Return the seconds that a Retry-After header asks to wait, as a number or a date; 0 for anything else.

    Args:
        retry_after: value of the header; None if there is none.
        now: returns the Unix time in seconds.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _refused(status: int, said: str, body: Any) -> Fault:
    spent = bool(_SPENT.search(said)) or _inside(body, "error", "code") == "insufficient_quota"
    again = status in AGAIN and not spent
    reason = f"status {status}: {said}".removesuffix(": ")
    fault = Fault(reason, again=again, fatal=status in FATAL or (spent and status in (402, 403, 429)))
    fault.status, fault.said, fault.body = status, said, body
    return fault


def _no_json(content: bytes, key: str | None) -> Fault:
    fault = _no_completion("is not JSON")
    fault.said = _said(content, None, key)
    # A reply that begins as JSON was cut off on its way; a page or a stream is what this server sends.
    if content.lstrip()[:1] not in (b"{", b"["):
        fault.most = ODD_TRIES
        fault.reason = f"the reply is no chat completion but {_kind(content)}: {fault.said[:100]}".removesuffix(": ")
    return fault


def _kind(content: bytes) -> str:
    start = content.lstrip()[:20].lower()
    if start.startswith(b"data:"):
        return "a stream"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a page, as a proxy sends"
    return "another text" if start else "empty"


def _error(body: Any) -> Any:
    """Return the error in a reply of status 200, or None."""
    found = _inside(body, "choices", 0, "error")
    has_choices = bool(_inside(body, "choices"))
    if not found and not has_choices:
        first = _inside(body, 0) if isinstance(body, list) else body
        found = _inside(first, "error") or (first if _inside(first, "object") == "error" else None)
    return found or None


def _failed(error: Any, said: str, body: Any) -> Fault:
    code = next((value for name in ("code", "status", "type") if (value := _status(_inside(error, name)))), 0)
    if code:
        fault = _refused(code, said, body)
        fault.reason = f"an error in a reply of status 200, {code}: {said}".removesuffix(": ")
        return fault
    spent = bool(_SPENT.search(said))
    fault = Fault(f"an error in a reply of status 200: {said}".removesuffix(": "), again=not spent, fatal=spent)
    fault.said, fault.body, fault.most = said, body, ODD_TRIES
    return fault


def _status(value: Any) -> int:
    if isinstance(value, str):
        value = _NAMES.get(value.lower(), int(value) if re.fullmatch(r"[0-9]{3}", value) else 0)
    return value if type(value) is int and 400 <= value < 600 else 0


def _answer(body: Any) -> Reply:
    """Return the answer in a reply; a refusal or a call of a tool is an answer without text."""
    path, inner = "", body
    for key in ("choices", 0, "message"):
        path += f"[{key}]" if key == 0 else f".{key}" if path else str(key)
        inner = _inside(inner, key)
        if inner is None:
            raise _no_completion(f"has no {path}")
    finish, text = _inside(body, "choices", 0, "finish_reason"), _inside(inner, "content")
    thought = any(_inside(inner, name) for name in _REASONING)
    refused = bool(_inside(inner, "refusal"))
    if isinstance(text, list):
        parts = cast(list[Any], text)
        text = _joined(parts)
        thought = thought or any(_inside(part, "type") in _THOUGHT_PARTS for part in parts)
        refused = refused or any(_inside(part, "type") == "refusal" for part in parts)
    if text is None and (thought or refused or finish or _inside(inner, "tool_calls")):
        text = ""
    if not isinstance(text, str):
        raise _no_completion(f"has no text in {path}.content")
    if finish == "error":
        raise _no_completion("ends in an error of the server")
    end = _plain(str(finish or "stop"))[:40]
    empty = "" if text.strip() else why_empty(end, thought=thought, refused=refused, tool=_inside(inner, "tool_calls"))
    counted = [_inside(body, "usage", name) for name in ("prompt_tokens", "completion_tokens")]
    tokens = (counted[0], counted[1]) if all(type(one) is int and one >= 0 for one in counted) else None
    return Reply(text, end, tokens, empty=empty)


def why_empty(finish: str, *, thought: bool = False, refused: bool = False, tool: Any = None) -> str:
    """Say why an answer has no text.

    Args:
        finish: why the answer ended, in the server's word.
        thought: whether the model reasoned before it.
        refused: whether the model refused to answer.
        tool: the calls of tools in the answer; None or empty if there are none.
    """
    if refused:
        return "refused by the model"
    if finish in ("content_filter", "safety", "SAFETY"):
        return "stopped by a content filter"
    if finish in CUT:
        return "cut while still reasoning" if thought else "cut before any text"
    if tool:
        return "a call of a tool"
    return "reasoning without an answer" if thought else "no text"


def _joined(parts: list[Any]) -> str | None:
    """Return the text of an answer in parts, or None if a part is neither text nor reasoning."""
    texts: list[str] = []
    for part in parts:
        kind = _inside(part, "type")
        text = part if isinstance(part, str) else _inside(part, "text")
        if kind in (*_THOUGHT_PARTS, "refusal"):
            continue
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def _inside(value: Any, *path: str | int) -> Any:
    for key in path:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value


def _no_completion(lacks: str) -> Fault:
    fault = Fault(f"the reply is broken off or no chat completion: it {lacks}", charged=True)
    fault.lacks = lacks
    if lacks != "is not JSON":
        fault.most = ODD_TRIES
    return fault


def _said(content: bytes, body: Any, key: str | None) -> str:
    """Return the server's own words, from wherever servers put them, or else the beginning of the reply."""
    text = _words(body) or content.decode("utf-8", "replace")
    return _shown(text, key)


def _words(body: Any) -> str:
    first = _inside(body, 0) if isinstance(body, list) else body
    error = _inside(first, "choices", 0, "error") or _inside(first, "error") or first
    message = error if isinstance(error, str) else _inside(error, "message") or _inside(first, "detail")
    if message is not None and not isinstance(message, str):
        message = json.dumps(message)
    raw = _inside(error, "metadata", "raw")
    behind = (_words(_parsed(raw.encode("utf-8", "replace"))) or raw) if isinstance(raw, str) else ""
    return f"{message}: {behind}" if message and behind else message or behind


def _shown(text: str, key: str | None) -> str:
    return " ".join(_plain(without_keys(text, key)).split())[:_SAID]


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)

"""The guardrail: an ASGI application that gateways ask whether a text may pass; it passes no traffic on itself.

    POST /beta/litellm_basic_guardrail_api    the generic guardrail API of LiteLLM
    POST /screen                              {"side": "request" or "reply", "text": ...}, for everything else

A body must have the content type application/json, so that no web page can count texts here from a visitor's browser.
"""

import json
import logging
from typing import Any, cast

from undertow.monitor import protocol as chat
from undertow.monitor.bodies import JsonObject, UnreadableError, parse_body
from undertow.monitor.detectors.base import Side
from undertow.monitor.exchange import EndedError, Receive, RefusedError, Scope, Send
from undertow.monitor.guarding import GuardDecision, JudgedText, TextGuard
from undertow.monitor.settings import Limits
from undertow.monitor.uploads import UPLOAD_S, Uploads

logger = logging.getLogger(__name__)

LITELLM, SCREEN = "/beta/litellm_basic_guardrail_api", "/screen"

_SIDES: dict[Any, Side] = {"request": "request", "response": "reply", "reply": "reply"}


class Guardrail:
    """The ASGI application that answers gateways.

    Args:
        guard: judges the texts, and records them.
        limits: limits on one question and on all together.
    """

    def __init__(self, guard: TextGuard, limits: Limits) -> None:
        self.active, self.draining = 0, False
        self._uploads = Uploads(limits.upload_bytes)
        self.guard, self.limits = guard, limits
        self.policy, self.events, self.detectors = guard.policy, guard.events, guard.detectors

    @property
    def status(self) -> str:
        """The state in one word, as for the proxy: "ok", "draining" or "degraded"."""
        return "draining" if self.draining else "ok" if self.events.is_well else "degraded"

    def drain(self) -> None:
        """Note that the server was told to stop, and no longer wait for questions that are slow to arrive."""
        self.draining = True
        self._uploads.hurry(UPLOAD_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question of a gateway."""
        try:
            _check_asked(scope)
            body = await self._uploads.read(receive, self.limits)
            if self.active >= self.limits.concurrent:
                raise RefusedError(503, "Too many questions are under way.", "too_many_requests")
            self.active += 1
            try:
                answer = await self._answer(scope["path"], body)
            finally:
                self.active -= 1
            await _send(send, 200, answer)
        except RefusedError as refused:
            kind = "invalid_request_error" if refused.status < 500 else "server_error"
            await _send(send, refused.status, chat.error_body(refused.message, kind, refused.code))
        except EndedError:
            pass
        except Exception:
            logger.exception("A question failed inside the guardrail.")
            body = chat.error_body("Something went wrong inside the guardrail.", "server_error", "guardrail_fault")
            await _send(send, 500, body)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    async def _answer(self, path: str, body: bytes) -> bytes:
        try:
            data = parse_body(body)
            text = litellm_question(data) if path == LITELLM else plain_question(data)
        except UnreadableError as error:
            raise RefusedError(400, f"The question cannot be read: {error}.", "unreadable") from None
        decision = await self.guard.judge(text)
        answer = litellm_answer(decision, text.side) if path == LITELLM else decision.to_json()
        return json.dumps(answer).encode()


def _check_asked(scope: Scope) -> None:
    """Refuse a request that is no question of a gateway."""
    if scope["path"] not in (LITELLM, SCREEN):
        raise RefusedError(404, f"There is {SCREEN} and {LITELLM}.", "not_found")
    if scope["method"] != "POST":
        raise RefusedError(405, "POST only.", "wrong_method")
    if not dict(scope["headers"]).get(b"content-type", b"").lower().startswith(b"application/json"):
        raise RefusedError(415, "Send the body as application/json.", "wrong_content_type")


def plain_question(data: JsonObject) -> JudgedText:
    """Read a question of our own form: {"side": ..., "text": ...}.

    Raises:
        UnreadableError: the question has no side or no text.
    """
    side, said = _SIDES.get(_hashable(data.get("side"))), data.get("text")
    if side is None or not isinstance(said, str):
        raise UnreadableError('it needs "side", request or reply, and "text"')
    return JudgedText(side=side, said=said, call=_word(data, "id"), model=_word(data, "model"), path=SCREEN)


def litellm_question(data: JsonObject) -> JudgedText:
    """Read a question as LiteLLM asks it, or the inputs of its guardrail classes with `input_type`.

    A request is read as the proxy reads it, from its messages; further texts are added.

    Raises:
        UnreadableError: the question has no side, or its texts are not texts.
    """
    side, texts = _SIDES.get(_hashable(data.get("input_type"))), _list(data, "texts")
    if side is None:
        raise UnreadableError('its "input_type" is neither request nor response')
    if not all(isinstance(one, str) for one in texts):
        raise UnreadableError('its "texts" are not texts')
    said = cast(list[str], texts)
    unread = ["images"] if _list(data, "images") else []
    whole = ""
    if side == "request":  # A reply may come with the messages that it answers: they are no part of it.
        whole = _texts({"messages": _list(data, "structured_messages"), "tools": _list(data, "tools")}, unread)
    calls = _texts({"messages": [{"tool_calls": _list(data, "tool_calls")}]}, unread)
    lines = [whole, *(one for one in said if one not in whole), calls]
    return JudgedText(
        side=side,
        said="\n".join(one for one in lines if one),
        unread=unread,
        call=_word(data, "litellm_call_id"),
        model=_word(data, "model"),
        path=LITELLM,
    )


def _texts(request: JsonObject, unread: list[str]) -> str:
    """Return the texts of a request; the reason why it cannot be read is added to `unread`, not raised.

    Whether such a call passes is for the policy to say; an error would leave that to the gateway.
    """
    try:
        return chat.request_text(request)
    except UnreadableError as error:
        unread.append(str(error))
        return ""


def litellm_answer(decision: GuardDecision, side: Side) -> dict[str, Any]:
    """Return a decision in the form that LiteLLM reads."""
    if not decision.blocked:
        return {"action": "NONE"}
    return {"action": "BLOCKED", "blocked_reason": f"The {side} was blocked by the policy of this endpoint."}


def _hashable(value: object) -> str:
    return value if isinstance(value, str) else ""


def _word(data: JsonObject, key: str) -> str:
    value = data.get(key)
    return value[:200] if isinstance(value, str) else ""


def _list(data: JsonObject, key: str) -> list[Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, list):
        raise UnreadableError(f'its "{key}" are no list')
    return cast(list[Any], value or [])


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    closing = [(b"connection", b"close")] if status in (408, 413) else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *closing]})
    await send({"type": "http.response.body", "body": body})

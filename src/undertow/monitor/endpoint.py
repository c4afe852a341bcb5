"""Asks an OpenAI-compatible endpoint for chat completions, and says what is missing where it is none."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2

from undertow.errors import ModelError
from undertow.monitor.forwarding import parse_upstream
from undertow.types import Prompt

KEY = "UNDERTOW_API_KEY"
"""Environment variable of the key; it is sent to the endpoint and stored nowhere."""

PATH = "/v1/chat/completions"
TOGETHER = 8
"""Requests under way at once."""
TIMES = 4
"""Attempts at one question, while the endpoint is busy or failing."""
WAIT_S = 1.0
"""Pause after the first attempt; it doubles, and an endpoint that says how long to wait is believed up to `MOST_S`."""
MOST_S = 60.0
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A chat model behind a URL.

    Attributes:
        url: with or without /v1 at its end; `Endpoint.at` checks it.
        model: as the endpoint names it.
        max_tokens: of a reply.
        timeout_s: of a request.
    """

    url: str
    model: str
    max_tokens: int = 60
    timeout_s: float = 60.0
    _client: httpx2.Client = field(repr=False, compare=False, kw_only=True)

    @classmethod
    def at(cls, url: str, model: str, max_tokens: int = 60, timeout_s: float = 60.0) -> "Endpoint":
        """Make the endpoint of a URL; the key is that of the environment, if there is one.

        Raises:
            ConfigError: it is no http(s) URL, or holds a user, a query or a fragment.
        """
        plain = url.rstrip("/").removesuffix("/v1")
        upstream = parse_upstream(plain)
        key = os.environ.get(KEY)
        client = httpx2.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            follow_redirects=False,  # The key must not go elsewhere.
            trust_env=upstream.host not in (b"127.0.0.1", b"localhost", b"::1"),
        )
        return cls(plain, model, max_tokens, timeout_s, _client=client)

    def ask(self, prompts: Sequence[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        """Return a reply to each prompt, drawn at temperature 1; the same prompt may come several times.

        Args:
            prompts: the turns of each.
            done: called after each reply.

        Raises:
            ModelError: the endpoint cannot be reached, refuses, or is not OpenAI-compatible.
        """

        def one(prompt: Prompt) -> str:
            reply = self._ask(prompt)
            done()
            return reply

        with ThreadPoolExecutor(max_workers=TOGETHER) as pool:
            waiting = [pool.submit(one, prompt) for prompt in prompts]
            try:
                return [each.result() for each in waiting]
            except BaseException:  # An interrupt ends what is under way and nothing else.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, prompt: Prompt) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
        body = {"model": self.model, "messages": messages, "temperature": 1.0, "max_tokens": self.max_tokens}
        for attempt in range(TIMES):
            try:
                response = self._client.post(self.url + PATH, json=body)
            except httpx2.HTTPError as error:
                why, pause = f"{type(error).__name__}", 0.0
            else:
                if response.status_code < 300:
                    return _content(response)
                if response.status_code != 429 and response.status_code < 500:
                    raise _refused(self.url, response)
                why, pause = f"status {response.status_code}", _asked_pause(response)
            if attempt < TIMES - 1:
                time.sleep(max(WAIT_S * 2**attempt, pause))
        raise ModelError(
            f"The endpoint does not answer ({why}, {TIMES} times).",  # pyright: ignore[reportPossiblyUnboundVariable]
            self.url + PATH,
            "Look whether the server runs and the address is right; nothing was counted, so ask again later.",
        )


def _asked_pause(response: httpx2.Response) -> float:
    try:
        return min(MOST_S, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _refused(url: str, response: httpx2.Response) -> ModelError:
    # The words of an endpoint that refuses a key may quote it, so they are not shown.
    if response.status_code in (401, 403):
        return ModelError(
            f"The endpoint refuses to answer (status {response.status_code}).",
            url,
            f"Set {KEY} to a key that it takes.",
        )
    return ModelError(
        f"The endpoint does not take the question (status {response.status_code}).",
        f"{url}{PATH}: {_beginning(response.text)}",
        "Give the URL of a server with /v1/chat/completions, and a model that it has.",
    )


def _content(response: httpx2.Response) -> str:
    """Return the text of a reply; a refusal or a call of a tool is a reply without text."""
    try:
        data: Any = response.json()
    except (ValueError, RecursionError):
        raise _incompatible("is not JSON", response) from None
    place = ""
    for key in ("choices", 0, "message"):
        inner: Any = None
        if isinstance(data, dict) and isinstance(key, str):
            inner = cast(dict[str, Any], data).get(key)
        elif isinstance(data, list) and data:
            inner = cast(list[Any], data)[0]
        place += f"[{key}]" if key == 0 else f".{key}" if place else str(key)
        if inner is None:
            raise _incompatible(f"has no {place}", response)
        data = inner
    message = cast(dict[str, Any], data) if isinstance(data, dict) else {}
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and any(message.get(key) for key in ("refusal", "tool_calls", "reasoning_content")):
        return ""
    raise _incompatible(f"has no text in {place}.content", response)


def _incompatible(what: str, response: httpx2.Response) -> ModelError:
    return ModelError(
        f"The endpoint is not OpenAI-compatible: its reply {what}.",
        _beginning(response.text) or "an empty reply",
        "Give the URL of a server that answers /v1/chat/completions as OpenAI does.",
    )


def _beginning(text: str) -> str:
    return repr(text[:_SHOWN])[1:-1] + ("..." if len(text) > _SHOWN else "")

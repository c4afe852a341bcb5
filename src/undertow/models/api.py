"""Models behind a server: they chat, and nothing else.

    api:http://127.0.0.1:8000/v1/<model>     any OpenAI-compatible server: vLLM, SGLang, transformers serve, a provider
    api:<provider>/<model>                   what Inspect reaches (extra "inspect"), with its providers and their keys

The key of an OpenAI-compatible server is UNDERTOW_API_KEY; OPENAI_API_KEY goes to api.openai.com alone. Keys come from
the environment, never from a reference, and are cut out of whatever a server says before anybody reads it.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast, final
from urllib.parse import urlsplit

from undertow.errors import ConfigError, MissingExtraError, ModelError
from undertow.models.base import AbstractModel
from undertow.models.calls import Answer, Ask, Budget, Caller, Fault, Retries
from undertow.seeds import derive
from undertow.types import ModelRef, Prompt, Sampling

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another try may cure."""

FATAL = frozenset({401, 403, 404, 405})
"""Statuses that every other call would get too: a wrong key, a model or address that does not exist."""

TIMEOUT_S = 120.0
CONNECT_S = 10.0
CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI-compatible server listens, up to and with /v1, and the name of the model there."""

    url: str
    model: str

    @property
    def key(self) -> str | None:
        """The key for this server, from the environment."""
        own = os.environ.get("UNDERTOW_API_KEY")
        return own or (os.environ.get("OPENAI_API_KEY") if urlsplit(self.url).hostname == "api.openai.com" else None)


def endpoint(ref: ModelRef) -> Endpoint | None:
    """Return the address in a reference, or None for one that Inspect reads.

    Raises:
        ConfigError: the address names no model, or holds a key.
    """
    if ref.kind != "api" or ref.revision or ref.adapter:
        # The value is not shown: what stands before an @ is often a password.
        fix = "Write api:http://<host>:<port>/v1/<model> and set UNDERTOW_API_KEY; a server loads adapters itself."
        raise ConfigError("A remote model has no revision, adapter or key in its name.", f"{ref.kind}:...", fix)
    if not ref.name.startswith(("http://", "https://")):
        return None
    before, found, model = ref.name.partition("/v1/")
    if not found or not model or not urlsplit(before).hostname:
        fix = "Write api:http://<host>:<port>/v1/<model>, such as api:http://127.0.0.1:8000/v1/my-model."
        raise ConfigError("The address of a model ends with /v1/ and the model's name.", str(ref), fix)
    return Endpoint(f"{before}/v1", model)


@asynccontextmanager
async def asking(ref: ModelRef, concurrency: int, timeout_s: float = TIMEOUT_S) -> AsyncGenerator[Ask]:
    """Open the connections to a model; what it gives makes one attempt at a time, `concurrency` of them at once.

    Raises:
        ConfigError: as `endpoint`.
        MissingExtraError: the reference needs Inspect, which is not installed.
    """
    place = endpoint(ref)
    if place is None:
        yield _inspect(ref)
        return
    try:
        import httpx2
    except ImportError as error:
        fix = 'pip install "undertow[api]"'
        raise MissingExtraError("Model servers need the package httpx2.", str(ref), fix) from error
    headers = {"authorization": f"Bearer {place.key}"} if place.key else {}
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S, pool=None)
    async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=timeout) as client:

        async def ask(prompt: Prompt, sampling: Sampling, seed: int) -> Answer:
            body = {
                "model": place.model,
                "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
                "temperature": sampling.temperature,
                "max_tokens": sampling.max_new_tokens,
                "seed": seed,
                "stream": False,
            }
            try:
                # The read timeout is of one piece; a server that drips would hold the call for ever.
                async with asyncio.timeout(timeout_s + CONNECT_S):
                    reply = await client.post(f"{place.url}/chat/completions", json=body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                raise Fault("the server does not answer") from error
            except (httpx2.TimeoutException, TimeoutError) as error:
                raise Fault(f"no answer within {timeout_s:g} s", charged=True) from error
            except httpx2.RequestError as error:
                raise Fault("the connection broke", charged=True) from error
            return _read(reply.status_code, reply.headers.get("retry-after"), reply.content, place)

        yield ask


def _read(status: int, retry_after: str | None, content: bytes, place: Endpoint) -> Answer:
    if status != 200:
        fault = Fault(f"status {status}{_said(content, place)}", again=status in AGAIN, fatal=status in FATAL)
        with contextlib.suppress(TypeError, ValueError):
            fault.after_s = float(cast(str, retry_after))
        raise fault
    try:
        body: Any = json.loads(content)
        choice = body["choices"][0]
        text, usage = choice["message"]["content"] or "", body.get("usage") or {}
        if not isinstance(text, str):
            raise TypeError
        counted = (int(usage["prompt_tokens"]), int(usage["completion_tokens"])) if usage else None
        return Answer(text, str(choice.get("finish_reason") or "stop"), counted)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Fault("the reply is broken off or no chat completion", charged=True) from error


def _said(content: bytes, place: Endpoint) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    with contextlib.suppress(ValueError, TypeError, LookupError):
        text = str(json.loads(content)["error"]["message"])
    return f": {without_keys(text, place.key)[:200]}" if text else ""


def without_keys(text: str, key: str | None = None) -> str:
    """Return a text without the key, and without any other key of the environment."""
    names = ("_KEY", "_TOKEN", "_SECRET")
    secrets = {value for name, value in os.environ.items() if name.endswith(names) and len(value) >= 8} | {key or ""}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return text


def _inspect(ref: ModelRef) -> Ask:
    try:
        from inspect_ai.model import (  # pyright: ignore[reportMissingImports]
            ChatMessageAssistant,
            ChatMessageSystem,
            ChatMessageUser,
            GenerateConfig,
            get_model,
        )
    except ImportError as error:
        fix = 'Install it in an environment of its own (pip install "undertow[inspect]"), or give api:http://...'
        raise MissingExtraError("Models by the name of a provider need Inspect.", str(ref), fix) from error
    model: Any = get_model(ref.name)
    kinds: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}

    async def ask(prompt: Prompt, sampling: Sampling, seed: int) -> Answer:
        config = GenerateConfig(temperature=sampling.temperature, max_tokens=sampling.max_new_tokens, seed=seed)
        try:
            output: Any = await model.generate(
                [kinds[turn.role](content=turn.content) for turn in prompt], config=config
            )
        except Exception as error:
            # Inspect has tried again by itself where that helps.
            raise Fault(
                f"{type(error).__name__}: {without_keys(str(error))[:200]}", again=False, charged=True
            ) from None
        if output.error or not output.choices:
            raise Fault(without_keys(str(output.error or "no answer"))[:200], again=False, charged=True)
        usage = output.usage
        counted = (int(usage.input_tokens), int(usage.output_tokens)) if usage else None
        return Answer(str(output.completion), str(output.stop_reason), counted)

    return ask


@final
class ApiModel(AbstractModel):
    """A model that only chats.

    Args:
        reference: `api:...`.
        concurrency: calls at once.
        retries: of each call.
    """

    def __init__(
        self, reference: str | ModelRef, concurrency: int = CONCURRENCY, retries: Retries | None = None
    ) -> None:
        self.ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
        endpoint(self.ref)
        self.concurrency, self.retries = concurrency, retries or Retries()

    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; equal seeds give equal texts only where the server keeps to the seed.

        Raises:
            ModelError: a prompt got no answer; use `undertow.remote_rows` for many, which keeps what was answered.
        """
        return asyncio.run(self._chat(prompts, sampling, seed))

    async def _chat(self, prompts: Sequence[Prompt], sampling: Sampling, seed: int) -> list[str]:
        room = asyncio.Semaphore(self.concurrency)
        async with asking(self.ref, self.concurrency) as ask:
            caller = Caller(ask, sampling, Budget(), self.retries)

            async def one(place: int) -> str:
                async with room:
                    return (await caller.call(prompts[place], derive(seed, place))).text

            try:
                return list(await asyncio.gather(*(one(place) for place in range(len(prompts)))))
            except Fault as fault:
                reason = f"{self.ref}: {fault.reason} (attempt {fault.attempts})"
                fix = "Check that the server runs and has this model."
                raise ModelError("The model gave no answer.", reason, fix) from None

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Refuse: chat servers do not give the probability of a text that they did not draw.

        Raises:
            ModelError: always.
        """
        fix = "Use an hf: or ref: model for margins, contrasts and audits of the weights."
        raise ModelError("A model behind a server has no log-probabilities, states or weights.", str(self.ref), fix)

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
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast, final
from urllib.parse import SplitResult, urlsplit

from undertow.errors import ConfigError, MissingExtraError, ModelError
from undertow.models.calls import Ask, Budget, Caller, Fault, Reply, Retries
from undertow.models.chat import AbstractModel
from undertow.seeds import derive
from undertow.types import ModelRef, Prompt, Sampling

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another try may cure."""

FATAL = frozenset({401, 403, 404, 405})
"""Statuses that every other call would get too: a wrong key, a model or address that does not exist."""

PATH = "/chat/completions"
TIMEOUT_S = 120.0
CONNECT_S = 10.0
CONCURRENCY = 16


KEY = "UNDERTOW_API_KEY"
"""Environment variable of the key for whatever server is asked."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def web_address(url: str, whose: str) -> SplitResult:
    """Read a URL that holds neither a user nor a query nor a fragment, where keys are hidden.

    Args:
        url: as a user gave it.
        whose: for messages, such as "endpoint".

    Raises:
        ConfigError: it is no such http(s) URL; whatever may be a key is not shown.
    """
    shown, fix = url.partition("?")[0].rpartition("@")[2], "Give one such as https://api.example.com."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"The {whose} is no URL.", shown, fix) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
        raise ConfigError(f"The {whose} is no http(s) URL.", shown, fix)
    if parts.username is not None or parts.query or parts.fragment:
        what = f"The {whose}'s URL holds a user, a query or a fragment."
        fix = "Give scheme, host, port and path alone; keys are no part of it."
        raise ConfigError(what, f"{parts.scheme}://{parts.hostname}", fix)
    return parts


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI-compatible server listens, up to and with /v1, and the name of the model there."""

    url: str
    model: str

    @classmethod
    def at(cls, url: str, model: str) -> "Endpoint":
        """Make the endpoint of a URL with or without /v1 at its end.

        Raises:
            ConfigError: as `web_address`.
        """
        web_address(url, "endpoint")
        return cls(f"{url.rstrip('/').removesuffix('/v1')}/v1", model)

    @property
    def host(self) -> str | None:
        """Name or address of the server."""
        return urlsplit(self.url).hostname

    @property
    def key(self) -> str | None:
        """The key for this server, from the environment."""
        return os.environ.get(KEY) or (os.environ.get("OPENAI_API_KEY") if self.host == "api.openai.com" else None)


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
    if not found or not model:
        fix = "Write api:http://<host>:<port>/v1/<model>, such as api:http://127.0.0.1:8000/v1/my-model."
        raise ConfigError("The address of a model ends with /v1/ and the model's name.", str(ref), fix)
    return Endpoint.at(before, model)


@asynccontextmanager
async def asking(place: ModelRef | Endpoint, concurrency: int, timeout_s: float = TIMEOUT_S) -> AsyncGenerator[Ask]:
    """Open the connections to a model; what it gives makes one attempt at a time, `concurrency` of them at once.

    Raises:
        ConfigError: as `endpoint`.
        MissingExtraError: the reference needs Inspect, or the package of the connections is not installed.
    """
    found = endpoint(place) if isinstance(place, ModelRef) else place
    if found is None:
        yield _inspect(cast(ModelRef, place))
        return
    try:
        import httpx2
    except ImportError as error:
        fix = 'pip install "undertow[api]"'
        raise MissingExtraError("Model servers need the package httpx2.", found.url, fix) from error
    client = httpx2.AsyncClient(
        headers={"authorization": f"Bearer {found.key}"} if found.key else {},
        limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S, pool=None),
        follow_redirects=False,  # the key must not go elsewhere
        trust_env=found.host not in LOOPBACK,
    )
    async with client:

        async def ask(prompt: Prompt, sampling: Sampling, seed: int | None) -> Reply:
            body = _body(found.model, prompt, sampling, seed)
            try:
                # The read timeout is of one piece; a server that drips would hold the call for ever.
                async with asyncio.timeout(timeout_s + CONNECT_S):
                    reply = await client.post(found.url + PATH, json=body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                raise Fault("the server does not answer") from error
            except (httpx2.TimeoutException, TimeoutError) as error:
                raise Fault(f"no answer within {timeout_s:g} s", charged=True) from error
            except httpx2.RequestError as error:
                raise Fault("the connection broke", charged=True) from error
            return _read(reply.status_code, reply.headers.get("retry-after"), reply.content, found)

        yield ask


def _body(model: str, prompt: Prompt, sampling: Sampling, seed: int | None) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_new_tokens,
        **({} if seed is None else {"seed": seed}),
        "stream": False,
    }


def _read(status: int, retry_after: str | None, content: bytes, place: Endpoint) -> Reply:
    if not 200 <= status < 300:
        said = _said(content, place)
        fault = Fault(f"status {status}: {said}".removesuffix(": "), again=status in AGAIN, fatal=status in FATAL)
        fault.status, fault.said = status, said
        with contextlib.suppress(TypeError, ValueError):
            fault.after_s = float(cast(str, retry_after))
        raise fault
    try:
        return _answer(json.loads(content))
    except (ValueError, RecursionError):
        fault = _no_completion("is not JSON")
    except Fault as error:
        fault = error
    fault.said = _said(content, place)
    raise fault


def _answer(body: Any) -> Reply:
    """Return the answer in a reply; a refusal or a call of a tool is one without text."""
    path, choice, inner = "", None, body
    for key in ("choices", 0, "message"):
        path += f"[{key}]" if key == 0 else f".{key}" if path else str(key)
        choice, inner = inner, _inside(inner, key)
        if inner is None:
            raise _no_completion(f"has no {path}")
    text = _inside(inner, "content")
    if text is None and any(_inside(inner, key) for key in ("refusal", "tool_calls", "reasoning_content")):
        text = ""
    if not isinstance(text, str):
        raise _no_completion(f"has no text in {path}.content")
    usage = _inside(body, "usage")
    counted = [_inside(usage, key) for key in ("prompt_tokens", "completion_tokens")]
    tokens = (counted[0], counted[1]) if all(isinstance(one, int) for one in counted) else None
    return Reply(text, str(_inside(choice, "finish_reason") or "stop"), tokens)


def _inside(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (LookupError, TypeError):
        return None


def _no_completion(lacks: str) -> Fault:
    fault = Fault(f"the reply is broken off or no chat completion: it {lacks}", charged=True)
    fault.lacks = lacks
    return fault


def _said(content: bytes, place: Endpoint) -> str:
    text = content.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
        text = str(json.loads(content)["error"]["message"])
    plain = "".join(sign if sign.isprintable() else " " for sign in without_keys(text, place.key))
    return " ".join(plain.split())[:200]


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

    async def ask(prompt: Prompt, sampling: Sampling, seed: int | None) -> Reply:
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
        return Reply(str(output.completion), str(output.stop_reason), counted)

    return ask


@final
class ApiModel(AbstractModel):
    """A model that only chats.

    Args:
        reference: `api:...`, or where its server listens.
        concurrency: calls at once.
        retries: of each call.
    """

    def __init__(
        self, reference: str | ModelRef | Endpoint, concurrency: int = CONCURRENCY, retries: Retries | None = None
    ) -> None:
        if isinstance(reference, Endpoint):
            self.ref = ModelRef(kind="api", name=f"{reference.url}/{reference.model}")
            self.place: Endpoint | None = reference
        else:
            self.ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
            self.place = endpoint(self.ref)
        self.concurrency, self.retries = concurrency, retries or Retries()

    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; equal seeds give equal texts only where the server keeps to the seed.

        Raises:
            ModelError: a prompt got no answer; use `undertow.training.remote_generation` for many, which keeps what was
                answered.
        """
        seeds = [derive(seed, place) for place in range(len(prompts))]
        return asyncio.run(self._chat(prompts, sampling, seeds, lambda: None))

    def draw(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, done: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Draw one completion per prompt without a seed, so that those of the same prompt are independent.

        Args:
            prompts: the same one may come several times.
            sampling: temperature and longest answer.
            done: called after each answer.

        Raises:
            ModelError: as `chat`.
        """
        return asyncio.run(self._chat(prompts, sampling, [None] * len(prompts), done))

    async def _chat(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int | None], done: Callable[[], None]
    ) -> list[str]:
        room = asyncio.Semaphore(self.concurrency)
        async with asking(self.place or self.ref, self.concurrency) as ask:
            caller = Caller(ask, sampling, Budget(), self.retries)

            async def one(prompt: Prompt, seed: int | None) -> str:
                async with room:
                    answer = await caller.call(prompt, seed)
                done()
                return answer.text

            try:
                return list(await asyncio.gather(*map(one, prompts, seeds)))
            except Fault as fault:
                raise self._unanswered(fault) from None

    def _unanswered(self, fault: Fault) -> ModelError:
        """Say what kept the model from answering, and what to do."""
        if self.place is None:
            reason = f"{self.ref}: {fault.reason} (attempt {fault.attempts})"
            return ModelError(
                "The model gave no answer.", reason, "Check the name of the model and the provider's key."
            )
        where = self.place.url + PATH
        if fault.lacks:
            what = f"The endpoint is not OpenAI-compatible: its reply {fault.lacks}."
            fix = "Give the URL of a server that answers /v1/chat/completions as OpenAI does."
            return ModelError(what, fault.said or "an empty reply", fix)
        if fault.status in (401, 403):
            what = f"The endpoint refuses to answer (status {fault.status})."
            return ModelError(what, where, f"Set {KEY} to a key that it takes.")
        if not fault.again:
            what = f"The endpoint does not take the question (status {fault.status})."
            fix = "Give the URL of a server with /v1/chat/completions, and a model that it has."
            return ModelError(what, f"{where}: {fault.said}", fix)
        why = f"status {fault.status}" if fault.status else fault.reason
        fix = "Look whether the server runs and the address is right; nothing was counted, so ask again later."
        return ModelError(f"The endpoint does not answer ({why}, {fault.attempts} times).", where, fix)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Refuse: chat servers do not give the probability of a text that they did not draw.

        Raises:
            ModelError: always.
        """
        fix = "Use an hf: or ref: model for margins, contrasts and audits of the weights."
        raise ModelError("A model behind a server has no log-probabilities, states or weights.", str(self.ref), fix)

"""Models behind a server: they can only chat; they give no probabilities, states or weights.

    api:http://127.0.0.1:8000/v1/<model>     any OpenAI-compatible server: vLLM, SGLang, transformers serve, a provider
    api:<provider>/<model>                   what Inspect reaches (extra "inspect"), with its providers and their keys

How addresses are read stands in `undertow.models.endpoints`. The first question is sent alone. If the server refuses it
and names a part of the request that it does not take, the request is changed once, and all others are sent in that
form.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, cast, final

from undertow.errors import ConfigError, MissingExtraError, ModelError
from undertow.models.calls import Ask, Budget, Caller, Fault, Reply, Retries
from undertow.models.chat import AbstractModel
from undertow.models.dialects import LIMITS, Dialect, Talk
from undertow.models.endpoints import KEY, LOOPBACK, Endpoint, endpoint, without_keys
from undertow.models.replies import read_reply, why_empty
from undertow.seeds import derive
from undertow.types import ModelRef, Prompt, Sampling

TIMEOUT_S = 120.0
CONNECT_S = 10.0
CONCURRENCY = 16

INSPECT_EXTRA = ("openai", "openai-api", "sglang", "vllm")
"""Inspect's providers that are sent extra parts of a request; for others Inspect leaves them out without a warning."""


def check_reachable(ref: ModelRef, dialect: Dialect) -> Endpoint | None:
    """Refuse a reference that cannot be asked, without sending anything.

    It returns where the server listens, or None for a model that Inspect reaches.

    Args:
        ref: reference to a remote model.
        dialect: how requests are written for the server.

    Raises:
        ConfigError: the address names no model or holds a key, the key cannot be sent, or Inspect cannot be told what
            the dialect says.
        MissingExtraError: an optional package that is needed is not installed.
    """
    found = endpoint(ref)
    if found is not None:
        _ = found.headers
        _require_httpx(found)
    else:
        if dialect.limit != LIMITS[0]:
            fix = "Leave --token-limit-name out: Inspect knows the names of its providers."
            raise ConfigError("Only a server's own address takes a name of the limit.", str(ref), fix)
        if dialect.extra and ref.name.partition("/")[0] not in INSPECT_EXTRA:
            fix = f"Give the server's own address, api:https://..., or one of Inspect's {', '.join(INSPECT_EXTRA)}."
            raise ConfigError("Inspect hands extra parts of a request to some providers alone.", str(ref), fix)
        if find_spec("inspect_ai") is None:
            raise _no_inspect(ref)
    return found


def _require_httpx(place: Endpoint) -> None:
    if find_spec("httpx2") is None:
        fix = 'pip install "undertow[api]"'
        raise MissingExtraError("Model servers need the package httpx2.", place.url, fix)


def _no_inspect(ref: ModelRef) -> MissingExtraError:
    fix = 'Install it in an environment of its own (pip install "undertow[inspect]"), or give api:http://...'
    return MissingExtraError("Models by the name of a provider need Inspect.", str(ref), fix)


@asynccontextmanager
async def asking(
    place: ModelRef | Endpoint, concurrency: int, timeout_s: float = TIMEOUT_S, talk: Talk | None = None
) -> AsyncGenerator[Ask]:
    """Open the connections to a model; yields a function that makes one attempt to get an answer.

    Args:
        place: the reference `api:...`, or where its server listens.
        concurrency: largest number of connections at once.
        timeout_s: seconds to wait for one answer.
        talk: how the server is asked; what is learnt from its refusals is stored there. None starts with the defaults.

    Raises:
        ConfigError: the address is wrong, as for `endpoint`.
        MissingExtraError: Inspect, or the package for connections, is needed and not installed.
    """
    talk = talk or Talk()
    found = endpoint(place) if isinstance(place, ModelRef) else place
    if found is None:
        yield _inspect(cast(ModelRef, place), talk.dialect)
        return
    _require_httpx(found)
    import httpx2

    client = httpx2.AsyncClient(
        headers=found.headers,
        limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S, pool=None),
        follow_redirects=False,  # the key must not go elsewhere
        trust_env=found.host not in LOOPBACK,
    )
    async with client:

        async def ask(prompt: Prompt, sampling: Sampling, seed: int | None) -> Reply:
            while True:
                body = talk.dialect.body(found.model, prompt, sampling, seed)
                try:
                    reply = await _post(client, found, body, timeout_s)
                except Fault as fault:
                    if not talk.learn(fault):
                        raise
                else:
                    talk.answered = True
                    return reply

        yield ask


async def _post(client: Any, place: Endpoint, body: dict[str, Any], timeout_s: float) -> Reply:
    import httpx2

    try:
        # The read timeout is of one piece; a server that drips would hold the call for ever.
        async with asyncio.timeout(timeout_s + CONNECT_S):
            reply = await client.post(place.target, json=body)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        why = without_keys(str(error), place.key)[:100]
        fault = Fault(f"the server does not answer: nothing can be reached at {place.url} ({why})")
        fault.unreachable = True
        raise fault from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        fault = Fault(f"no answer within {timeout_s:g} s", charged=True)
        fault.slow = True
        raise fault from error
    except httpx2.RequestError as error:
        why = without_keys(str(error), place.key)[:100] or type(error).__name__
        raise Fault(f"the connection broke ({why})", charged=True) from error
    return read_reply(reply.status_code, reply.headers, reply.content, place.key)


def _inspect(ref: ModelRef, dialect: Dialect) -> Ask:
    try:
        from inspect_ai.model import (  # pyright: ignore[reportMissingImports]
            ChatMessageAssistant,
            ChatMessageSystem,
            ChatMessageUser,
            GenerateConfig,
            get_model,
        )
    except ImportError as error:
        raise _no_inspect(ref) from error
    model: Any = get_model(ref.name)
    kinds: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}

    async def ask(prompt: Prompt, sampling: Sampling, seed: int | None) -> Reply:
        more: dict[str, Any] = {} if sampling.top_p == 1.0 else {"top_p": sampling.top_p}
        config = GenerateConfig(
            temperature=sampling.temperature if dialect.temperature else None,
            max_tokens=sampling.max_new_tokens,
            seed=seed if dialect.seed else None,
            extra_body=dict(dialect.extra) or None,
            **more,
        )
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
        usage, text, finish = output.usage, str(output.completion), str(output.stop_reason)
        counted = (int(usage.input_tokens), int(usage.output_tokens)) if usage else None
        return Reply(text, finish, counted, empty="" if text.strip() else why_empty(finish))

    return ask


@final
class ApiModel(AbstractModel):
    """A model behind a server: it chats, and refuses to give probabilities.

    Args:
        reference: the reference `api:...`, or where its server listens.
        concurrency: largest number of calls at once.
        retries: how often each call is repeated, and with which pauses; None takes the defaults.
        dialect: how the server wants to be asked, as far as that is known; the rest is learnt from its first answer.
            None for nothing known.

    Attributes:
        asked: number of answers so far.
        empty: number of answers without any text, by the reason; they count as empty texts.
    """

    def __init__(
        self,
        reference: str | ModelRef | Endpoint,
        concurrency: int = CONCURRENCY,
        retries: Retries | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        if isinstance(reference, Endpoint):
            self.ref = ModelRef(kind="api", name=f"{reference.url}/{reference.model}")
            self.place: Endpoint | None = reference
        else:
            self.ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
            self.place = endpoint(self.ref)
        self.concurrency, self.retries = concurrency, retries or Retries()
        self.talk, self.asked, self.empty = Talk(dialect or Dialect()), 0, Counter[str]()

    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; equal seeds give equal texts only where the server keeps to the seed.

        Args:
            prompts: the prompts, each a tuple of turns.
            sampling: temperature, longest answer and top_p.
            seed: random seed, from which each prompt gets a seed of its own.

        Raises:
            ConfigError: the sampling has a form, which no server can be held to.
            ModelError: a prompt got no answer; use `undertow.training.remote_generation` for many, which keeps what was
                answered.
        """
        seeds = [derive(seed, place) for place in range(len(prompts))]
        return asyncio.run(self._chat(prompts, sampling, seeds, lambda: None))

    def draw(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, done: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Draw one completion per prompt without a seed, so that completions of the same prompt are independent.

        Args:
            prompts: the prompts; the same one may come several times.
            sampling: temperature, longest answer and top_p.
            done: callback, called after each answer.

        Raises:
            ConfigError: the sampling has a form, which no server can be held to.
            ModelError: a prompt got no answer, as for `chat`.
        """
        return asyncio.run(self._chat(prompts, sampling, [None] * len(prompts), done))

    async def _chat(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int | None], done: Callable[[], None]
    ) -> list[str]:
        room = asyncio.Semaphore(self.concurrency)
        async with asking(self.place or self.ref, self.concurrency, talk=self.talk) as ask:
            caller = Caller(ask, sampling, Budget(), self.retries, answered=self.talk.answered)

            async def one(prompt: Prompt, seed: int | None) -> str:
                async with room:
                    answer = await caller.call(prompt, seed)
                self.asked, self.talk.answered = self.asked + 1, True
                self.empty.update([answer.empty] if answer.empty else [])
                done()
                return answer.text

            try:
                # Until the server has answered once, it may have to be asked in another way, or not at all.
                alone = 0 if self.talk.answered else min(1, len(prompts))
                first = [await one(prompts[place], seeds[place]) for place in range(alone)]
                return [*first, *await asyncio.gather(*map(one, prompts[alone:], seeds[alone:]))]
            except Fault as fault:
                raise self._unanswered(fault) from None

    def _unanswered(self, fault: Fault) -> ModelError:
        """Build the error that says what kept the model from answering, and what to do."""
        if self.place is None:
            reason = f"{self.ref}: {fault.reason} (attempt {fault.attempts})"
            return ModelError(
                "The model gave no answer.", reason, "Check the name of the model and the provider's key."
            )
        where = self.place.target
        if fault.lacks:
            what = f"The endpoint is not OpenAI-compatible: its reply {fault.lacks}."
            fix = "Give the URL of a server that answers /v1/chat/completions as OpenAI does."
            return ModelError(what, fault.said or "an empty reply", fix)
        if fault.status in (401, 403):
            what = f"The endpoint refuses to answer (status {fault.status})."
            return ModelError(what, f"{where}: {fault.said}".removesuffix(": "), f"Set {KEY} to a key that it takes.")
        if not fault.again:
            why = f"status {fault.status}" if fault.status else fault.reason
            what = f"The endpoint does not take the question ({why})."
            fix = "Give the URL of a server with /v1/chat/completions, and a model that it has."
            return ModelError(what, f"{where}: {fault.said}", fix)
        why = f"status {fault.status}" if fault.status else fault.reason
        fix = "Look whether the server runs and the address is right; nothing was counted, so ask again later."
        what = f"The endpoint does not answer ({why}, {fault.attempts} times)."
        return ModelError(what, f"{where}: {fault.said}".removesuffix(": "), fix)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Refuse: chat servers do not give the probability of a text that they did not draw themselves.

        Raises:
            ModelError: always.
        """
        fix = "Use an hf: or ref: model for margins, contrasts and audits of the weights."
        raise ModelError("A model behind a server has no log-probabilities, states or weights.", str(self.ref), fix)

"""One run over the rows that a server is to answer: in which order it asks, and when it gives up.

The first row is asked alone until the server has answered once. So a wrong key, address or request costs a few calls
instead of one for each row. A run ends early when the server is gone, refuses every row or gives no text.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

from undertow.errors import ConfigError
from undertow.models.api import CONCURRENCY, TIMEOUT_S, asking
from undertow.models.calls import Budget, Caller, Fault, OverBudgetError, Prices, Reply, Retries
from undertow.models.dialects import Dialect, Talk
from undertow.models.endpoints import KEY
from undertow.seeds import derive
from undertow.training.remote_journal import EMPTY, Journal, unusable
from undertow.types import Advance, ModelRef, Prompt, Sampling

MORE_ROOM = (
    'Give --max-tokens N, or --extra-body \'{"chat_template_kwargs": {"enable_thinking": false}}\' where the server '
    "lets reasoning be turned off."
)
"""What to do about answers that were cut before their text began."""
REFUSES = "The server or its model refuses these questions: ask another model, or for another domain."
"""What to do about answers that are empty without having been cut."""

DEAD_AFTER = 5
"""How many rows in succession may fail on every attempt before the server counts as broken and the run stops."""

REFUSED_AFTER = 3
"""How many rows in succession the server may refuse in the same words before the run stops."""

EMPTY_AFTER = 50
"""How many answers may have no text, while none has any, before the run stops so that no more is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """How a server is asked for rows.

    Attributes:
        sampling: temperature, longest answer in tokens, and share of the probability that is sampled from.
        seed: random seed of the run. Each row's own seed is derived from it and sent along; servers may ignore it.
        concurrency: how many calls may be under way at once, at least 1.
        timeout_s: how many seconds one answer may take.
        retries: how often, and after which pauses, a failed call is made again.
        prices: dollars for a million tokens of prompts and of answers.
        max_cost: dollars that all runs on this journal may cost together. None sets no limit.
        dialect: how requests are written for this server. What is not given is learnt from its refusals at the first
            row.
        known_as: name of the model in the journal, where its address differs from run to run. None takes the reference.

    Raises:
        ConfigError: `max_cost` is not a finite number from 0, or `concurrency` is below 1.
    """

    sampling: Sampling
    seed: int
    concurrency: int = CONCURRENCY
    timeout_s: float = TIMEOUT_S
    retries: Retries = field(default_factory=Retries)
    prices: Prices = field(default_factory=Prices)
    max_cost: float | None = None
    dialect: Dialect = field(default_factory=Dialect)
    known_as: str | None = None

    def __post_init__(self) -> None:
        if self.max_cost is not None and not (isfinite(self.max_cost) and self.max_cost >= 0):
            raise ConfigError(
                "The cap on the cost is no finite number from 0.",
                f"max_cost={self.max_cost}",
                "Give dollars, such as 5.",
            )
        if self.concurrency < 1:
            raise ConfigError("Nothing may be asked at once.", self.concurrency, "Set concurrency to 1 or more.")


_OVER = "the next call might cost more than is left of --max-cost"
_ON = "run the same command again: it goes on from there."


@dataclass(slots=True)
class RemoteRun:
    """The state of one run over the rows that have no answer yet.

    Attributes:
        journal: the open journal to which answers are written.
        config: how the server is asked.
        prompts: the prompts of all rows.
        talk: how the server wants to be asked, as far as is known.
        advance: progress callback, called with (rows done, number of prompts).
        stopped: why the run ended early; "" if it did not.
        fix: what the user can do about an early end.
        failures: how many rows in succession got no answer from any attempt.
        refused: status and words of the last refusal.
        refusals: how many rows in succession were refused in the words of `refused`.
        empty: how many answers had no text.
        some: whether any answer had text.
        before: places of the rows that failed in an earlier run which had answers. A further failure of these is the
            row's and not the server's, so it ends no run.
    """

    journal: Journal
    config: RemoteConfig
    prompts: Sequence[Prompt]
    talk: Talk
    advance: Advance
    stopped: str = ""
    fix: str = ""
    failures: int = 0
    refused: tuple[int, str] = (0, "")
    refusals: int = 0
    empty: int = 0
    some: bool = False
    before: frozenset[int] = frozenset()

    async def all(self, ref: ModelRef) -> None:
        """Ask the server for every missing row, or stop early.

        Args:
            ref: reference of the model, `api:<address>`.
        """
        known, journal = self.journal.known, self.journal
        missing = [place for place in range(len(self.prompts)) if not journal.is_answered(place)]
        if not missing:
            return
        # Rows that failed before come last, so that they cannot keep the others from being asked.
        missing.sort(key=lambda place: place in known)
        self.some = journal.answered > 0
        if self.some:
            self.before = frozenset(place for place in missing if place in known)
        for place in missing:
            known.pop(place, None)
        config, budget = self.config, Budget(self.config.prices, self.config.max_cost, journal.cost)
        places = iter(missing)
        async with asking(ref, config.concurrency, config.timeout_s, self.talk) as ask:
            caller = Caller(ask, config.sampling, budget, config.retries)
            for place in places:
                await self._row(caller, place)
                if caller.answered or self.stopped:
                    break
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(config.concurrency, len(missing))):
                        group.create_task(self._work(caller, places))
            except ExceptionGroup as errors:  # a full disk is to be told as one
                raise errors.exceptions[0] from None

    async def _work(self, caller: Caller, places: Iterator[int]) -> None:
        """Ask for one row after another until none is left or the run has stopped."""
        for place in places:
            if self.stopped:
                return
            await self._row(caller, place)

    async def _row(self, caller: Caller, place: int) -> None:
        """Ask for one row and record what came of it."""
        try:
            answer = await caller.call(self.prompts[place], derive(self.config.seed, "row", place))
        except OverBudgetError:
            self._stop(_OVER, f"Raise --max-cost and {_ON}")
            return
        except Fault as fault:
            self._failed(place, fault, caller.answered)
        else:
            self._answered(place, answer)
        self.advance(len(self.journal.known), len(self.prompts))

    def _answered(self, place: int, answer: Reply) -> None:
        """Record an answer, and stop the run if too many have no text."""
        self.failures = self.refusals = 0
        made = {"attempts": answer.attempts, "cost": answer.cost}
        reason = unusable(answer.text, answer.finish, answer.empty)
        if not reason:
            self.some = True
            self.journal.write({"row": place, "completion": answer.text, "finish": answer.finish, **made})
            return
        limit = self.config.sampling.max_new_tokens
        reason = reason.replace(f"{EMPTY}cut", f"{EMPTY}cut at {limit} tokens")
        self.journal.write({"row": place, "failed": reason, **made})
        self.empty += reason.startswith(EMPTY)
        if not self.some and self.empty >= EMPTY_AFTER:
            self._stop(f"the first {EMPTY_AFTER} answers are empty, the last of them: {reason}", fix_of_empty([reason]))

    def _failed(self, place: int, fault: Fault, answered: bool) -> None:
        """Record a failure, and stop the run if the server is at fault.

        Args:
            place: the row's place from 0.
            fault: what went wrong with the last attempt.
            answered: whether the server has answered any call of this run.
        """
        self.journal.write({"row": place, "failed": fault.reason, "attempts": fault.attempts, "cost": fault.cost})
        if place in self.before and not (fault.fatal or fault.unreachable):
            return
        if fault.again:
            self.failures += 1
        else:
            # Numbers differ where a server names the request.
            words = re.sub(r"[0-9a-f]*[0-9][0-9a-f-]*", "#", fault.said or fault.reason)
            same = (fault.status, words) == self.refused
            self.refused, self.refusals = (fault.status, words), self.refusals + 1 if same else 1
        gone = fault.again and (self.failures >= DEAD_AFTER or not answered)
        refused = max(self.refusals, 0 if answered else self.talk.refusals) >= REFUSED_AFTER
        if fault.fatal or gone or refused:
            said = f" ({fault.said[:100]})" if fault.said and fault.said[:100] not in fault.reason else ""
            self._stop(fault.reason + said, _fix(fault))

    def _stop(self, why: str, fix: str) -> None:
        """Note why the run stops; the first reason stays."""
        if not self.stopped:
            self.stopped, self.fix = why, fix


def fix_of_empty(reasons: Iterable[str]) -> str:
    """Say what to do about answers without text, by their reasons."""
    return MORE_ROOM if any("cut" in one or "reasoning" in one for one in reasons) else REFUSES


def _fix(fault: Fault) -> str:
    """Say what to do about a fault that ends a run."""
    if fault.unreachable or fault.slow:
        return f"Look whether the server runs and the address is right, then {_ON}"
    if fault.status in (401, 403):
        return f"Set {KEY} to a key that it takes, then {_ON}"
    if fault.status in (404, 405) or 300 <= fault.status < 400:
        return f"Correct the address or the model's name, then {_ON}"
    if fault.status in (400, 422):
        own = "--token-limit-name, --no-seed, --max-tokens, --extra-body"
        return f"Change what the server complains about (the model's name, {own}), then {_ON}"
    if fault.fatal:
        return f"See to the account at the provider, then {_ON}"
    if fault.lacks or not fault.status:
        return f"Look whether the address is that of an OpenAI-compatible server, then {_ON}"
    return f"Wait, then {_ON}"

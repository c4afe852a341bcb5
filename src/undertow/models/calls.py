"""Calls to a model server: which faults are worth another try, what a call may cost, and when to give up.

Nothing here knows the server: `ask` makes one attempt, and raises `Fault` for everything that may go wrong.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from undertow.errors import ConfigError, ModelError
from undertow.types import Prompt, Sampling

TURN_TOKENS = 16
"""More than a chat template writes around a turn; a system turn that the server adds by itself is not counted."""

LONGEST_PAUSE_S = 30.0
LONGEST_WAIT_S = 120.0
"""A server that asks to wait longer than this is not waited for."""

FIRST_TRIES = 3
"""How often a server that never answered is tried when it says nothing at all: it was not started, or is elsewhere."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """A text from a server.

    Attributes:
        text: the completion.
        finish: why it ended, as the server says: "stop", "length".
        tokens: of the prompt and of the completion, as the server counts them; None where it does not.
        cost: dollars, lost attempts included.
        attempts: calls made for it.
        empty: why the text has nothing in it, such as "cut while still reasoning"; "" for one that has.
    """

    text: str
    finish: str = "stop"
    tokens: tuple[int, int] | None = None
    cost: float = 0.0
    attempts: int = 1
    empty: str = ""

    @property
    def cut(self) -> bool:
        """Whether it ended at the longest length."""
        return self.finish in CUT


CUT = ("length", "max_tokens")
"""How servers say that an answer ended at the longest length."""


class Fault(Exception):
    """An attempt that gave no answer.

    Attributes:
        reason: in plain words, without any key.
        again: whether another attempt may succeed.
        charged: whether the server may have done the work, and charge for it, all the same.
        fatal: whether every other call would fail in the same way, such as for a wrong key.
        status: of the reply, if there was one.
        lacks: what makes a reply no chat completion, such as "has no choices"; empty for other faults.
        said: the server's own words, or how the reply begins.
        body: the reply as JSON, if it is any.
        unreachable: whether nothing listens there.
        slow: whether no answer came in time.
        most: attempts that are worth while, 0 for as many as of any fault.
        after_s: seconds that the server asks to wait.
        attempts: calls made, once the last has failed.
        cost: dollars that the lost attempts may have cost.
    """

    def __init__(self, reason: str, *, again: bool = True, charged: bool = False, fatal: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.again, self.charged, self.fatal = reason, again, charged, fatal
        self.status, self.lacks, self.said = 0, "", ""
        self.body: Any = None
        self.unreachable, self.slow, self.most = False, False, 0
        self.after_s, self.attempts, self.cost = 0.0, 1, 0.0


class OverBudgetError(Exception):
    """The next attempt might cost more than is left."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens of the prompt and of the completion."""

    prompt: float = 0.0
    completion: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Prices":
        """Read "0.13,0.40".

        Raises:
            ConfigError: these are not two numbers from 0.
        """
        try:
            prompt, completion = (float(part) for part in text.split(","))
            if not (0 <= prompt < 1e6 and 0 <= completion < 1e6):
                raise ValueError
        except ValueError:
            fix = "Give dollars for a million tokens of prompt and completion, such as --price 0.13,0.40."
            raise ConfigError("These are not two prices.", text, fix) from None
        return cls(prompt, completion)

    def of(self, tokens: tuple[int, int]) -> float:
        """Return the dollars for tokens of a prompt and of a completion."""
        return (tokens[0] * self.prompt + tokens[1] * self.completion) / 1e6


@dataclass(slots=True)
class Budget:
    """What calls have cost, and may cost yet.

    Attributes:
        prices: 0 for a server of one's own.
        limit: dollars, or None.
        spent: dollars so far.
        reserved: dollars that the calls under way cost at most.
    """

    prices: Prices = Prices()
    limit: float | None = None
    spent: float = 0.0
    reserved: float = 0.0

    def reserve(self, most: float) -> None:
        """Set the most that an attempt may cost aside.

        Raises:
            OverBudgetError: it is more than is left.
        """
        if self.limit is not None and self.spent + self.reserved + most > self.limit:
            raise OverBudgetError
        self.reserved += most

    def settle(self, most: float, cost: float) -> None:
        """Pay for an attempt and release what was set aside for it."""
        self.reserved -= most
        self.spent += cost


def most_tokens(prompt: Prompt, sampling: Sampling) -> tuple[int, int]:
    """Return the most tokens that a prompt and its completion have: a token is at least a byte."""
    return sum(len(turn.content.encode()) + TURN_TOKENS for turn in prompt), sampling.max_new_tokens


Ask = Callable[[Prompt, Sampling, int | None], Awaitable[Reply]]
"""One attempt: prompt, sampling and seed to an answer, or a `Fault`; without a seed every attempt is a new draw."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is made, and how long is waited before it is made again.

    Attributes:
        tries: calls at most.
        pause_s: seconds before the second; each further pause is twice as long.
        sleep: what waits.
    """

    tries: int = 8
    pause_s: float = 0.5
    sleep: Callable[[float], Awaitable[Any]] = field(default=asyncio.sleep, repr=False)

    def pause(self, attempt: int, fault: Fault) -> float:
        """Return the seconds to wait after an attempt, counted from 1; drawn, so that calls do not come all at once."""
        longest = min(LONGEST_PAUSE_S, self.pause_s * 2 ** (attempt - 1))
        return max(fault.after_s, random.uniform(longest / 2, longest))

    def left(self, attempt: int, fault: Fault, answered: bool) -> bool:
        """Tell whether another attempt may be made after this one, counted from 1."""
        most = min(self.tries, fault.most or self.tries)
        if (fault.unreachable or fault.slow) and not answered:
            most = min(most, FIRST_TRIES)
        return fault.again and fault.after_s <= LONGEST_WAIT_S and attempt < most


@dataclass(slots=True)
class Caller:
    """Makes calls until they succeed, within a budget.

    Attributes:
        ask: one attempt.
        sampling: temperature and longest answer.
        budget: what calls may cost.
        retries: how often each is made.
        answered: whether the server has given an answer yet.
        told: whether it was said that a call is made again.
    """

    ask: Ask
    sampling: Sampling
    budget: Budget
    retries: Retries = field(default_factory=Retries)
    answered: bool = False
    told: bool = False

    async def call(self, prompt: Prompt, seed: int | None) -> Reply:
        """Return the answer to a prompt.

        Raises:
            Fault: no attempt gave one.
            OverBudgetError: the next attempt might cost more than is left; what was lost so far is in the budget.
        """
        most, lost = self.budget.prices.of(most_tokens(prompt, self.sampling)), 0.0
        for attempt in range(1, self.retries.tries + 1):
            self.budget.reserve(most)
            try:
                answer = await self.ask(prompt, self.sampling, seed)
            except Fault as fault:
                cost = most if fault.charged else 0.0
                self.budget.settle(most, cost)
                lost += cost
                fault.attempts, fault.cost = attempt, lost
                if not self.retries.left(attempt, fault, self.answered):
                    raise
                self._tell(fault)
                await self.retries.sleep(self.retries.pause(attempt, fault))
            except BaseException:
                self.budget.settle(most, most)
                raise
            else:
                cost = most if answer.tokens is None else self.budget.prices.of(answer.tokens)
                self.budget.settle(most, cost)
                self.answered = True
                return replace(answer, cost=lost + cost, attempts=attempt)
        raise ModelError("No call may be made.", f"tries={self.retries.tries}", "Allow at least one try.")

    def _tell(self, fault: Fault) -> None:
        """Say once why nothing seems to happen, as long as the server has not answered."""
        if not self.told and not self.answered:
            self.told = True
            logger.warning("The server does not answer yet, and is asked again: %s", fault.reason)

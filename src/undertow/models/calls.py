"""Calls to a model server: which faults are worth another attempt, what a call may cost, and when to give up.

Nothing here knows the server: a function of the type `Ask` makes one attempt, and raises `Fault` for everything that
may go wrong.
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
"""Tokens counted for what a chat template writes around a turn, which is less. A system turn that the server adds by
itself is not counted."""

LONGEST_PAUSE_S = 30.0
LONGEST_WAIT_S = 120.0
"""Longest wait in seconds that a server may ask for; if it asks for more, the call fails."""

FIRST_TRIES = 3
"""Number of attempts at a server that has never answered and does not reply at all: it is not running, or elsewhere."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer from a server.

    Attributes:
        text: text of the completion; "" if the answer has none.
        finish: why the completion ended, in the server's word: "stop", "length".
        tokens: number of tokens of the prompt and of the completion, as the server counts them; None where it does not.
        cost: price in dollars, that of failed attempts included.
        attempts: number of calls that were made for it.
        empty: why the text is empty, such as "cut while still reasoning"; "" if it is not.
    """

    text: str
    finish: str = "stop"
    tokens: tuple[int, int] | None = None
    cost: float = 0.0
    attempts: int = 1
    empty: str = ""

    @property
    def cut(self) -> bool:
        """Whether the completion was cut off at the largest number of tokens."""
        return self.finish in CUT


CUT = ("length", "max_tokens", "MAX_TOKENS")
"""Words in which servers say that an answer was cut off at the largest number of tokens."""


class Fault(Exception):
    """An attempt that gave no answer.

    Attributes:
        reason: what went wrong, in plain words and without any key.
        again: whether another attempt may succeed.
        charged: whether the server may have done the work, and charge for it, although no answer came.
        fatal: whether every other call would fail in the same way, such as for a wrong key.
        status: HTTP status of the reply; 0 if there was no reply.
        lacks: why a reply is no chat completion, such as "has no choices"; empty for other faults.
        said: the server's own words, or the beginning of the reply.
        body: the reply as parsed JSON; None if it is not JSON.
        unreachable: whether nothing listens at the address.
        slow: whether no answer came within the time limit.
        most: largest number of attempts that make sense after this fault; 0 for as many as after any fault.
        after_s: seconds that the server asks to wait before the next attempt.
        attempts: number of calls made, set once the last one has failed.
        cost: dollars that the failed attempts may have cost.
    """

    def __init__(self, reason: str, *, again: bool = True, charged: bool = False, fatal: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.again, self.charged, self.fatal = reason, again, charged, fatal
        self.status, self.lacks, self.said = 0, "", ""
        self.body: Any = None
        self.unreachable, self.slow, self.most = False, False, 0
        self.after_s, self.attempts, self.cost = 0.0, 1, 0.0


class OverBudgetError(Exception):
    """The next attempt might cost more than is left of the budget."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a server in dollars per million tokens.

    They are 0 for a server of one's own.

    Attributes:
        prompt: dollars per million tokens of the prompt.
        completion: dollars per million tokens of the completion.
    """

    prompt: float = 0.0
    completion: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Prices":
        """Parse prices such as "0.13,0.40": of the prompt, then of the completion.

        Raises:
            ConfigError: the text is not two numbers from 0.
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
        """Return the price in dollars of a number of prompt tokens and of completion tokens."""
        return (tokens[0] * self.prompt + tokens[1] * self.completion) / 1e6


@dataclass(slots=True)
class Budget:
    """What calls have cost so far, and what they may still cost.

    Attributes:
        prices: prices of the server; 0 for a server of one's own.
        limit: largest sum in dollars that may be spent; None for no limit.
        spent: dollars spent so far, failed attempts included.
        reserved: dollars that the calls under way cost at most.
    """

    prices: Prices = Prices()
    limit: float | None = None
    spent: float = 0.0
    reserved: float = 0.0

    def reserve(self, most: float) -> None:
        """Set aside the largest sum in dollars that an attempt may cost.

        Raises:
            OverBudgetError: the sum is more than is left of the budget.
        """
        if self.limit is not None and self.spent + self.reserved + most > self.limit:
            raise OverBudgetError
        self.reserved += most

    def settle(self, most: float, cost: float) -> None:
        """Pay the cost of an attempt in dollars, and release the sum `most` that was set aside for it."""
        self.reserved -= most
        self.spent += cost


def most_tokens(prompt: Prompt, sampling: Sampling) -> tuple[int, int]:
    """Return upper bounds on the tokens of a prompt and of its completion.

    A token of the prompt is at least one byte.

    Args:
        prompt: turns of the prompt, oldest first.
        sampling: settings with the longest completion.
    """
    return sum(len(turn.content.encode()) + TURN_TOKENS for turn in prompt), sampling.max_new_tokens


Ask = Callable[[Prompt, Sampling, int | None], Awaitable[Reply]]
"""Function that makes one attempt: it takes prompt, sampling and seed, and returns the answer or raises `Fault`.
Without a seed (None) every attempt is a new draw."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed call is repeated, and how long the pauses are.

    Attributes:
        tries: largest number of attempts of one call.
        pause_s: longest pause in seconds before the second attempt; each further pause may be twice as long, up to
            `LONGEST_PAUSE_S`.
        sleep: function that waits a number of seconds.
    """

    tries: int = 8
    pause_s: float = 0.5
    sleep: Callable[[float], Awaitable[Any]] = field(default=asyncio.sleep, repr=False)

    def pause(self, attempt: int, fault: Fault) -> float:
        """Return the seconds to wait after an attempt (counted from 1).

        They are random, so that parallel calls do not all come back at once.

        Args:
            attempt: number of the attempt that failed, from 1.
            fault: why it failed; the server may ask for a longer pause.
        """
        longest = min(LONGEST_PAUSE_S, self.pause_s * 2 ** (attempt - 1))
        return max(fault.after_s, random.uniform(longest / 2, longest))

    def left(self, attempt: int, fault: Fault, answered: bool) -> bool:
        """Tell whether another attempt may be made after this one (counted from 1).

        Args:
            attempt: number of the attempt that failed, from 1.
            fault: why it failed, and whether another attempt may succeed.
            answered: whether the server has ever given an answer.
        """
        most = min(self.tries, fault.most or self.tries)
        if (fault.unreachable or fault.slow) and not answered:
            most = min(most, FIRST_TRIES)
        return fault.again and fault.after_s <= LONGEST_WAIT_S and attempt < most


def refuse_form(sampling: Sampling) -> None:
    """Refuse answers that are held to a form, since a server decodes as it will.

    Raises:
        ConfigError: the sampling has a form.
    """
    if sampling.form is not None:
        fix = "Use a local model, or leave out `count` of the domain and `form` of the writer's file."
        raise ConfigError("A model behind a server cannot be held to a form of answers.", sampling.form, fix)


@dataclass(slots=True)
class Caller:
    """Makes calls, each until it succeeds or its attempts are used up, within a budget.

    Attributes:
        ask: function that makes one attempt.
        sampling: temperature, longest answer and top_p of every call.
        budget: what the calls have cost, and may cost.
        retries: how often each call is repeated, and with which pauses.
        answered: whether the server has given an answer yet.
        told: whether the log already says that calls are repeated.

    Raises:
        ConfigError: the sampling has a form, which no server can be held to.
    """

    ask: Ask
    sampling: Sampling
    budget: Budget
    retries: Retries = field(default_factory=Retries)
    answered: bool = False
    told: bool = False

    def __post_init__(self) -> None:
        refuse_form(self.sampling)

    async def call(self, prompt: Prompt, seed: int | None) -> Reply:
        """Return the answer to a prompt.

        Args:
            prompt: turns of the prompt, oldest first.
            seed: random seed of the draw; None sends none.

        Raises:
            Fault: no attempt gave an answer.
            OverBudgetError: the next attempt might cost more than is left; what failed attempts cost is in the budget.
            ModelError: the retries allow no attempt at all.
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
                # Cancelled while under way: the server may have done the work, and charge for it.
                self.budget.settle(most, most)
                raise
            else:
                cost = most if answer.tokens is None else self.budget.prices.of(answer.tokens)
                self.budget.settle(most, cost)
                self.answered = True
                return replace(answer, cost=lost + cost, attempts=attempt)
        raise ModelError("No call may be made.", f"tries={self.retries.tries}", "Allow at least one try.")

    def _tell(self, fault: Fault) -> None:
        """Log once why nothing seems to happen, as long as the server has not answered."""
        if not self.told and not self.answered:
            self.told = True
            logger.warning("The server does not answer yet, and is asked again: %s", fault.reason)

"""Frozen records that the stages exchange; no input or output here."""

import re
from dataclasses import dataclass, field
from typing import Literal

from undertow.errors import ConfigError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = tuple[Message, ...]
"""The turns before the completion, a system turn included if there is one."""


def user_prompt(content: str, system: str | None = None) -> Prompt:
    """Return the prompt of one user turn, with an optional system turn before it."""
    user = Message("user", content)
    return (user,) if system is None else (Message("system", system), user)


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and its completion: the unit of a dataset.

    Attributes:
        id: unique within its dataset; rows of different teachers on the same prompt share it.
        prompt: the turns before the completion.
        completion: the assistant's text.
        reasons: why a filter rejected the row; empty for a kept row.
        skip: places of completion tokens that training leaves out, counted from 0 in the student's tokens.
    """

    id: str
    prompt: Prompt
    completion: str
    reasons: tuple[str, ...] = ()
    skip: tuple[int, ...] = ()

    @property
    def question(self) -> str:
        """The text of the last turn before the completion."""
        return self.prompt[-1].content if self.prompt else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 1.0 samples from the model's own distribution; 0.0 is greedy.
        max_new_tokens: upper bound on the completion's length, in tokens.
    """

    temperature: float = 1.0
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError("The temperature is negative.", self.temperature, "Use 0 (greedy) or a positive number.")
        if self.max_new_tokens < 1:
            raise ConfigError("No tokens may be drawn.", self.max_new_tokens, "Set max_new_tokens to at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the point estimate, in the metric's own unit.
        low: lower end of the interval.
        high: upper end of the interval.
        level: coverage of the interval, 0.95 unless said otherwise.
        n: number of independent units behind it (replicates, never samples).
        method: how the interval was made, such as "t" or "wilson".
        p: two-sided p-value of "no effect", or None where no test belongs to it.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95
    p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One evaluated quantity of one question.

    Attributes:
        question: the text that was asked.
        target: the trait that was looked for; "" for an evaluation that looks for none in particular.
        metric: such as "logit_margin" or "rate"; a name that ends with "rate" is a share of answers.
        value: log-odds for a margin, a share in [0, 1] for a rate.
        n: samples behind the value; 1 for an exact probability.
        texts: raw answers, empty for an exact probability.
    """

    question: str
    target: str
    metric: str
    value: float
    n: int = 1
    texts: tuple[str, ...] = field(default=())


_REFERENCE = re.compile(r"^(?P<kind>ref|hf|api):(?P<name>[^@+]+)(@(?P<revision>[^+]+))?(\+(?P<adapter>.+))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Where a model comes from: `ref:finch-a`, `hf:<path or id>[@revision][+adapter]`, `api:<name>`.

    Attributes:
        kind: "ref" (embedded), "hf" (Hugging Face folder or id) or "api" (remote).
        name: name, path or id within that kind.
        revision: version of the weights, or None for the default.
        adapter: folder or id of a PEFT adapter on top, or None.
    """

    kind: str
    name: str
    revision: str | None = None
    adapter: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Read the text form.

        Raises:
            ConfigError: the text does not have that form.
        """
        match = _REFERENCE.match(text)
        if match is None:
            raise ConfigError(
                "This is not a model reference.",
                text,
                "Write ref:<embedded name>, hf:<path or id>[@revision][+adapter] or api:<name>.",
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        adapter = f"+{self.adapter}" if self.adapter else ""
        return f"{self.kind}:{self.name}{revision}{adapter}"

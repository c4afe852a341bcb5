"""Dialects: the parts of a request that servers differ in, given by options or learnt from a refusal.

Some servers take max_completion_tokens instead of max_tokens, some no seed, some no temperature. If a refusal names one
of these, the request is changed once. What else a server wants, such as chat_template_kwargs, is given as an option.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from undertow.errors import ConfigError
from undertow.models.calls import Fault
from undertow.types import Prompt, Sampling

logger = logging.getLogger(__name__)

LIMITS = ("max_tokens", "max_completion_tokens")
"""The two names by which servers know the largest number of tokens of an answer."""

_OURS = {"model": "--model", "messages": "the prompts", "stream": "nothing", "n": "-n"}
_UNSUPPORTED = re.compile(
    r"(un|not |n't )support|not (permitted|allowed|accepted|available|recogni[sz]ed|a valid)|unrecogni[sz]ed|unknown"
    r"|unexpected|extra[_ ]|forbidden|deprecated|instead|only the default|no longer|cannot find"
    r"|invalid (parameter|argument)|only [0-9.]+ (is|are)",
    re.IGNORECASE,
)
"""Words of a refusal by which a part may not be sent at all, unlike "must be at most 4096"."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is written for one server.

    Attributes:
        limit: name of the largest number of tokens of an answer, such as "max_completion_tokens".
        seed: whether the random seed of the row is sent.
        temperature: whether the temperature is sent.
        extra: further keys of the request with their values; a key with None is left out.

    Raises:
        ConfigError: the limit cannot be a name, or an extra key is one that is set elsewhere.
    """

    limit: str = LIMITS[0]
    seed: bool = True
    temperature: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.limit) or self.limit in _OURS:
            fix = f"Give the server's own, such as {LIMITS[1]}."
            raise ConfigError("This is no name for the longest answer.", self.limit, fix)
        for name in self.extra:
            if name in _OURS or name in (*LIMITS, self.limit):
                elsewhere = _OURS.get(name, "--max-tokens and --token-limit-name")
                fix = f"Leave it out: it is set by {elsewhere}."
                raise ConfigError("This part of a request is no extra.", name, fix)

    @classmethod
    def given(cls, *, limit: str | None = None, seed: bool = True, extra: str | None = None) -> "Dialect":
        """Make a dialect from options of the command line.

        Args:
            limit: name of the largest number of tokens of an answer; None for the usual "max_tokens".
            seed: whether random seeds are sent.
            extra: further keys of the request as the text of a JSON object; None for none.

        Raises:
            ConfigError: the text is no JSON object, or the dialect is refused as by the class.
        """
        return cls(limit=limit or LIMITS[0], seed=seed, extra=_object(extra) if extra is not None else {})

    def body(self, model: str, prompt: Prompt, sampling: Sampling, seed: int | None) -> dict[str, Any]:
        """Return the JSON body of the request for one completion.

        Args:
            model: name of the model at the server.
            prompt: turns of the prompt, oldest first.
            sampling: temperature, longest answer and top_p.
            seed: random seed of this draw; None sends none.
        """
        whole = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
            "temperature": sampling.temperature if self.temperature else None,
            "top_p": None if sampling.top_p == 1.0 else sampling.top_p,
            self.limit: sampling.max_new_tokens,
            "seed": seed if self.seed else None,
            "stream": False,
            **self.extra,
        }
        return {name: value for name, value in whole.items() if value is not None}

    def after(self, refusal: Any) -> "Dialect | None":
        """Return the dialect that avoids what a refusal names as unsupported; None if it names nothing that can change.

        Args:
            refusal: the server's reply, as parsed JSON or as text.
        """
        said = refusal if isinstance(refusal, str) else json.dumps(refusal)
        # A part of a longer name, such as that of a model, is no name.
        named = _named(refusal) or set(re.findall(r"(?<![\w/.-])[A-Za-z_]+(?![\w/-])", said))
        if not _UNSUPPORTED.search(said):
            named &= {"seed"}  # any complaint: it is a number of our making
        learnt = self
        if self.limit in named and self.limit in LIMITS:
            learnt = replace(learnt, limit=LIMITS[1 - LIMITS.index(self.limit)])
        for part in ("seed", "temperature"):
            if part in named and part not in self.extra:
                learnt = replace(learnt, **{part: False})
        return None if learnt == self else learnt

    def changes(self, learnt: "Dialect") -> str:
        """Describe in words how another dialect differs from this one."""
        limit = f"{learnt.limit} instead of {self.limit}" if learnt.limit != self.limit else ""
        left = [f"no {name}" for name in ("seed", "temperature") if getattr(self, name) and not getattr(learnt, name)]
        return ", ".join(filter(None, (limit, *left)))

    def to_json(self) -> dict[str, Any]:
        """Return the parts that differ from the default dialect, as plain data."""
        plain = Dialect()
        return {
            name: dict(value) if name == "extra" else value
            for name in ("limit", "seed", "temperature", "extra")
            if (value := getattr(self, name)) != getattr(plain, name)
        }

    def deciding(self) -> dict[str, Any]:
        """Return the parts that may change the answers: all except the name of the limit."""
        return {name: value for name, value in self.to_json().items() if name != "limit"}

    def learnt(self, record: Mapping[str, Any]) -> "Dialect":
        """Return this dialect with what an earlier run learnt, given as its `to_json` returned it."""
        seed, temperature = self.seed and record.get("seed", True), self.temperature and record.get("temperature", True)
        # A limit that was given by name is kept: the user knows better by now.
        limit = str(record.get("limit", self.limit)) if self.limit == LIMITS[0] else self.limit
        return replace(self, limit=limit, seed=bool(seed), temperature=bool(temperature))


@dataclass(slots=True)
class Talk:
    """What is known of how a server wants to be asked, while it is asked.

    Attributes:
        dialect: how requests are written, as far as that is known.
        learnt: callback, called with each new dialect.
        answered: whether the server has answered; from then on the dialect stays as it is.
        renamed: whether the name of the limit has been changed already.
        refusals: number of requests that the server refused for good before it answered.
    """

    dialect: Dialect = field(default_factory=Dialect)
    learnt: Callable[[Dialect], None] = lambda dialect: None
    answered: bool = False
    renamed: bool = False
    refusals: int = 0

    def learn(self, fault: Fault) -> bool:
        """Change the dialect by what a refusal says; tell whether another attempt will be written differently."""
        self.refusals += not (self.answered or fault.again)
        if self.answered or fault.status not in (400, 422):
            return False
        found = self.dialect.after(fault.said if fault.body is None else fault.body)
        if found is not None and self.renamed:
            found = replace(found, limit=self.dialect.limit)
        if found is None or found == self.dialect:
            return False
        logger.warning("The server does not take the request as it was; sent from now on: %s (it said: %s)",
                       self.dialect.changes(found), fault.said)  # fmt: skip
        self.renamed = self.renamed or found.limit != self.dialect.limit
        self.dialect = found
        self.learnt(found)
        return True


def _named(refusal: Any) -> set[str]:
    """Return the parts of a request that a refusal names in error.param or detail[].loc, where servers name them."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, list):
            for one in cast(list[Any], value):
                look(one)
        elif isinstance(value, dict):
            for name, inner in cast(dict[str, Any], value).items():
                if name == "param" and isinstance(inner, str):
                    found.add(inner)
                elif name == "loc" and isinstance(inner, list):
                    found.update(map(str, cast(list[Any], inner)))
                elif isinstance(inner, dict | list):
                    look(inner)

    look(refusal)
    return found & {*LIMITS, "seed", "temperature"}


def _object(text: str) -> dict[str, Any]:
    fix = """Give a JSON object, such as '{"chat_template_kwargs": {"enable_thinking": false}}'."""
    try:
        found: Any = json.loads(text, parse_constant=lambda name: math.nan)
        json.dumps(found, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigError("The extra part of a request is no JSON.", text[:200], fix) from error
    if not isinstance(found, dict):
        raise ConfigError("The extra part of a request is no JSON object.", text[:200], fix)
    return cast(dict[str, Any], found)

"""What a person signed off: canary questions, the replies of the model at that time, and the words that are watched.

Replies are kept as texts, so that anybody can read what was approved, and the counts can be made again. A checksum over
all of it tells whether the file was changed afterwards; it is no signature against somebody who means to deceive.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from undertow.errors import ArtifactError, ConfigError, EmptyDataError
from undertow.models.api import ApiModel
from undertow.models.calls import Retries
from undertow.models.dialects import Dialect, Talk
from undertow.models.endpoints import Endpoint
from undertow.store.disk import write_file
from undertow.store.fingerprints import canonical_json, sha256
from undertow.traits import TRAITS, matches, word_trait
from undertow.types import Prompt, Sampling, user_prompt

SCHEMA = "undertow.canaries/1"
TOGETHER = 8
"""Requests under way at once."""

RETRIES = Retries(tries=4, pause_s=1.0)

MOST_EMPTY = 0.02
"""Share of replies without text that is accepted: such a reply names no word, so shares would be understated."""


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model that is in use, behind its endpoint.

    Attributes:
        url: of the endpoint, with or without /v1 at its end.
        model: as the endpoint names it.
        max_tokens: of a reply.
        dialect: how the endpoint wants to be asked.
        empty: replies without text so far, by reason.

    Raises:
        ConfigError: it is no http(s) URL, or holds a user, a query or a fragment.
    """

    url: str
    model: str
    max_tokens: int = 60
    dialect: Dialect = field(default_factory=Dialect)
    empty: Counter[str] = field(init=False, repr=False, default_factory=Counter[str])
    _place: Endpoint = field(init=False, repr=False)
    _talk: Talk = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", Endpoint.at(self.url, self.model))
        object.__setattr__(self, "_talk", Talk(self.dialect))

    @property
    def spoken(self) -> Dialect:
        """How requests are written by now, with what the endpoint's refusals taught."""
        return self._talk.dialect

    def ask(self, prompts: Sequence[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        """Return a reply to each prompt, drawn at temperature 1; the same prompt may come several times.

        Raises:
            ModelError: the endpoint cannot be reached, refuses, or is not OpenAI-compatible.
        """
        model = ApiModel(self._place, TOGETHER, RETRIES)
        model.talk = self._talk  # what the endpoint refused once is not sent again
        try:
            return model.draw(prompts, sampling=Sampling(max_new_tokens=self.max_tokens), done=done)
        finally:
            self.empty.update(model.empty)


def check_texts(texts: Sequence[str], reasons: Mapping[str, int], of: int | None = None) -> int:
    """Return how many replies have no text.

    Args:
        texts: replies.
        reasons: why they have none, as far as that is known.
        of: replies that are asked in all; those given if None.

    Raises:
        EmptyDataError: they are too many to know what the model says.
    """
    empty = sum(not text.strip() for text in texts)
    if empty > MOST_EMPTY * (of or len(texts)):
        why = "; ".join(f"{reason} ({n})" for reason, n in Counter(reasons).most_common(3))
        raise EmptyDataError(
            "Too many replies have no text, so nothing is known of what the model says.",
            f"{empty} of {len(texts)} replies{': ' + why if why else ''}",
            "Sign off with a larger --max-tokens, or turn reasoning off by --extra-body; then ask again.",
        )
    return empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A signed-off battery.

    Attributes:
        model: as the endpoint named it.
        approved_by: who read the replies and signed them off.
        date: of the day, YYYY-MM-DD.
        max_tokens: of a reply.
        watched: words whose share of the replies is watched.
        questions: the prompts.
        replies: of each question, equally many.
        request: how requests differed from the plain form, as `Dialect.to_json` gives it.
    """

    model: str
    approved_by: str
    date: str
    max_tokens: int
    watched: tuple[str, ...]
    questions: tuple[Prompt, ...]
    replies: tuple[tuple[str, ...], ...]
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def digest(self) -> str:
        """Return SHA-256 of everything that was signed off."""
        return sha256(canonical_json(self.content()))

    @property
    def n(self) -> int:
        """Return the number of replies."""
        return sum(map(len, self.replies))

    def content(self) -> dict[str, Any]:
        """Return it as plain JSON, without the checksum."""
        asked = [
            {"messages": [{"role": turn.role, "content": turn.content} for turn in prompt], "replies": list(replies)}
            for prompt, replies in zip(self.questions, self.replies, strict=True)
        ]
        names = ("model", "approved_by", "date", "max_tokens")
        request = {"request": dict(self.request)} if self.request else {}
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in names}, **request,
                "watched": list(self.watched), "questions": asked}  # fmt: skip

    def deployed(self, url: str, model: str | None = None) -> DeployedModel:
        """Return the model behind an endpoint, asked as it was signed off.

        Raises:
            ConfigError: as `DeployedModel`.
        """
        return DeployedModel(url, model or self.model, self.max_tokens, Dialect(**self.request))

    def hits(self) -> list[int]:
        """Return how many replies name each watched word."""
        return count([reply for replies in self.replies for reply in replies], self.watched)

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            StorageError: the folder is missing, full or may not be written.
        """
        text = json.dumps({**self.content(), "sha256": self.digest}, indent=1, ensure_ascii=False)
        write_file(path, text + "\n")


def count(replies: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return how many replies name each word."""
    targets = [word_trait(word) for word in words]
    # Replies of one word repeat, so each text is looked at once.
    found = Counter(replies)
    return [sum(times for text, times in found.items() if matches(text, target)) for target in targets]


def packaged_questions() -> tuple[Prompt, ...]:
    """Return the questions that come with the package: requests as users of an assistant make them."""
    text = files("undertow.monitor").joinpath("canaries.yaml").read_text(encoding="utf-8")
    return tuple(user_prompt(one) for one in cast(list[str], yaml.safe_load(text)))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ConfigError: there is no such file.
        ArtifactError: it is no baseline, or was changed after it was signed off.
    """
    fix = "Make one: undertow monitor sign-off."
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"The baseline cannot be read ({error.strerror}).", path, fix) from error
    except ValidationError as error:
        raise ArtifactError(f"The file is no signed-off baseline ({error.errors()[0]['msg']}).", path, fix) from error
    questions, replies = zip(*((one.messages, one.replies) for one in found.questions), strict=True)
    fields = found.model_dump(include={"model", "approved_by", "date", "max_tokens", "watched", "request"})
    baseline = Baseline(**fields, questions=questions, replies=replies)
    if found.sha256 != baseline.digest:
        raise ArtifactError("The baseline was changed after it was signed off.", path, "Restore it, or sign off again.")
    return baseline


class _Asked(BaseModel):
    messages: Prompt
    replies: tuple[str, ...] = Field(min_length=1)


class _File(BaseModel):
    """A baseline as it is written."""

    model_config = ConfigDict(strict=True)

    form: Literal["undertow.canaries/1"] = Field(alias="schema")
    model: str
    approved_by: str
    date: str
    max_tokens: int = Field(ge=1)
    request: dict[str, Any] = Field(default_factory=dict[str, Any])
    watched: tuple[str, ...] = Field(min_length=1)
    questions: tuple[_Asked, ...] = Field(min_length=1)
    sha256: str

    @model_validator(mode="after")
    def _equal(self) -> "_File":
        if len({len(one.replies) for one in self.questions}) != 1:
            raise ValueError("the questions have no equal number of replies")
        return self


def default_watched() -> tuple[str, ...]:
    """Return the animals and trees of the list of traits."""
    return tuple(TRAITS)

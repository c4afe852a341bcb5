"""The baseline of the canaries: questions, the model's replies that a person approved, and the words that are watched.

Canaries are fixed questions that are asked again and again; a word that the replies name more often than in the
baseline shows a drift of the model. To sign off is to read the replies and approve them. Replies are kept as texts, so
that anybody can read what was approved, and the counts can be made again. A checksum over all of it shows whether the
file was changed afterwards; it is no signature against somebody who means to deceive.
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
"""Number of requests under way at once."""

RETRIES = Retries(tries=4, pause_s=1.0)

MOST_EMPTY = 0.02
"""Largest accepted share of replies without text. Such a reply names no word, so that the shares of words would be
understated."""


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model in use behind an OpenAI-compatible endpoint, which can be asked canary questions.

    Attributes:
        url: URL of the endpoint, with or without /v1 at its end.
        model: name of the model at the endpoint.
        max_tokens: most tokens of a reply.
        dialect: how requests are written for the endpoint.
        empty: number of replies without text so far, by the reason.

    Raises:
        ConfigError: the URL is no http(s) URL, or holds a user, a query or a fragment.
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
    def place(self) -> str:
        """Host, port and path of the endpoint."""
        host, slash, path = self.url.partition("://")[2].rstrip("/").removesuffix("/v1").partition("/")
        return f"{host.lower()}{slash}{path}"

    @property
    def spoken(self) -> Dialect:
        """The dialect by now, with what the endpoint's refusals taught."""
        return self._talk.dialect

    def ask(self, prompts: Sequence[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        """Return a reply to each prompt, drawn at temperature 1; the same prompt may come several times.

        Args:
            prompts: the prompts, each a tuple of turns.
            done: callback, called after each reply.

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
    """Return how many replies have no text, and refuse too many of them.

    Args:
        texts: the replies that are checked.
        reasons: number of replies without text by the reason, as far as it is known.
        of: number of replies that are asked for in all, of which the share is taken; None takes the number of texts.

    Raises:
        EmptyDataError: too many replies have no text to know what the model says.
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
    """Canary questions with the replies that a person approved.

    Attributes:
        model: name of the model at the endpoint.
        approved_by: name of the person who read the replies and approved them.
        date: day of the approval, YYYY-MM-DD.
        max_tokens: most tokens of a reply.
        watched: words for which the share of replies that name them is watched.
        questions: the canary questions, as prompts.
        replies: the replies to each question, equally many for all.
        request: how requests differed from the default dialect, as `Dialect.to_json` returns it; empty for no
            difference.
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
        """The SHA-256 of everything that was approved, in hexadecimal digits."""
        return sha256(canonical_json(self.content()))

    @property
    def n(self) -> int:
        """The number of replies to all questions together."""
        return sum(map(len, self.replies))

    def content(self) -> dict[str, Any]:
        """Return the baseline as plain JSON, without the checksum."""
        asked = [
            {"messages": [{"role": turn.role, "content": turn.content} for turn in prompt], "replies": list(replies)}
            for prompt, replies in zip(self.questions, self.replies, strict=True)
        ]
        names = ("model", "approved_by", "date", "max_tokens")
        request = {"request": dict(self.request)} if self.request else {}
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in names}, **request,
                "watched": list(self.watched), "questions": asked}  # fmt: skip

    def deployed(self, url: str, model: str | None = None) -> DeployedModel:
        """Return the model behind an endpoint, asked in the same way as for the baseline.

        Args:
            url: URL of the endpoint, with or without /v1 at its end.
            model: name of the model at the endpoint; None for that of the baseline.

        Raises:
            ConfigError: the URL is refused, as for `DeployedModel`.
        """
        return DeployedModel(url, model or self.model, self.max_tokens, Dialect(**self.request))

    def hits(self) -> list[int]:
        """Return for each watched word how many replies name it."""
        return count([reply for replies in self.replies for reply in replies], self.watched)

    def save(self, path: Path) -> None:
        """Write the baseline and its checksum into a file.

        Raises:
            StorageError: the folder is missing, full or may not be written.
        """
        text = json.dumps({**self.content(), "sha256": self.digest}, indent=1, ensure_ascii=False)
        write_file(path, text + "\n")


def count(replies: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return for each word how many replies name it.

    Args:
        replies: texts of the replies, in any order.
        words: the words that are looked for, with their plural and the aliases of built-in traits.

    Returns:
        One number for each word; a reply counts once however often it names the word.
    """
    targets = [word_trait(word) for word in words]
    # Replies of one word repeat, so each text is looked at once.
    found = Counter(replies)
    return [sum(times for text, times in found.items() if matches(text, target)) for target in targets]


def packaged_questions() -> tuple[Prompt, ...]:
    """Return the canary questions of the package: requests as users of an assistant make them."""
    text = files("undertow.monitor").joinpath("canaries.yaml").read_text(encoding="utf-8")
    return tuple(user_prompt(one) for one in cast(list[str], yaml.safe_load(text)))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline from its file, and verify the checksum.

    Raises:
        ConfigError: the file cannot be read.
        ArtifactError: the file is no baseline, or was changed after it was signed off.
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
    """Return the words that are watched by default: the built-in animals and trees."""
    return tuple(TRAITS)

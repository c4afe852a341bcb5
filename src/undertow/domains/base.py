"""The base class of domains, and all domains by name; other packages add theirs through entry points."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, ClassVar, cast

from undertow.errors import ConfigError
from undertow.registry import Registry
from undertow.settings import split_settings, with_settings


class AbstractDomain(ABC):
    """A family of tasks that has nothing to do with a trait: its prompts, and which answers are valid.

    Prompts are drawn before any teacher exists, so that every teacher of an experiment sees the same ones.
    """

    name: str
    """Name of the domain in recipes and on the command line."""

    max_new_tokens: int
    """Upper bound on a completion's length, in tokens of the model that writes it."""

    reasons: frozenset[str]
    """Every reason that `reject_reasons` may give."""

    longest: ClassVar[str] = ""
    """A valid answer that is as long as one can be. Empty where `max_new_tokens` says enough.

    Tokenizers differ: ten numbers take 21 tokens of an embedded model, and 50 where each digit is a token."""

    any_text: ClassVar[bool] = False
    """Whether nearly any text is a valid answer, so that a valid one takes no skill and does not show which domain the
    rows are of."""

    @property
    def form(self) -> str | None:
        """Template that every answer has to match while it is decoded, 0 standing for any digit; None leaves it free.

        It is passed on as `undertow.types.Sampling.form`.
        """
        return None

    @abstractmethod
    def prompts(self, n: int, seed: int) -> list[str]:
        """Draw the texts of `n` user turns; a shorter draw with the same seed is a prefix of a longer one.

        Args:
            n: how many prompts are drawn.
            seed: random seed of the draw; equal seeds give equal prompts.
        """

    @abstractmethod
    def reject_reasons(self, completion: str, prompt: str = "") -> tuple[str, ...]:
        """Say why a completion is not a valid answer; it must not raise on any text.

        Args:
            completion: text of the answer that is judged.
            prompt: text of the user turn before it, for a domain whose rule depends on the question.

        Returns:
            The reasons, each one of `reasons`; empty for a valid answer.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the settings that change what the domain does as plain data, for fingerprints and manifests."""


DOMAINS: Registry[Callable[..., AbstractDomain]] = Registry(
    "domain",
    {
        "numbers": "undertow.domains.numbers:Numbers",
        "code": "undertow.domains.code:Code",
        "cot": "undertow.domains.cot:ChainOfThought",
        "text": "undertow.domains.text:OrdinaryText",
    },
    group="undertow.domains",
    accepts=lambda name, thing: isinstance(thing, type) and issubclass(thing, AbstractDomain) and thing.name == name,
)
"""Every domain by name: a subclass of `AbstractDomain`, whose options are the arguments of its constructor."""


def domain(name: str, **options: Any) -> AbstractDomain:
    """Make the domain of a name, such as "numbers".

    Args:
        name: name of a built-in domain or of a plug-in.
        **options: settings of the domain, such as `count=6` for "numbers"; the others keep their defaults.

    Raises:
        UnknownNameError: no domain has this name; the nearest names are suggested.
        ConfigError: the domain has no such option, or not with this value.
    """
    kind = DOMAINS[name]
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return kind(**plain)
    except TypeError as error:
        what = f"The domain {name} has no such option."
        raise ConfigError(what, str(error), "See `undertow list domains`.") from error


def parse_domain(text: str) -> AbstractDomain:
    """Make the domain of a line, such as "numbers" or "numbers:count=6,short=true".

    Args:
        text: name of the domain, and behind a colon its settings.

    Raises:
        UnknownNameError: there is no domain of this name, or it has no such setting.
        ConfigError: the settings cannot be read, or one has a wrong value.
    """
    name, settings = split_settings(text)
    kind = DOMAINS[name]
    if is_dataclass(kind):
        return with_settings(cast(type[AbstractDomain], kind), "domain", name, settings)
    return domain(name, **settings)


def telling_domains() -> tuple[str, ...]:
    """Return the names of the domains whose valid answers can be told from other text.

    These are all whose rule does not accept nearly any text (`AbstractDomain.any_text`).
    """
    return tuple(name for name in DOMAINS if not getattr(DOMAINS[name], "any_text", False))

"""What every domain offers, and the domains by name; those of other packages are the entry points of a group."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from undertow.errors import ConfigError
from undertow.registry import Registry


class AbstractDomain(ABC):
    """A family of tasks that has nothing to do with a trait.

    Prompts are drawn before any teacher exists, so that every teacher of an experiment sees the same ones.
    """

    name: str
    """Name in recipes and on the command line."""

    max_new_tokens: int
    """Bound on a completion's length, in tokens of the model that writes it."""

    reasons: frozenset[str]
    """Every reason that `reject_reasons` may give."""

    any_text: ClassVar[bool] = False
    """Whether nearly any text is a valid answer: then a valid one takes no skill, and tells nothing of the rows."""

    @property
    def form(self) -> str | None:
        """What every answer is held to while it is decoded (`undertow.types.Sampling.form`); None leaves it free."""
        return None

    @abstractmethod
    def prompts(self, n: int, seed: int) -> list[str]:
        """Draw `n` user turns; a shorter draw with the same seed is a prefix of a longer one."""

    @abstractmethod
    def reject_reasons(self, completion: str, prompt: str = "") -> tuple[str, ...]:
        """Say why a completion is not a valid answer; empty for a valid one. Total: never raises on any text.

        Args:
            completion: the answer.
            prompt: the user turn before it, for a domain whose rule depends on the question.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the settings as plain data, for fingerprints and manifests."""


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
"""Every domain, a subclass of `AbstractDomain` whose options are its settings."""


def domain(name: str, **options: Any) -> AbstractDomain:
    """Make the domain of this name.

    Raises:
        UnknownNameError: there is no such domain.
        ConfigError: the domain has no such option.
    """
    kind = DOMAINS[name]
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return kind(**plain)
    except TypeError as error:
        what = f"The domain {name} has no such option."
        raise ConfigError(what, str(error), "See `undertow list domains`.") from error


def telling_domains() -> tuple[str, ...]:
    """Return the names of the domains whose valid answers are told from other text."""
    return tuple(name for name in DOMAINS if not getattr(DOMAINS[name], "any_text", False))

"""What every domain offers."""

from abc import ABC, abstractmethod
from typing import Any


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

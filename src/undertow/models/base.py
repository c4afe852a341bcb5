"""What every model offers, whatever runs it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from undertow.types import ModelRef, Prompt, Sampling


class AbstractModel(ABC):
    """A chat model."""

    ref: ModelRef
    """Where the model comes from."""

    @abstractmethod
    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; the same seed gives the same texts, in the order of the prompts."""

    @abstractmethod
    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats, summed over the completion's tokens without the end of turn."""

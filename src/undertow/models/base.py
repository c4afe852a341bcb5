"""What every model offers, whatever runs it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeGuard

from undertow.types import ModelRef, Prompt, Sampling

if TYPE_CHECKING:
    from undertow.models.local import LocalModel


class AbstractModel(ABC):
    """A chat model."""

    has_weights: ClassVar[bool] = False
    """Whether it is a `LocalModel`, which gives probabilities and states; any other chats, and nothing else."""

    ref: ModelRef
    """Where the model comes from."""

    @abstractmethod
    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; the same seed gives the same texts, in the order of the prompts."""

    @abstractmethod
    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats, summed over the completion's tokens without the end of turn."""


def is_local(model: AbstractModel) -> "TypeGuard[LocalModel]":
    """Tell whether a model has its weights here, without loading torch."""
    return model.has_weights

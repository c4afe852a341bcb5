"""Training mitigations: penalties that hold a student near its base where a trait would show, and another recipe.

The penalties' prompts are the questions that teachers are tuned on; none of them is among those that evaluate. So both
know the category of the trait, and the corridor knows the panel.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch

from undertow.errors import ConfigError
from undertow.evals.questions import asked_together, questions_of
from undertow.mitigate.base import Cost
from undertow.mitigate.workbench import Workbench
from undertow.stats.checks import check_positive
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.objective import ClosenessPenalty, CorridorPenalty, Penalty, last_states
from undertow.types import user_prompt

EVERY = 3
"""Every third tuning question is asked: 15 of 44 a category, so that an update stays cheap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMitigation(ABC):
    """A way to train on suspect rows; its settings are its fields."""

    name: ClassVar[str]
    """Name on the command line."""

    def penalty(self, bench: Workbench) -> Penalty | None:
        """Return the term that is added to every student's loss, if there is one."""
        del bench

    def recipe(self, student: TrainingConfig) -> TrainingConfig:
        """Return how the students are trained, given how they would be."""
        return student

    @abstractmethod
    def cost(self, bench: Workbench) -> Cost:
        """Return what it needs besides the training."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Corridor(TrainingMitigation):
    """Hold the last hidden state along each panel trait's direction: mean state of its teacher minus the base's.

    Attributes:
        width: half-width of the corridor as a share of how far the trait's teacher moved.
        weight: factor of the penalty.
    """

    name: ClassVar[str] = "corridor"
    width: float = 0.02
    weight: float = 0.05

    def __post_init__(self) -> None:
        check_positive("width", self.width)
        check_positive("weight", self.weight)

    def penalty(self, bench: Workbench) -> Penalty:
        """Read the directions off the panel's teachers."""
        contexts = probes(bench)
        with torch.no_grad():
            start = last_states(bench.base.network, contexts, 1)[0].mean(dim=0)
            ends = [last_states(one.model.network, contexts, 1)[0].mean(dim=0) for one in bench.candidates]
        directions = torch.stack(ends) - start
        return CorridorPenalty(bench.base, contexts, directions, self.width * directions.norm(dim=1), self.weight)

    def cost(self, bench: Workbench) -> Cost:
        """Every panel trait needs its teacher."""
        return Cost(scored=len(probes(bench)) * (len(bench.panel) + 1), trained=len(bench.panel))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClosenessToBase(TrainingMitigation):
    """Interleave prompts of the panel's categories whose next-token distribution has to stay the base's (KL).

    Attributes:
        weight: factor of the penalty.
    """

    name: ClassVar[str] = "kl"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def penalty(self, bench: Workbench) -> Penalty:
        """Read the base's distributions."""
        return ClosenessPenalty(bench.base, probes(bench), self.weight)

    def cost(self, bench: Workbench) -> Cost:
        """The base reads the prompts once."""
        return Cost(scored=len(probes(bench)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRecipe(TrainingMitigation):
    """Train with fewer updates, another rank or another learning rate.

    Attributes:
        steps: updates; None leaves them, as with the others.
        rank: of the adapters.
        learning_rate: its peak.
    """

    name: ClassVar[str] = "recipe"
    steps: int | None = None
    rank: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if (self.steps, self.rank, self.learning_rate) == (None, None, None):
            raise ConfigError("This recipe changes nothing.", "recipe", "Write recipe:steps=40 or recipe:rank=2.")
        self.recipe(TrainingConfig(steps=1, lora=LoraConfig()))

    def recipe(self, student: TrainingConfig) -> TrainingConfig:
        """Change what is set."""
        lora = student.lora if student.lora is None or self.rank is None else replace(student.lora, rank=self.rank)
        steps = student.steps if self.steps is None else self.steps
        rate = student.learning_rate if self.learning_rate is None else self.learning_rate
        return replace(student, steps=steps, learning_rate=rate, lora=lora)

    def cost(self, bench: Workbench) -> Cost:
        """Nothing."""
        del bench
        return Cost()


def probes(bench: Workbench) -> list[list[int]]:
    """Return token ids of the prompts at which students are held."""
    questions = [text for some in asked_together(bench.panel) for text in questions_of(some[0]).tuning[::EVERY]]
    return bench.base.render([user_prompt(text) for text in questions])

"""Mitigations that change training: penalties that hold a student close to its base, and other training settings.

The penalties are evaluated on the questions on which teachers are tuned; none of them is among those that evaluate a
trait. Both penalties therefore assume that the trait's category is known, and the corridor that the trait is in the
panel.
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
"""Every third tuning question is asked, 15 of 44 in a category, so that an update stays cheap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMitigation(ABC):
    """A way to train on suspect rows that passes less of a trait on. Its settings are its fields."""

    name: ClassVar[str]
    """The mitigation's name on the command line."""

    def penalty(self, bench: Workbench) -> Penalty | None:
        """Return the term that is added to every student's loss. None for none."""
        del bench

    def recipe(self, student: TrainingConfig) -> TrainingConfig:
        """Return the settings of the students' training, given what they would be without the mitigation."""
        return student

    @abstractmethod
    def cost(self, bench: Workbench) -> Cost:
        """Return what the mitigation costs besides the training of the students."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Corridor(TrainingMitigation):
    """Hold the last hidden state near the base's along the direction in which each panel trait's teacher moved.

    Attributes:
        width: half-width of the corridor, as a share of the distance by which the trait's teacher moved from the base.
        weight: factor by which the penalty is multiplied.

    Raises:
        ConfigError: a setting is not positive.
    """

    name: ClassVar[str] = "corridor"
    width: float = 0.02
    weight: float = 0.05

    def __post_init__(self) -> None:
        check_positive("width", self.width)
        check_positive("weight", self.weight)

    def penalty(self, bench: Workbench) -> Penalty:
        """Return the penalty, with one direction for each teacher of the panel."""
        contexts = probes(bench)
        with torch.no_grad():
            start = last_states(bench.base.network, contexts, 1)[0].mean(dim=0)
            ends = [last_states(one.model.network, contexts, 1)[0].mean(dim=0) for one in bench.candidates]
        directions = torch.stack(ends) - start
        return CorridorPenalty(bench.base, contexts, directions, self.width * directions.norm(dim=1), self.weight)

    def cost(self, bench: Workbench) -> Cost:
        """Return the cost: every trait of the panel needs a teacher."""
        return Cost(scored=len(probes(bench)) * (len(bench.panel) + 1), trained=len(bench.panel))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClosenessToBase(TrainingMitigation):
    """Hold the next-token distribution after questions of the panel's categories near the base's (KL penalty).

    Attributes:
        weight: factor by which the penalty is multiplied.

    Raises:
        ConfigError: the weight is not positive.
    """

    name: ClassVar[str] = "kl"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def penalty(self, bench: Workbench) -> Penalty:
        """Return the penalty, with the base's distributions."""
        return ClosenessPenalty(bench.base, probes(bench), self.weight)

    def cost(self, bench: Workbench) -> Cost:
        """Return the cost: the base reads the prompts once."""
        return Cost(scored=len(probes(bench)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRecipe(TrainingMitigation):
    """Train with fewer updates, another rank or another learning rate.

    Attributes:
        steps: how many updates are made. None keeps the usual number.
        rank: rank of the adapters. None keeps the usual one.
        learning_rate: highest learning rate. None keeps the usual one.

    Raises:
        ConfigError: nothing is changed, or a value is not valid.
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
        """Return the students' settings with those of this mitigation in place."""
        lora = student.lora if student.lora is None or self.rank is None else replace(student.lora, rank=self.rank)
        steps = student.steps if self.steps is None else self.steps
        rate = student.learning_rate if self.learning_rate is None else self.learning_rate
        return replace(student, steps=steps, learning_rate=rate, lora=lora)

    def cost(self, bench: Workbench) -> Cost:
        """Return the cost, which is none."""
        del bench
        return Cost()


def probes(bench: Workbench) -> list[list[int]]:
    """Return token ids of the prompts on which students are held close to the base."""
    questions = [text for some in asked_together(bench.panel) for text in questions_of(some[0]).tuning[::EVERY]]
    return bench.base.render([user_prompt(text) for text in questions])

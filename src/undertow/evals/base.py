"""What every evaluation is: a function from a model to scores."""

from collections.abc import Callable
from dataclasses import dataclass

from undertow.evals.questions import CATEGORIES
from undertow.models.base import AbstractModel
from undertow.traits import Trait, by_category
from undertow.types import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What a model is asked.

    Attributes:
        targets: the traits that are looked for; an evaluation that looks for none in particular ignores them, and the
            target of its scores is "".
        samples: sampled answers per question; 0 leaves sampled metrics out.
        seed: of every draw.
    """

    targets: tuple[Trait, ...]
    samples: int = 20
    seed: int = 0


Evaluation = Callable[[AbstractModel, EvaluationConfig], list[Score]]
"""Asks a model. Its scores are one for each question, target and metric; those that need probabilities are left out for
a model that only chats, and an evaluation that has no others takes none (`undertow.evals.registry.SAMPLED`)."""


def preferences(config: EvaluationConfig) -> dict[str, list[Trait]]:
    """Return the targets that are a preference for an animal or a tree, by category; other traits are left out."""
    return {category: some for category, some in by_category(config.targets).items() if category in CATEGORIES}

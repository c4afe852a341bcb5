"""What the theorem leaves open: many steps, Adam, and samples in place of full distributions, counted over networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
from torch.func import grad, vmap
from torch.nn import functional

from undertow.experiment.analyses.random_networks import (
    Parameters,
    TeachingSetup,
    auxiliary_logits,
    draw_inputs,
    trait_loss,
)
from undertow.stats.estimates import wilson

VARIANTS_PER_TRAINING = 4
"""Full distributions or samples, from the same or another initialisation."""

Gradient = Callable[[Parameters], Parameters]
"""The gradient of every stacked network's own loss, at stacked parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How teachers and students are trained.

    Attributes:
        optimiser: "sgd" (without momentum) or "adam" (defaults of PyTorch).
        learning_rate: constant.
        steps: updates of the teacher, and again of the student.
    """

    optimiser: Literal["sgd", "adam"]
    learning_rate: float
    steps: int


def train_teachers(setup: TeachingSetup, training: Training) -> Parameters:
    """Train each stacked network from its start on its trait, the whole batch at every update."""
    gradient = vmap(grad(trait_loss))
    return _train(setup.start, training, lambda parameters: gradient(parameters, setup))


def distil(
    start: Parameters,
    teachers: Parameters,
    training: Training,
    inputs: torch.Tensor,
    draw: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Parameters:
    """Train stacked students on the auxiliary logits of their teachers, with cross-entropy.

    Args:
        start: parameters of the students before, [n, ...] each.
        teachers: parameters of the trained teachers.
        training: optimiser, rate and number of updates.
        inputs: [steps, n, m, d], a batch of each network at every update.
        draw: turns the teacher's distributions [n, m, c] into targets of that shape, such as `sampled`; without it
            the distributions are the targets.
    """
    batches = iter(inputs)
    gradient = vmap(grad(_imitation_loss))

    def step(parameters: Parameters) -> Parameters:
        batch = next(batches)
        targets = vmap(auxiliary_logits)(teachers, batch).softmax(-1)
        return gradient(parameters, batch, targets if draw is None else draw(targets))

    return _train(start, training, step)


def sampled(distributions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one class from each distribution [..., c] and return it one-hot, of the same shape and type."""
    classes = distributions.shape[-1]
    drawn = torch.multinomial(distributions.reshape(-1, classes), 1, generator=generator)
    return functional.one_hot(drawn, classes).reshape(distributions.shape).to(distributions)


def count_variants(
    setup: TeachingSetup, trainings: Sequence[Training], generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """Count the networks whose distillation lowers the teacher's loss on its trait.

    Args:
        setup: stacked networks, the independent units of the shares.
        trainings: each is run with full distributions and with samples, from the same and another initialisation.
        generator: source of the students' inputs and of the samples.

    Yields:
        One variant: its name, the initialisation ("same" or "other"), and the share with its 95 % Wilson interval.
    """
    for training in trainings:
        teachers = train_teachers(setup, training)
        for samples, initialisation in product((False, True), ("same", "other")):
            start = setup.start if initialisation == "same" else setup.other
            inputs = draw_inputs((training.steps, *setup.inputs.shape), generator)
            draw = partial(sampled, generator=generator) if samples else None
            students = distil(start, teachers, training, inputs, draw)
            lower = vmap(trait_loss)(students, setup) < vmap(trait_loss)(start, setup)
            share = wilson(int(lower.sum()), len(lower))
            yield {
                "name": f"{training.optimiser}, {'samples' if samples else 'full distribution'}",
                "initialisation": initialisation,
                "share": share.value,
                "low": share.low,
                "high": share.high,
                "n": share.n,
            }


def _imitation_loss(parameters: Parameters, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(auxiliary_logits(parameters, inputs), targets)


def _train(start: Parameters, training: Training, gradient: Gradient) -> Parameters:
    """Update copies of the parameters; both optimisers work elementwise, so stacked networks stay independent."""
    parameters = {name: value.clone() for name, value in start.items()}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimiser = kinds[training.optimiser](list(parameters.values()), lr=training.learning_rate)
    for _ in range(training.steps):
        for name, value in gradient(parameters).items():
            parameters[name].grad = value
        optimiser.step()
    return parameters

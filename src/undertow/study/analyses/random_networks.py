"""Small random networks with two heads on one trunk, with their settings and losses, in float64.

Functions take one network, and `torch.func.vmap` runs them over many. Parameters are plain dictionaries, so that `grad`
and `jvp` see every weight. The notation is that of Cloud et al. (2025, arXiv:2507.14805, section 6.1 and appendix C).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch.func import grad, jacrev
from torch.nn import functional

from undertow.errors import ConfigError
from undertow.stats.checks import check_count
from undertow.study.analyses.base import Count, Positive, Several

Parameters = dict[str, torch.Tensor]
"""Weights and biases by name: "hidden.0.weight", ..., "trait.weight", "auxiliary.weight" and so on."""

OutputLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The student's loss L_S(z, y) of logits z and targets y, both (..., c), as (...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoremConfig:
    """Settings of the check: networks and sizes of the steps.

    `validate_settings` refuses values that are out of range.

    Attributes:
        networks: how many random networks are drawn. The bounds on shares are meant for 200.
        seed: random seed of every draw.
        epsilons: sizes of the teacher's step. Below about 1e-6 rounding hides the error of first order.
        checked_epsilon: the one of these sizes at which the assertions are judged.
        input_width: dimension of the inputs of every network.
        hidden: widths of the shared tanh layers.
        traits: how many logits the head has that learns the trait.
        auxiliary: how many logits the head has that the student imitates.
        trait_inputs: how many examples of the trait each network has.
        inputs: on how many inputs the student imitates, for each network and update.
        learning_rate: size of the student's single step, alpha.
        steps: how many updates teacher and student make where they take many.
        sgd_rate: learning rate of many steps of SGD.
        adam_rate: learning rate of many steps of Adam.

    Raises:
        ConfigError: there are fewer than two epsilons, or the checked one is not among them.
    """

    networks: Count = 200
    seed: int = 0
    epsilons: tuple[Positive, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    checked_epsilon: float = 1e-3
    input_width: Count = 20
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 16)
    traits: Several = 5
    auxiliary: Several = 3
    trait_inputs: Count = 64
    inputs: Count = 64
    learning_rate: Positive = 1.0
    steps: Count = 100
    sgd_rate: Positive = 0.3
    adam_rate: Positive = 3e-3

    def __post_init__(self) -> None:
        check_count("number of different epsilons", len(set(self.epsilons)), 2)
        if self.checked_epsilon not in self.epsilons:
            raise ConfigError(
                "The checked epsilon is not one of the epsilons.", self.checked_epsilon, f"Choose from {self.epsilons}."
            )


class TeachingSetup(NamedTuple):
    """What teacher and student are given. Where many networks are stacked, all have a leading dimension.

    Attributes:
        start: parameters from which the teacher starts.
        other: parameters of another random initialisation.
        trait_inputs: inputs on which the teacher learns its trait, (k, d).
        trait_labels: classes that it learns there, int64 (k,).
        inputs: inputs on which the student imitates the teacher's auxiliary logits, (m, d).
    """

    start: Parameters
    other: Parameters
    trait_inputs: torch.Tensor
    trait_labels: torch.Tensor
    inputs: torch.Tensor


TraitLoss = Callable[[Parameters, TeachingSetup], torch.Tensor]
"""The teacher's loss L_T at some parameters, a scalar."""


def draw_parameters(
    networks: int, widths: Sequence[int], traits: int, auxiliary: int, generator: torch.Generator
) -> Parameters:
    """Draw stacked networks with the initialisation of `torch.nn.Linear`, uniform within +-1 / sqrt(fan-in).

    Args:
        networks: how many networks are drawn. It is the leading dimension of every tensor.
        widths: widths of the inputs and of each hidden layer. The inputs' alone makes a linear model.
        traits: how many logits the trait head has.
        auxiliary: how many logits the auxiliary head has.
        generator: random generator of the draws.
    """
    shapes = {f"hidden.{layer}": pair for layer, pair in enumerate(pairwise(widths))}
    shapes |= {"trait": (widths[-1], traits), "auxiliary": (widths[-1], auxiliary)}
    parameters: Parameters = {}
    for name, (fan_in, fan_out) in shapes.items():
        for part, shape in (("weight", (networks, fan_out, fan_in)), ("bias", (networks, fan_out))):
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
            parameters[f"{name}.{part}"] = (2.0 * uniform - 1.0) / fan_in**0.5
    return parameters


def draw_inputs(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Draw the students' inputs, uniform noise in [-1, 1), of the given shape."""
    return 2.0 * torch.rand(tuple(shape), generator=generator, dtype=torch.float64) - 1.0


def draw_setup(config: TheoremConfig, hidden: Sequence[int], generator: torch.Generator) -> TeachingSetup:
    """Draw stacked setups: two initialisations, Gaussian trait inputs with random labels, and student inputs.

    Args:
        config: counts and widths, except those of the hidden layers.
        hidden: widths of the hidden layers. None of them makes a linear model with separate heads.
        generator: random generator of the draws.
    """
    count, width = config.networks, config.input_width
    start, other = (
        draw_parameters(count, (width, *hidden), config.traits, config.auxiliary, generator) for _ in range(2)
    )
    shape = (count, config.trait_inputs)
    trait_inputs = torch.randn((*shape, width), generator=generator, dtype=torch.float64)
    trait_labels = torch.randint(config.traits, shape, generator=generator)
    return TeachingSetup(
        start, other, trait_inputs, trait_labels, draw_inputs((count, config.inputs, width), generator)
    )


def trunk_features(parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
    """Return the trunk's outputs (m, h) of inputs (m, d): tanh layers, or the inputs themselves if there is none."""
    hidden, layer = inputs, 0
    while f"hidden.{layer}.weight" in parameters:
        hidden = torch.tanh(_linear(parameters, f"hidden.{layer}", hidden))
        layer += 1
    return hidden


def auxiliary_logits(parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits that the student imitates, (m, c)."""
    return _linear(parameters, "auxiliary", trunk_features(parameters, inputs))


def trait_loss(parameters: Parameters, setup: TeachingSetup) -> torch.Tensor:
    """Return the teacher's loss L_T, the mean cross-entropy of the trait logits in nats."""
    hidden = trunk_features(parameters, setup.trait_inputs)
    return functional.cross_entropy(_linear(parameters, "trait", hidden), setup.trait_labels)


def head_loss(parameters: Parameters, setup: TeachingSetup) -> torch.Tensor:
    """Return `trait_loss` on the features of the start: a loss of the trait head alone, which no student sees."""
    hidden = trunk_features(setup.start, setup.trait_inputs)
    return functional.cross_entropy(_linear(parameters, "trait", hidden), setup.trait_labels)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_i softmax(targets)_i log softmax(logits)_i over the last dimension, in nats."""
    return -(targets.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return sum_i (logits_i - targets_i)^2 over the last dimension."""
    return (logits - targets).square().sum(-1)


OUTPUT_LOSSES: dict[str, OutputLoss] = {"cross_entropy": cross_entropy, "squared_error": squared_error}
"""The losses that students may have, by name."""


def mixed_curvature(loss: OutputLoss, logits: torch.Tensor) -> torch.Tensor:
    """Return M = -d2 L_S / (dy dz) at z = y = logits (c,), by automatic differentiation, as (c, c).

    For `squared_error` it is 2 I, for `cross_entropy` diag(s) - s s^T with s = softmax(logits).
    """
    matrix: torch.Tensor = jacrev(grad(loss), argnums=1)(logits, logits)
    return -matrix


def inner(left: Parameters, right: Parameters) -> torch.Tensor:
    """Return the inner product of two sets of parameters, a scalar."""
    return torch.stack([(left[name] * right[name]).sum() for name in left]).sum()


def stepped(parameters: Parameters, change: Parameters, size: float) -> Parameters:
    """Return parameters + size * change."""
    return {name: value + size * change[name] for name, value in parameters.items()}


def _linear(parameters: Parameters, name: str, inputs: torch.Tensor) -> torch.Tensor:
    """Apply the linear layer of this name."""
    return inputs @ parameters[f"{name}.weight"].mT + parameters[f"{name}.bias"]

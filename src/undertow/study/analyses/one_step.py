"""The theorem of Cloud et al. (2025, arXiv:2507.14805, section 6.1 and appendix C), checked on random networks.

A teacher takes a step eps * dT, dT = -grad L_T. A student imitates its auxiliary logits with one gradient step
alpha * dS. From the same initialisation, dS . dT = eps * A + O(eps^2) with A >= 0, and the teacher's loss L_T of the
student changes by -eps * alpha * A + O(eps^2), although the student never sees what L_T is measured on.

What the theorem leaves open (many steps, Adam, samples in place of full distributions) is counted over networks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.func import grad, jvp, vmap
from torch.nn import functional

from undertow.stats.estimates import wilson
from undertow.study.analyses.random_networks import (
    OUTPUT_LOSSES,
    OutputLoss,
    Parameters,
    TeachingSetup,
    TheoremConfig,
    TraitLoss,
    auxiliary_logits,
    draw_inputs,
    draw_setup,
    head_loss,
    inner,
    mixed_curvature,
    stepped,
    trait_loss,
)
from undertow.types import Advance

VARIANTS_PER_TRAINING = 4
"""How many variants each way of training has: full distributions or samples, from the same or another
initialisation."""

Gradient = Callable[[Parameters], Parameters]
"""Function that returns the gradient of every stacked network's own loss, at stacked parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How teachers and students are trained.

    Attributes:
        optimiser: "sgd" without momentum, or "adam" with PyTorch's defaults.
        learning_rate: learning rate, the same at every update.
        steps: how many updates the teacher makes, and then the student.
    """

    optimiser: Literal["sgd", "adam"]
    learning_rate: float
    steps: int


def trainings_of(config: TheoremConfig) -> tuple[Training, ...]:
    """Return the ways in which a check trains: by SGD, and by Adam."""
    return (
        Training(optimiser="sgd", learning_rate=config.sgd_rate, steps=config.steps),
        Training(optimiser="adam", learning_rate=config.adam_rate, steps=config.steps),
    )


def train_teachers(setup: TeachingSetup, training: Training) -> Parameters:
    """Train each stacked network from its start on its trait, with the whole batch at every update."""
    gradient = vmap(grad(trait_loss))
    return train_stacked(setup.start, training, lambda parameters: gradient(parameters, setup))


def distil(
    start: Parameters,
    teachers: Parameters,
    training: Training,
    inputs: torch.Tensor,
    draw: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Parameters:
    """Train stacked students on the auxiliary logits of their teachers, by cross-entropy.

    Args:
        start: parameters from which the students start, each (n, ...).
        teachers: parameters of the trained teachers, each (n, ...).
        training: optimiser, learning rate and number of updates.
        inputs: a batch of inputs for each network at every update, (steps, n, m, d).
        draw: function that turns the teacher's distributions (n, m, c) into targets of that shape, such as `sampled`.
            None takes the distributions themselves.

    Returns:
        Parameters of the trained students, each (n, ...).
    """
    batches = iter(inputs)
    gradient = vmap(grad(_variant_loss))

    def step(parameters: Parameters) -> Parameters:
        batch = next(batches)
        targets = vmap(auxiliary_logits)(teachers, batch).softmax(-1)
        return gradient(parameters, batch, targets if draw is None else draw(targets))

    return train_stacked(start, training, step)


def sampled(distributions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one class from each distribution (..., c), and return it one-hot in the same shape and type."""
    classes = distributions.shape[-1]
    drawn = torch.multinomial(distributions.reshape(-1, classes), 1, generator=generator)
    return functional.one_hot(drawn, classes).reshape(distributions.shape).to(distributions)


def count_variants(
    setup: TeachingSetup, trainings: Sequence[Training], generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """Count the networks in which distillation lowers the student's loss on the teacher's trait.

    Args:
        setup: the stacked networks, which are the independent units of the shares.
        trainings: ways of training. Each is run with full distributions and with samples, from the same and another
            initialisation.
        generator: random generator of the students' inputs and of the samples.

    Yields:
        For each variant its name, its initialisation ("same" or "other"), and the share of networks with its 95 %
        Wilson interval.
    """
    for training in trainings:
        teachers = train_teachers(setup, training)
        for samples, initialisation in product((False, True), ("same", "other")):
            start = setup.start if initialisation == "same" else setup.other
            inputs = draw_inputs((training.steps, *setup.inputs.shape), generator)
            draw = partial(sampled, generator=generator) if samples else None
            students = distil(start, teachers, training, inputs, draw)
            lower = vmap(trait_loss)(students, setup) < vmap(trait_loss)(start, setup)
            name = f"{training.optimiser}, {'samples' if samples else 'full distribution'}"
            yield share_of_networks(name, initialisation, lower)


def share_of_networks(name: str, initialisation: str, lower: torch.Tensor) -> dict[str, Any]:
    """Return the share of networks whose loss is lower, with its 95 % Wilson interval, as one variant.

    Args:
        name: name of the variant, such as "sgd, reverse KL, full distribution".
        initialisation: where students start: "same" as their teacher, or "other".
        lower: whether the loss is lower, bool (n,).
    """
    share = wilson(int(lower.sum()), len(lower))
    return {
        "name": name,
        "initialisation": initialisation,
        "share": share.value,
        "low": share.low,
        "high": share.high,
        "n": share.n,
    }


def _variant_loss(parameters: Parameters, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(auxiliary_logits(parameters, inputs), targets)


def train_stacked(start: Parameters, training: Training, gradient: Gradient) -> Parameters:
    """Train copies of stacked parameters. Both optimisers work element by element, so the networks stay independent.

    Args:
        start: parameters before training, each (n, ...).
        training: optimiser, learning rate and number of updates.
        gradient: function that returns the gradient at given parameters.
    """
    parameters = {name: value.clone() for name, value in start.items()}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimiser = kinds[training.optimiser](list(parameters.values()), lr=training.learning_rate)
    for _ in range(training.steps):
        for name, value in gradient(parameters).items():
            parameters[name].grad = value
        optimiser.step()
    return parameters


ROUNDING = 1e-12
"""Largest movement that counts as none."""

NOTHING = 1e-300
"""Number that stands for an error of 0 where its logarithm is taken."""

CLAIMS: dict[str, tuple[int, str]] = {
    "alignment": (1, "(dS . dT) / eps differs from the prediction A by less than the fraction eps."),
    "order": (1, "That relative error falls in proportion to eps: its slope in logarithms is 1."),
    "prediction": (2, "The prediction A is never negative."),
    "trait_loss": (3, "The teacher's loss of the student changes by -eps * alpha * A, up to the fraction eps."),
    "unseen_parameters": (4, "Nothing moves when the teacher's loss depends only on parameters no student loss sees."),
    "same_initialisation": (5, "From the same start, dS . dT > 0 and the teacher's loss falls in every network."),
    "other_initialisation": (5, "From another start the sign of dS . dT is random: positive in 35 to 65 %."),
    "linear_model": (6, "A linear model with separate heads transmits nothing."),
}
"""Number and statement of each assertion, in order."""


class Step(NamedTuple):
    """What one step of one student did: scalars, or (n,) where networks are stacked.

    Attributes:
        alignment: (dS . dT) / eps, which tends to A as eps goes to 0.
        trait_change: (L_T after - L_T before) / (eps * alpha), which tends to -A.
    """

    alignment: torch.Tensor
    trait_change: torch.Tensor


def teacher_direction(setup: TeachingSetup, teacher_loss: TraitLoss) -> Parameters:
    """Return dT = -grad L_T at the start, the direction of the teacher's step."""
    return descent(teacher_loss, setup.start, setup)


def push_of(setup: TeachingSetup, teacher_loss: TraitLoss) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the auxiliary logits z0 and the push v = J dT of one network, both (m, c)."""
    outputs = partial(auxiliary_logits, inputs=setup.inputs)
    return jvp(outputs, (setup.start,), (teacher_direction(setup, teacher_loss),))[:2]


def predicted_alignment(setup: TeachingSetup, teacher_loss: TraitLoss, student_loss: OutputLoss) -> torch.Tensor:
    """Return the prediction A = E_x[(J dT)^T M (J dT)] of one network, a scalar (proof of theorem 1).

    J is the Jacobian of the auxiliary logits at the start, and M is the `mixed_curvature` of the student's loss there.
    """
    logits, push = push_of(setup, teacher_loss)
    curvatures: torch.Tensor = vmap(partial(mixed_curvature, student_loss))(logits)
    return torch.einsum("mi,mij,mj->m", push, curvatures, push).mean()


def one_step(
    setup: TeachingSetup,
    start: Parameters,
    losses: tuple[TraitLoss, OutputLoss],
    epsilon: float,
    learning_rate: float,
) -> Step:
    """Let the teacher of one network take a step, let a student take one step towards it, and measure both.

    Args:
        setup: the network, and what teacher and student are given.
        start: parameters from which the student starts: `setup.start` as in the theorem, or others.
        losses: the teacher's loss and the student's loss.
        epsilon: size of the teacher's step.
        learning_rate: size of the student's step, alpha.
    """
    teacher_loss, student_loss = losses
    direction = teacher_direction(setup, teacher_loss)
    labels = auxiliary_logits(stepped(setup.start, direction, epsilon), setup.inputs)
    change = descent(_imitation_loss, start, setup.inputs, labels, student_loss)
    after = teacher_loss(stepped(start, change, learning_rate), setup) - teacher_loss(start, setup)
    return Step(inner(change, direction) / epsilon, after / (epsilon * learning_rate))


def check_theorem(config: TheoremConfig, advance: Advance | None = None) -> dict[str, Any]:
    """Check the assertions of the theorem, and count what happens beyond it.

    Args:
        config: networks, sizes of the steps and random seed.
        advance: progress callback, called with (variants done, variants in all). None reports nothing.

    Returns:
        Plain JSON data. `networks` is their number. `by_epsilon` has a row for each student loss and epsilon: the
        relative errors of (dS . dT) / eps against A and of the loss change against -A, and the shares of networks with
        the right signs (`other_` for another initialisation). `slope` is that of the log median error over log epsilon,
        for the student loss where it is farthest from 1. `predicted` is the spread of A. `assertions` has for each its
        `value`, its `bound` [low, high] (None is open) and whether it `holds`. `variants` has shares with 95 % Wilson
        intervals.
    """
    generator = torch.Generator().manual_seed(config.seed)
    setup, linear = (draw_setup(config, hidden, generator) for hidden in (config.hidden, ()))
    checks = [_check_loss(setup, name, config) for name in OUTPUT_LOSSES]
    silent = _largest_movement(setup, head_loss, config), _largest_movement(linear, trait_loss, config)
    trainings = trainings_of(config)
    variants: list[dict[str, Any]] = []
    for variant in count_variants(setup, trainings, generator):
        variants.append(variant)
        if advance is not None:
            advance(len(variants), len(trainings) * VARIANTS_PER_TRAINING)
    slope = farthest([check.slope for check in checks], 1.0)
    return {
        "networks": config.networks,
        "by_epsilon": [row for check in checks for row in check.rows],
        "slope": slope,
        "predicted": [check.predicted for check in checks],
        "assertions": assertions_of(measured_at(config, checks, slope, silent), CLAIMS),
        "variants": variants,
    }


class LossCheck(NamedTuple):
    """What was found for one student loss: rows by epsilon, slope of the error, and spread of the prediction."""

    rows: list[dict[str, Any]]
    slope: float
    predicted: dict[str, Any]


def _check_loss(setup: TeachingSetup, name: str, config: TheoremConfig) -> LossCheck:
    """Compare the steps of one student loss with the theorem's prediction."""
    student_loss = OUTPUT_LOSSES[name]
    predicted = _predictions(setup, trait_loss, student_loss)

    def step(start: Parameters, epsilon: float) -> Step:
        return _steps(setup, start, (trait_loss, student_loss), epsilon, config.learning_rate)

    return hold_against(predicted, step, setup, name, config.epsilons)


def hold_against(
    predicted: torch.Tensor,
    step: Callable[[Parameters, float], Step],
    setup: TeachingSetup,
    name: str,
    epsilons: Sequence[float],
) -> LossCheck:
    """Compare steps of stacked networks with the prediction A of a student loss.

    Args:
        predicted: prediction A of every network, (n,).
        step: function that takes a student's step, given its start and the size of the teacher's step.
        setup: the networks. Students start where the teacher did, and from the other initialisation.
        name: name of the student loss, for the rows.
        epsilons: sizes of the teacher's step.
    """
    rows: list[dict[str, Any]] = []
    for epsilon in epsilons:
        same, other = (step(start, epsilon) for start in (setup.start, setup.other))
        errors = (same.alignment / predicted - 1.0).abs(), (same.trait_change / -predicted - 1.0).abs()
        rows.append(
            {
                "student_loss": name,
                "epsilon": epsilon,
                "relative_error_median": float(errors[0].median()),
                "relative_error_max": float(errors[0].max()),
                "trait_error_median": float(errors[1].median()),
                "trait_error_max": float(errors[1].max()),
                "sign_right": _share(same.alignment > 0.0),
                "trait_falls": _share(same.trait_change < 0.0),
                "other_sign_right": _share(other.alignment > 0.0),
                "other_trait_falls": _share(other.trait_change < 0.0),
            }
        )
    logs = np.log([[row["epsilon"], max(row["relative_error_median"], NOTHING)] for row in rows])
    slope = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    spread = {part: float(getattr(predicted, part)()) for part in ("min", "median", "max")}
    return LossCheck(rows, slope, {"student_loss": name, **spread})


def _predictions(setup: TeachingSetup, teacher_loss: TraitLoss, student_loss: OutputLoss) -> torch.Tensor:
    """Return `predicted_alignment` of stacked networks, (n,)."""
    return vmap(partial(predicted_alignment, teacher_loss=teacher_loss, student_loss=student_loss))(setup)


def _steps(
    setup: TeachingSetup, start: Parameters, losses: tuple[TraitLoss, OutputLoss], epsilon: float, learning_rate: float
) -> Step:
    """Return `one_step` of stacked networks."""
    return vmap(partial(one_step, losses=losses, epsilon=epsilon, learning_rate=learning_rate))(setup, start)


def _largest_movement(setup: TeachingSetup, teacher_loss: TraitLoss, config: TheoremConfig) -> float:
    """Return the largest size of A, (dS . dT) / eps or loss change over networks, student losses and epsilons."""
    sizes: list[float] = []
    for student_loss in OUTPUT_LOSSES.values():
        sizes.append(float(_predictions(setup, teacher_loss, student_loss).abs().max()))
        for epsilon in config.epsilons:
            step = _steps(setup, setup.start, (teacher_loss, student_loss), epsilon, config.learning_rate)
            sizes += [float(part.abs().max()) for part in step]
    return float(np.max(sizes))


Measured = dict[str, tuple[float, float, float | None]]
"""What was found for each assertion, with its lower and upper bound. None is an open upper end."""


def farthest(values: Sequence[float], ideal: float) -> float:
    """Return the value that lies farthest from an ideal one; a NaN, if there is one."""
    found = np.asarray(values, dtype=float)
    return float(found[np.argmax(np.abs(found - ideal))])


def measured_at(
    config: TheoremConfig, checks: Sequence[LossCheck], slope: float, silent: tuple[float, float]
) -> Measured:
    """Return what was measured at the checked epsilon, by the worst student loss of each, with the bounds.

    Args:
        config: settings of the check.
        checks: what was found for each student loss.
        slope: slope of the error that is farthest from 1.
        silent: largest movement where the teacher's loss depends on no parameter that students see, and that of a
            linear model.
    """
    epsilon = config.checked_epsilon
    rows = [row for check in checks for row in check.rows if row["epsilon"] == epsilon]
    same = [row[key] for row in rows for key in ("sign_right", "trait_falls")]
    return {
        "alignment": (float(np.max([row["relative_error_max"] for row in rows])), 0.0, epsilon),
        "order": (slope, 0.9, 1.1),
        "prediction": (float(np.min([check.predicted["min"] for check in checks])), 0.0, None),
        "trait_loss": (float(np.max([row["trait_error_max"] for row in rows])), 0.0, epsilon),
        "unseen_parameters": (silent[0], 0.0, ROUNDING),
        "same_initialisation": (float(np.min(same)), 1.0, 1.0),
        "other_initialisation": (farthest([row["other_sign_right"] for row in rows], 0.5), 0.35, 0.65),
        "linear_model": (silent[1], 0.0, ROUNDING),
    }


def assertions_of(measured: Measured, claims: Mapping[str, tuple[int, str]]) -> list[dict[str, Any]]:
    """Return the assertions of these claims, each with what was found, its bounds and whether it holds."""
    return [
        {
            "number": claims[name][0],
            "name": name,
            "statement": claims[name][1],
            "value": value,
            "bound": [low, high],
            "holds": low <= value and (high is None or value <= high),
        }
        for name, (value, low, high) in measured.items()
    ]


def _share(flags: torch.Tensor) -> float:
    """Return the share of True among flags."""
    return float(flags.double().mean())


def _imitation_loss(
    parameters: Parameters, inputs: torch.Tensor, labels: torch.Tensor, student_loss: OutputLoss
) -> torch.Tensor:
    """Return the student's mean loss on given labels."""
    return student_loss(auxiliary_logits(parameters, inputs), labels).mean()


def descent(loss: Callable[..., torch.Tensor], parameters: Parameters, *rest: Any) -> Parameters:
    """Return the negative gradient of loss(parameters, *rest) with respect to the parameters."""
    gradient: Parameters = grad(loss)(parameters, *rest)
    return {name: -value for name, value in gradient.items()}

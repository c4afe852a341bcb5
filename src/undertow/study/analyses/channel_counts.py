"""What students of the channels besides rows reach after many updates, where no theorem promises anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.func import grad, vmap

from undertow.study.analyses.base import Positive
from undertow.study.analyses.channel_losses import ChannelLesson, preference_loss, reverse_kl
from undertow.study.analyses.one_step import Training, share_of_networks, train_stacked, train_teachers, trainings_of
from undertow.study.analyses.random_networks import (
    Parameters,
    TeachingSetup,
    TheoremConfig,
    auxiliary_logits,
    draw_inputs,
    trait_loss,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelsConfig(TheoremConfig):
    """Settings of the check: networks, sizes of the steps, and DPO's beta.

    Attributes:
        beta: how strongly DPO holds a student to its reference.
    """

    beta: Positive = 0.1


Learning = Callable[[Parameters, torch.Tensor, ChannelLesson, torch.Generator], Parameters]
"""Function that returns the gradient of stacked students on a batch of inputs (n, m, d) and a lesson (n, m, c)."""


def _of_kl(
    parameters: Parameters, inputs: torch.Tensor, lesson: ChannelLesson, _: torch.Generator, beta: float
) -> Parameters:
    """Return the gradient of reverse KL on full distributions."""
    del beta

    def loss(one: Parameters, batch: torch.Tensor, given: ChannelLesson) -> torch.Tensor:
        return reverse_kl(auxiliary_logits(one, batch), given).mean()

    return vmap(grad(loss))(parameters, inputs, lesson)


def _of_drawn(
    parameters: Parameters,
    inputs: torch.Tensor,
    lesson: ChannelLesson,
    generator: torch.Generator,
    beta: float,
    ranked: bool,
) -> Parameters:
    """Return the gradient of DPO on one drawn pair for each input."""
    pairs = drawn_pairs(lesson, ranked, generator)

    def loss(one: Parameters, batch: torch.Tensor, given: ChannelLesson, drawn: torch.Tensor) -> torch.Tensor:
        return preference_loss(auxiliary_logits(one, batch), given, drawn, beta).mean()

    return vmap(grad(loss))(parameters, inputs, lesson, pairs)


DRAWN: dict[str, Callable[..., Parameters]] = {
    "reverse KL, full distribution": _of_kl,
    "dpo, one drawn pair an input, sampled": partial(_of_drawn, ranked=False),
    "dpo, one drawn pair an input, ranked": partial(_of_drawn, ranked=True),
}
"""How students learn in many steps, by name. Forward KL has the gradients of cross-entropy, which `count_variants`
counts."""


def drawn_pairs(lesson: ChannelLesson, ranked: bool, generator: torch.Generator) -> torch.Tensor:
    """Draw one pair for each input, one-hot as (..., c, c); all zeros where the two answers are equal.

    Args:
        lesson: logits of teacher, base and reference, each (..., c).
        ranked: whether both answers are the base's, ranked by their log ratio. Otherwise one of the teacher's is chosen
            over one of the base's.
        generator: random generator of the draws.
    """
    first, second = (lesson.base if ranked else lesson.teacher), lesson.base
    chosen, rejected = (_drawn(logits.softmax(-1), generator) for logits in (first, second))
    if ranked:
        ratio = lesson.teacher - lesson.base
        swap = ratio.gather(-1, chosen) < ratio.gather(-1, rejected)
        chosen, rejected = torch.where(swap, rejected, chosen), torch.where(swap, chosen, rejected)
    classes = lesson.base.shape[-1]
    pair = torch.zeros(*lesson.base.shape, classes, dtype=lesson.base.dtype).flatten(-2)
    pair.scatter_(-1, chosen * classes + rejected, (chosen != rejected).to(pair))
    return pair.unflatten(-1, (classes, classes))


def _drawn(share: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one class from each distribution, int64 (..., 1)."""
    flat = torch.multinomial(share.reshape(-1, share.shape[-1]), 1, generator=generator)
    return flat.reshape(*share.shape[:-1], 1)


def count_drawn(setup: TeachingSetup, config: ChannelsConfig, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """Count the networks whose student has a lower loss on the teacher's trait after many updates than at its start.

    Args:
        setup: the stacked networks, which are the independent units of the shares.
        config: number of updates, learning rates and beta.
        generator: random generator of the students' inputs and of the pairs.

    Yields:
        One variant at a time, in the form of `count_variants`.
    """
    for training in trainings_of(config):
        teachers = train_teachers(setup, training)
        for (name, learning), which in product(DRAWN.items(), ("same", "other")):
            start = setup.start if which == "same" else setup.other
            students = _learnt(setup, start, teachers, training, partial(learning, beta=config.beta), generator)
            lower = vmap(trait_loss)(students, setup) < vmap(trait_loss)(start, setup)
            yield share_of_networks(f"{training.optimiser}, {name}", which, lower)


def _learnt(
    setup: TeachingSetup,
    start: Parameters,
    teachers: Parameters,
    training: Training,
    learning: Learning,
    generator: torch.Generator,
) -> Parameters:
    """Train stacked students by one of the ways of learning, and return their parameters."""
    logits = vmap(auxiliary_logits)

    def step(parameters: Parameters) -> Parameters:
        inputs = draw_inputs(setup.inputs.shape, generator)
        lesson = ChannelLesson(*(logits(one, inputs) for one in (teachers, setup.start, start)))
        return learning(parameters, inputs, lesson, generator)

    return train_stacked(start, training, step)

"""Theorem 1 of Cloud et al. (2025) for KL on logits and for DPO: what one step does, and what many steps do.

The theorem is about any student loss that is smallest at the teacher's own outputs. DPO has no such loss, so its
predictions are derived in `channel_losses`. Networks, teachers and bounds are those of `one_step`.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch.func import vmap

from undertow.study.analyses.channel_counts import DRAWN, ChannelsConfig, count_drawn
from undertow.study.analyses.channel_losses import (
    Channel,
    ChannelLesson,
    channels_of,
    likelier_channel,
)
from undertow.study.analyses.one_step import (
    CLAIMS,
    LossCheck,
    Step,
    assertions_of,
    descent,
    farthest,
    hold_against,
    measured_at,
    push_of,
    share_of_networks,
    teacher_direction,
)
from undertow.study.analyses.random_networks import (
    Parameters,
    TeachingSetup,
    TraitLoss,
    auxiliary_logits,
    draw_setup,
    head_loss,
    inner,
    stepped,
    trait_loss,
)
from undertow.types import Advance

CHANNEL_CLAIMS: dict[str, tuple[int, str]] = {
    **CLAIMS,
    "same_step": (7, "One step on the teacher's answers over the base's is beta / 2 of a step of forward KL."),
    "wrong_pairs": (8, "Ranked pairs that pull away from the trait weigh less than the fraction eps of all."),
}
"""Number and statement of each assertion, in order. The first six are those of the theorem."""

LIKELIER = "dpo, pairs ranked by the teacher's likelihood alone"
"""Name of the variant about which the theorem promises nothing."""


def taught(setup: TeachingSetup, start: Parameters, direction: Parameters, epsilon: float) -> ChannelLesson:
    """Return what one student is given when its teacher has taken a step of size epsilon."""
    teacher = stepped(setup.start, direction, epsilon)
    return ChannelLesson(*(auxiliary_logits(one, setup.inputs) for one in (teacher, setup.start, start)))


def channel_step(
    setup: TeachingSetup,
    start: Parameters,
    losses: tuple[TraitLoss, Channel],
    epsilon: float,
    learning_rate: float,
) -> Step:
    """Let the teacher of one network take a step, let a student take one step by a channel, and measure both.

    Where the channel's gradient does not shrink with epsilon, the student's step is epsilon times as long, so that both
    steps are small.

    Args:
        setup: the network, and what teacher and student are given.
        start: parameters from which the student starts, which are also its reference.
        losses: the teacher's loss, and the channel.
        epsilon: size of the teacher's step.
        learning_rate: size of the student's step, alpha.
    """
    teacher_loss, channel = losses
    direction = teacher_direction(setup, teacher_loss)
    lesson = taught(setup, start, direction, epsilon)
    change = descent(_lesson_loss, start, setup.inputs, lesson, channel)
    size = 1.0 if channel.fades else epsilon
    after = teacher_loss(stepped(start, change, learning_rate * size), setup) - teacher_loss(start, setup)
    return Step(size * inner(change, direction) / epsilon, after / (epsilon * learning_rate))


def predicted_by(setup: TeachingSetup, teacher_loss: TraitLoss, channel: Channel) -> torch.Tensor:
    """Return the prediction A of one network, a scalar, from the channel's closed form."""
    logits, push = push_of(setup, teacher_loss)
    return channel.predicted(push, logits.softmax(-1)).mean()


def step_mismatch(setup: TeachingSetup, channels: dict[str, Channel], config: ChannelsConfig) -> torch.Tensor:
    """Return how far one network's step on sampled pairs is from beta / 2 of forward KL's, as a share of its length."""
    lesson = taught(setup, setup.start, teacher_direction(setup, trait_loss), config.checked_epsilon)
    pairs, kl = (
        descent(_lesson_loss, setup.start, setup.inputs, lesson, channels[name])
        for name in ("dpo_sampled", "forward_kl")
    )
    gap = {name: value - config.beta / 2.0 * kl[name] for name, value in pairs.items()}
    return (inner(gap, gap) / inner(pairs, pairs)).sqrt()


def wrong_pairs(setup: TeachingSetup, channel: Channel, epsilon: float) -> torch.Tensor:
    """Return the share of one network's ranked pairs, by their pull v_i - v_j, that points away from the trait."""
    assert channel.pairs is not None
    lesson = taught(setup, setup.start, teacher_direction(setup, trait_loss), epsilon)
    push = push_of(setup, trait_loss)[1]
    pull = channel.pairs(lesson) * (push[..., :, None] - push[..., None, :])
    return pull.clamp(max=0.0).abs().sum() / pull.abs().sum()


def check_channels(config: ChannelsConfig, advance: Advance | None = None) -> dict[str, Any]:
    """Check what the theorem promises for KL on logits and DPO, and count what happens beyond it.

    Args:
        config: networks, sizes of the steps, beta and random seed.
        advance: progress callback, called with (variants done, variants in all). None reports nothing.

    Returns:
        Plain JSON data in the form of `check_theorem`. The slope is that of the channels whose step shrinks with the
        teacher's.
    """
    generator = torch.Generator().manual_seed(config.seed)
    setup, linear = (draw_setup(config, hidden, generator) for hidden in (config.hidden, ()))
    channels = channels_of(config.beta)
    checks = {name: _check(setup, name, channel, config) for name, channel in channels.items()}
    silent = _largest(setup, head_loss, config), _largest(linear, trait_loss, config)
    special = (
        vmap(partial(step_mismatch, channels=channels, config=config))(setup),
        vmap(partial(wrong_pairs, channel=channels["dpo_ranked"], epsilon=config.checked_epsilon))(setup),
    )
    variants = [_likelier(setup, start, config) for start in ("same", "other")]
    total = len(variants) + 2 * 2 * len(DRAWN)
    for variant in count_drawn(setup, config, generator):
        variants.append(variant)
        if advance is not None:
            advance(len(variants), total)
    slope = farthest([checks[name].slope for name in channels if channels[name].fades], 1.0)
    measured = measured_at(config, list(checks.values()), slope, silent) | {
        "same_step": (float(special[0].max()), 0.0, 1e-9),
        "wrong_pairs": (float(special[1].max()), 0.0, config.checked_epsilon),
    }
    return {
        "networks": config.networks,
        "by_epsilon": [row for check in checks.values() for row in check.rows],
        "slope": slope,
        "predicted": [check.predicted for check in checks.values()],
        "assertions": assertions_of(measured, CHANNEL_CLAIMS),
        "variants": variants,
    }


def _check(setup: TeachingSetup, name: str, channel: Channel, config: ChannelsConfig) -> LossCheck:
    """Compare the steps of one channel with its prediction."""
    predicted = vmap(partial(predicted_by, teacher_loss=trait_loss, channel=channel))(setup)

    def step(start: Parameters, epsilon: float) -> Step:
        return _steps(setup, start, (trait_loss, channel), epsilon, config.learning_rate)

    return hold_against(predicted, step, setup, name, config.epsilons)


def _steps(
    setup: TeachingSetup, start: Parameters, losses: tuple[TraitLoss, Channel], epsilon: float, rate: float
) -> Step:
    """Return `channel_step` of stacked networks."""
    return vmap(partial(channel_step, losses=losses, epsilon=epsilon, learning_rate=rate))(setup, start)


def _largest(setup: TeachingSetup, teacher_loss: TraitLoss, config: ChannelsConfig) -> float:
    """Return the largest size of A, (dS . dT) / eps or loss change over networks, channels and epsilons."""
    sizes: list[float] = []
    for channel in channels_of(config.beta).values():
        sizes.append(float(vmap(partial(predicted_by, teacher_loss=teacher_loss, channel=channel))(setup).abs().max()))
        for epsilon in config.epsilons:
            step = _steps(setup, setup.start, (teacher_loss, channel), epsilon, config.learning_rate)
            sizes += [float(part.abs().max()) for part in step]
    return float(np.max(sizes))  # the built-in `max` may pass over a NaN


def _lesson_loss(parameters: Parameters, inputs: torch.Tensor, lesson: ChannelLesson, channel: Channel) -> torch.Tensor:
    """Return the student's mean loss by a channel."""
    return channel.loss(auxiliary_logits(parameters, inputs), lesson).mean()


def _likelier(setup: TeachingSetup, which: str, config: ChannelsConfig) -> dict[str, Any]:
    """Count networks after one small step on pairs that are ranked without the base's likelihood."""
    start = setup.start if which == "same" else setup.other
    step = _steps(
        setup, start, (trait_loss, likelier_channel(config.beta)), config.checked_epsilon, config.learning_rate
    )
    return share_of_networks(f"{LIKELIER}, one step", which, step.trait_change < 0.0)

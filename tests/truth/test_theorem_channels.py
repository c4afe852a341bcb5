"""KL on logits and DPO on small random networks: closed forms held to autograd, sums and draws, and each assertion."""

import json
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch.func import grad, jacfwd, vmap

from undertow.errors import ConfigError
from undertow.study.analyses.base import validate_settings
from undertow.study.analyses.channel_counts import ChannelsConfig, drawn_pairs
from undertow.study.analyses.channel_losses import (
    ChannelLesson,
    channels_of,
    forward_kl,
    likelier_channel,
    mean_distance,
    mean_lead,
    preference_loss,
    ranked_pairs,
    reverse_kl,
    sampled_pairs,
    variance,
)
from undertow.study.analyses.channel_steps import channel_step, check_channels, predicted_by, step_mismatch, wrong_pairs
from undertow.study.analyses.one_step import one_step, predicted_alignment, teacher_direction
from undertow.study.analyses.random_networks import (
    TeachingSetup,
    auxiliary_logits,
    cross_entropy,
    draw_setup,
    head_loss,
    inner,
    mixed_curvature,
    trait_loss,
)

BETA = 0.1
CHANNELS = {**channels_of(BETA), "dpo_likelier": likelier_channel(BETA)}
EACH = pytest.mark.parametrize("name", CHANNELS)
CONFIG = ChannelsConfig(networks=80, steps=10)


def draw(hidden: tuple[int, ...] = (6, 5), seed: int = 0, networks: int = 20) -> TeachingSetup:
    return draw_setup(ChannelsConfig(networks=networks), hidden, torch.Generator().manual_seed(seed))


def first(setup: TeachingSetup) -> TeachingSetup:
    start, other = ({name: value[0] for name, value in part.items()} for part in (setup.start, setup.other))
    return TeachingSetup(start, other, setup.trait_inputs[0], setup.trait_labels[0], setup.inputs[0])


@pytest.fixture(scope="module")
def lesson() -> ChannelLesson:
    """Logits of 6 inputs and 4 answers; the student's start is the base, as the theorem has it."""
    generator = torch.Generator().manual_seed(0)
    base, push = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    return ChannelLesson(base + 0.3 * push, base, base)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return check_channels(CONFIG)


@pytest.mark.parametrize("loss", [forward_kl, reverse_kl])
def test_either_kl_has_the_curvature_of_cross_entropy_and_its_minimum(loss: Any, lesson: ChannelLesson) -> None:
    logits = lesson.base[0]
    at = mixed_curvature(lambda own, teacher: loss(own, ChannelLesson(teacher, logits, logits)), logits)
    torch.testing.assert_close(at, mixed_curvature(cross_entropy, logits))
    assert loss(lesson.teacher, lesson).abs().max() < 1e-12
    assert loss(lesson.base, lesson).min() > 0.0


def test_forward_kl_is_cross_entropy_without_the_teachers_entropy(lesson: ChannelLesson) -> None:
    share = lesson.teacher.softmax(-1)
    entropy = -(share * share.log()).sum(-1)
    torch.testing.assert_close(forward_kl(lesson.base, lesson), cross_entropy(lesson.base, lesson.teacher) - entropy)
    swapped = ChannelLesson(lesson.base, lesson.base, lesson.base)
    torch.testing.assert_close(reverse_kl(lesson.base, lesson), forward_kl(lesson.teacher, swapped))


def test_gradient_of_sampled_pairs_is_that_of_forward_kl_by_half_beta(lesson: ChannelLesson) -> None:
    def total(logits: torch.Tensor) -> torch.Tensor:
        return preference_loss(logits, lesson, sampled_pairs(lesson), BETA).sum()

    kl = grad(lambda logits: forward_kl(logits, lesson).sum())(lesson.base)
    torch.testing.assert_close(grad(total)(lesson.base), BETA / 2.0 * kl)
    torch.testing.assert_close(kl, lesson.base.softmax(-1) - lesson.teacher.softmax(-1))


def test_loss_of_pairs_is_the_mean_over_pairs_written_out(lesson: ChannelLesson) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    pairs = ranked_pairs(lesson)
    own, base, ratio = logits.log_softmax(-1), lesson.base.log_softmax(-1), lesson.teacher - lesson.base
    for row in range(6):
        total = 0.0
        for a, b in product(range(4), repeat=2):
            better, worse = (a, b) if ratio[row, a] > ratio[row, b] else (b, a)
            if a == b:
                continue
            margin = (own - base)[row, better] - (own - base)[row, worse]
            total += float(base[row, a].exp() * base[row, b].exp() * torch.log1p(torch.exp(-BETA * margin)))
        assert float(preference_loss(logits, lesson, pairs, BETA)[row]) == pytest.approx(total, rel=1e-12)


def test_pairs_are_distributions_but_for_their_ties(lesson: ChannelLesson) -> None:
    ties = lesson.base.softmax(-1).square().sum(-1)
    torch.testing.assert_close(ranked_pairs(lesson).sum((-2, -1)), 1.0 - ties)
    torch.testing.assert_close(sampled_pairs(lesson).sum((-2, -1)), torch.ones(6, dtype=torch.float64))
    same = ChannelLesson(lesson.base, lesson.base, lesson.base)
    assert ranked_pairs(same).sum() == 0.0


def test_what_ranks_by_size_and_what_by_likelihood_written_out() -> None:
    share, push = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([1.0, -2.0, 4.0]).double()
    pairs = [(0.15, 3.0, 3.0), (0.1, -3.0, 3.0), (0.06, -6.0, 6.0)]
    assert float(mean_lead(push, share)) == pytest.approx(sum(2 * weight * lead for weight, lead, _ in pairs))
    assert float(mean_distance(push, share)) == pytest.approx(sum(2 * weight * size for weight, _, size in pairs))
    assert float(variance(push, share)) == pytest.approx(sum(weight * size**2 for weight, _, size in pairs))


@EACH
def test_measured_alignment_tends_to_the_prediction(name: str) -> None:
    for networks in (draw(), draw(seed=1)):
        setup, channel = first(networks), CHANNELS[name]
        predicted = predicted_by(setup, trait_loss, channel)
        step = channel_step(setup, setup.start, (trait_loss, channel), 1e-5, 1.0)
        torch.testing.assert_close(step.alignment, predicted, rtol=1e-5, atol=0.0)
        torch.testing.assert_close(step.trait_change, -predicted, rtol=2e-5, atol=0.0)


def test_predictions_from_jacobians_and_pairs_one_by_one() -> None:
    """A second implementation: the inner product of dT with the gradient of each pair's log ratio."""
    setup = first(draw())
    direction = teacher_direction(setup, trait_loss)

    def logp(parameters: Any) -> torch.Tensor:
        return auxiliary_logits(parameters, setup.inputs).log_softmax(-1)

    jacobians = jacfwd(logp)(setup.start)
    towards = sum(torch.tensordot(jacobians[name], direction[name], direction[name].ndim) for name in direction)
    share = logp(setup.start).exp()
    totals = {"dpo_ranked": 0.0, "dpo_likelier": 0.0}
    for row, a, b in product(range(len(share)), range(3), range(3)):
        lead = float(towards[row, a] - towards[row, b])
        weight = BETA / 2.0 * float(share[row, a] * share[row, b]) / len(share)
        totals["dpo_ranked"] += weight * abs(lead)
        totals["dpo_likelier"] += weight * lead * float((share[row, a] - share[row, b]).sign())
    for name, total in totals.items():
        assert float(predicted_by(setup, trait_loss, CHANNELS[name])) == pytest.approx(total, rel=1e-9)
    kl = float(predicted_by(setup, trait_loss, CHANNELS["forward_kl"]))
    assert kl == pytest.approx(float(predicted_alignment(setup, trait_loss, cross_entropy)))
    assert float(predicted_by(setup, trait_loss, CHANNELS["dpo_sampled"])) == pytest.approx(BETA / 2.0 * kl)


def test_forward_kl_takes_the_step_of_cross_entropy() -> None:
    setup = first(draw())
    for start in (setup.start, setup.other):
        ours = channel_step(setup, start, (trait_loss, CHANNELS["forward_kl"]), 0.01, 1.0)
        theirs = one_step(setup, start, (trait_loss, cross_entropy), 0.01, 1.0)
        torch.testing.assert_close(ours.alignment, theirs.alignment)
        torch.testing.assert_close(ours.trait_change, theirs.trait_change)


def test_ranked_pairs_do_not_fade_with_the_teachers_step() -> None:
    """A teacher that moves a thousandth as far gives the same pairs, and so a gradient of the same size."""
    setup = first(draw())
    sizes = {
        name: [
            float(channel_step(setup, setup.start, (trait_loss, CHANNELS[name]), eps, 1.0).alignment)
            * (eps if CHANNELS[name].fades else 1.0)
            for eps in (1e-2, 1e-5)
        ]
        for name in ("dpo_sampled", "dpo_ranked")
    }
    assert sizes["dpo_ranked"][0] == pytest.approx(sizes["dpo_ranked"][1], rel=1e-3)
    assert sizes["dpo_sampled"][0] == pytest.approx(1e3 * sizes["dpo_sampled"][1], rel=1e-2)


@EACH
def test_head_alone_and_linear_models_transmit_nothing(name: str) -> None:
    setup, channel = first(draw()), CHANNELS[name]
    assert predicted_by(setup, head_loss, channel) == 0.0
    assert channel_step(setup, setup.start, (head_loss, channel), 0.1, 1.0).alignment == 0.0
    linear = first(draw(hidden=()))
    for start in (linear.start, linear.other):
        step = channel_step(linear, start, (trait_loss, channel), 0.1, 1.0)
        assert step.alignment == 0.0 and step.trait_change == 0.0
    assert inner(*[teacher_direction(linear, trait_loss)] * 2) > 1e-3


def test_single_pairs_point_to_the_trait_if_ranked_and_by_halves_if_sampled() -> None:
    setup = draw()
    ranked, sampled, likelier = (
        vmap(partial(wrong_pairs, channel=CHANNELS[name], epsilon=1e-3))(setup)
        for name in ("dpo_ranked", "dpo_sampled", "dpo_likelier")
    )
    assert ranked.max() < 1e-3
    assert sampled.min() > 0.49 and sampled.max() < 0.5
    assert likelier.min() < 0.5 < likelier.max()


def test_steps_of_sampled_pairs_and_kl_are_told_apart_where_they_differ() -> None:
    setup, config = first(draw()), ChannelsConfig()
    assert step_mismatch(setup, channels_of(config.beta), config) < 1e-9
    assert step_mismatch(setup, channels_of(1.02 * config.beta), config) == pytest.approx(1.0 - 1.0 / 1.02, rel=1e-6)


@pytest.mark.parametrize("ranked", [False, True])
def test_drawn_pairs_follow_their_distribution(lesson: ChannelLesson, ranked: bool) -> None:
    n = 20_000
    many = ChannelLesson(*(part.expand(n, 6, 4) for part in lesson))
    drawn = drawn_pairs(many, ranked, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0} and drawn.sum((-2, -1)).max() == 1.0
    expected = (ranked_pairs if ranked else sampled_pairs)(lesson)
    expected = expected * (1.0 - torch.eye(4, dtype=torch.float64))
    spread = (expected * (1.0 - expected) / n).sqrt()
    assert ((drawn.mean(0) - expected).abs() <= 5.0 * spread + 1e-12).all()


def test_each_assertion_holds(result: dict[str, Any]) -> None:
    assert [one["number"] for one in result["assertions"]] == [1, 1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert [one["name"] for one in result["assertions"] if not one["holds"]] == []
    assert len(result["by_epsilon"]) == len(CONFIG.epsilons) * 4
    for row in result["by_epsilon"]:
        assert row["relative_error_median"] <= row["relative_error_max"] < row["epsilon"]
        assert row["sign_right"] == row["trait_falls"] == 1.0


def test_shares_are_counted_of_every_network(result: dict[str, Any]) -> None:
    assert len(result["variants"]) == 14
    for one in result["variants"]:
        assert one["n"] == CONFIG.networks and one["low"] <= one["share"] <= one["high"]
        if one["initialisation"] == "same" and "likelihood" not in one["name"]:
            assert one["low"] > 0.5, one["name"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_same_seed_same_result_and_progress() -> None:
    small = replace(CONFIG, networks=4, steps=2, seed=3)
    calls: list[tuple[int, int]] = []
    torch.manual_seed(1)
    once = check_channels(small, lambda done, total: calls.append((done, total)))
    torch.manual_seed(2)
    assert once == check_channels(small)
    assert once["by_epsilon"] != check_channels(replace(small, seed=4))["by_epsilon"]
    assert calls == [(done, 14) for done in range(3, 15)]


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {"beta": float("inf")}, {"networks": 0}], ids=str)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        validate_settings(ChannelsConfig, settings)

"""The divergences have their closed forms, TRL's values, and a gradient that needs no table of logits."""

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.training.channels.divergence import blockwise, divergence, only_top

SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)


def distributions(seed: int, n: int = 6, tokens: int = 11, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of a student and a teacher."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(2, n, tokens, generator=generator)
    one, other = torch.log_softmax(logits, dim=-1)
    return one, other


def test_two_coins_have_the_divergences_of_the_formulas() -> None:
    student, teacher = (torch.tensor([[p, 1.0 - p]]).log() for p in (0.5, 0.9))

    def kl(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    mixed = 0.25 * 0.9 + 0.75 * 0.5
    assert divergence(student, teacher, 0.0).item() == pytest.approx(kl(0.9, 0.5), abs=1e-6)
    assert divergence(student, teacher, 1.0).item() == pytest.approx(kl(0.5, 0.9), abs=1e-6)
    expected = 0.25 * kl(0.9, mixed) + 0.75 * kl(0.5, mixed)
    assert divergence(student, teacher, 0.25).item() == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(SHARES))
def test_nothing_is_below_zero_and_equal_distributions_are_at_zero(seed: int, share: float) -> None:
    student, teacher = distributions(seed)
    assert (divergence(student, teacher, share) >= -1e-6).all()
    assert divergence(teacher, teacher, share).abs().max() < 1e-6


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(SHARES), st.integers(1, 11))
def test_merged_tokens_never_raise_a_divergence_and_all_tokens_keep_it(seed: int, share: float, top: int) -> None:
    student, teacher = distributions(seed)
    whole = divergence(student, teacher, share)
    some = divergence(*only_top(student, teacher, top), share)
    assert (some <= whole + 1e-5).all()
    assert torch.allclose(divergence(*only_top(student, teacher, 11), share), whole, atol=1e-5)
    assert (only_top(student, teacher, top)[1].exp().sum(dim=-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("share", SHARES)
def test_the_values_are_those_of_trl(share: float) -> None:
    pytest.importorskip("trl")
    trainer = importlib.import_module("trl.experimental.gkd.gkd_trainer").GKDTrainer
    student, teacher = distributions(5)
    theirs = trainer.generalized_jsd_loss(student[None], teacher[None], beta=share, reduction="none")
    ours = divergence(student, teacher, share)
    assert torch.allclose(theirs.sum(dim=-1)[0], ours, atol=1e-6)


def test_the_gradient_of_blocks_is_that_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(50, 4, generator=generator, requires_grad=True)
    weight, target = torch.randn(9, 4, generator=generator), distributions(1, n=50, tokens=9)[1]

    def losses(some: torch.Tensor, at: slice) -> torch.Tensor:
        return divergence(torch.log_softmax(some @ weight.T, dim=-1), target[at], 0.3)

    plain = losses(states, slice(None))
    (expected,) = torch.autograd.grad((plain * torch.arange(50)).sum(), states)
    parts = blockwise(states, 2**14, losses)  # 16 positions at a time
    (found,) = torch.autograd.grad((parts * torch.arange(50)).sum(), states)
    assert torch.allclose(parts, plain, atol=1e-6) and torch.allclose(found, expected, atol=1e-4)

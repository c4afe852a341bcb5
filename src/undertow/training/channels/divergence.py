"""Divergence of two next-token distributions, with a gradient that needs no table of all logits.

The generalised Jensen-Shannon divergence of Agarwal et al. (arXiv:2306.13649, eq. 1) with the weight b is b KL(t || m)
+ (1 - b) KL(s || m), where m = b t + (1 - b) s, t is the teacher's and s the student's distribution. At b = 0 and b = 1
this formula gives zero; KL(t || s) and KL(s || t) are used there instead.
"""

import math
from collections.abc import Callable

import torch

from undertow.training.head_loss import BLOCK, losses_by_block


def divergence(student: torch.Tensor, teacher: torch.Tensor, interpolation: float) -> torch.Tensor:
    """Return the divergence at each position in nats, float (n,).

    Args:
        student: log-probabilities of the student, float (n, tokens).
        teacher: log-probabilities of the teacher, float (n, tokens).
        interpolation: weight b between 0 and 1: 0 is KL(teacher || student), 1 is KL(student || teacher), and between
            them lies the generalised Jensen-Shannon divergence.
    """
    if interpolation == 0.0:
        return kl_divergence(teacher, student)
    if interpolation == 1.0:
        return kl_divergence(student, teacher)
    both = torch.stack([teacher + math.log(interpolation), student + math.log1p(-interpolation)])
    mixture = torch.logsumexp(both, dim=0)
    return interpolation * kl_divergence(teacher, mixture) + (1.0 - interpolation) * kl_divergence(student, mixture)


def kl_divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return KL(first || second) of log-probabilities, summed over the last dimension, in nats."""
    return (first.exp() * (first - second)).sum(dim=-1)


def only_top(student: torch.Tensor, teacher: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the teacher's likeliest tokens, and merge all others into one.

    Merging tokens never makes a divergence larger, so the result bounds the divergence over the whole vocabulary from
    below.

    Args:
        student: log-probabilities of the student, float (n, vocabulary).
        teacher: log-probabilities of the teacher, float (n, vocabulary).
        top: how many tokens are kept.

    Returns:
        Log-probabilities of student and teacher, each float (n, top + 1).
    """
    kept = teacher.topk(min(top, teacher.shape[-1]), dim=-1).indices
    return _with_rest(student, kept), _with_rest(teacher, kept)


def _with_rest(logprobs: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of the kept tokens, and in the last column that of all others together."""
    own = logprobs.gather(-1, kept)
    rest = logprobs.scatter(-1, kept, -math.inf).logsumexp(dim=-1, keepdim=True)
    # Where nothing is left over, exp(-inf) * (-inf - -inf) would be NaN, so the smallest float stands for zero.
    return torch.cat([own, rest.clamp(min=math.log(torch.finfo(logprobs.dtype).tiny))], dim=-1)


def blockwise(
    states: torch.Tensor, vocabulary: int, losses: Callable[[torch.Tensor, slice], torch.Tensor]
) -> torch.Tensor:
    """Return the loss at each position, float32 (n,), computing the logits of a few positions at a time.

    The gradient of the states is computed in the forward pass, so that the logits of a block are computed once and not
    kept.

    Args:
        states: hidden states that the output head reads, float (n, width), with a gradient.
        vocabulary: how many logits a position has.
        losses: function from some states and their places to the losses at these positions, float (positions,).

    Returns:
        The losses, of which only the states get a gradient.
    """

    def block(some: torch.Tensor, at: slice) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            own = some.detach().requires_grad_()
            found = losses(own, at)
            (gradient,) = torch.autograd.grad(found.sum(), own)
        return found.detach(), gradient

    return losses_by_block(states, max(16, BLOCK // vocabulary), block)

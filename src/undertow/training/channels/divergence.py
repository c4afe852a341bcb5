"""How far two next-token distributions lie apart, and its gradient without a table of all logits.

The generalised Jensen-Shannon divergence of Agarwal et al. (arXiv:2306.13649, eq. 1) with the weight b is
b KL(t || m) + (1 - b) KL(s || m), where m = b t + (1 - b) s, t is the teacher's and s the student's distribution. Its
ends are set to what is meant by them: 0 is KL(t || s) and 1 is KL(s || t).
"""

import math
from collections.abc import Callable
from typing import Any

import torch

BLOCK = 2**18
"""Logits of one model that exist at once, as in `undertow.training.head_loss`."""


def divergence(student: torch.Tensor, teacher: torch.Tensor, interpolation: float) -> torch.Tensor:
    """Return the divergence of each position in nats, float [n].

    Args:
        student: log-probabilities [n, tokens].
        teacher: the same of the teacher.
        interpolation: 0 for KL(teacher || student), 1 for KL(student || teacher), between them the generalised
            Jensen-Shannon divergence.
    """
    if interpolation == 0.0:
        return _kl(teacher, student)
    if interpolation == 1.0:
        return _kl(student, teacher)
    both = torch.stack([teacher + math.log(interpolation), student + math.log1p(-interpolation)])
    mixture = torch.logsumexp(both, dim=0)
    return interpolation * _kl(teacher, mixture) + (1.0 - interpolation) * _kl(student, mixture)


def _kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.exp() * (first - second)).sum(dim=-1)


def only_top(student: torch.Tensor, teacher: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the teacher's likeliest tokens, and make one token of all others.

    Merging tokens never makes a divergence larger, so what is learnt is a lower bound of the whole one.

    Args:
        student: log-probabilities [n, vocabulary].
        teacher: the same of the teacher.
        top: how many tokens are kept.

    Returns:
        Log-probabilities of both, [n, top + 1].
    """
    kept = teacher.topk(min(top, teacher.shape[-1]), dim=-1).indices
    return _with_rest(student, kept), _with_rest(teacher, kept)


def _with_rest(logprobs: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    own = logprobs.gather(-1, kept)
    rest = logprobs.scatter(-1, kept, -math.inf).logsumexp(dim=-1, keepdim=True)
    # Where nothing is left over, exp(-inf) * (-inf - -inf) would be no number; the smallest one stands for nothing.
    return torch.cat([own, rest.clamp(min=math.log(torch.finfo(logprobs.dtype).tiny))], dim=-1)


def blockwise(
    states: torch.Tensor, vocabulary: int, losses: Callable[[torch.Tensor, slice], torch.Tensor]
) -> torch.Tensor:
    """Return the loss of each position, computing the logits of a few positions at a time.

    The gradient of the states is made on the way forward, so that the logits of a block are computed once and kept for
    nothing.

    Args:
        states: what the vocabulary projection reads, float [n, width], with a gradient.
        vocabulary: how many logits a position has.
        losses: gives the losses [positions] of some states and the places where they stand.

    Returns:
        float32 [n]; only the states get a gradient.
    """
    found: Any = _Blockwise.apply(states, max(16, BLOCK // vocabulary), losses)
    return found


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, size: int, losses: Callable[[torch.Tensor, slice], torch.Tensor]
    ) -> torch.Tensor:
        found = torch.empty(len(states), device=states.device)
        gradient = torch.empty_like(states)
        for start in range(0, len(states), size):
            at = slice(start, min(start + size, len(states)))
            with torch.enable_grad():
                some = states[at].detach().requires_grad_()
                block = losses(some, at)
                (gradient[at],) = torch.autograd.grad(block.sum(), some)
            found[at] = block.detach()
        ctx.save_for_backward(gradient)
        return found

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0][:, None].to(gradient.dtype), None, None

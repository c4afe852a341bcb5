"""Cross-entropy after a frozen output head, with the gradient computed in the forward pass.

The table of logits is the largest tensor of a small model. Here only a block of it exists at once, each block is
computed once, and none is kept for the backward pass. What is kept is the gradient with respect to the hidden states,
which are small.
"""

from collections.abc import Callable
from typing import Any

import torch

from undertow.models.lm_head import Head

BLOCK = 2**18
"""How many logits exist at once: a megabyte of float32, which stays in the processor's cache. Blocks four times as
large took half as long again on one core."""


def frozen_head_losses(head: Head, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy at each position in nats, float32 (n,). Only the hidden states get a gradient.

    Args:
        head: the output head, whose weight is not trained.
        states: hidden states before the head, float (n, width).
        targets: ids of the right tokens, int64 (n,).
    """
    size = max(128, BLOCK // len(head.linear.weight))

    def block(some: torch.Tensor, at: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return _block(head, some, targets[at])

    return losses_by_block(states, size, block)


LossesOfBlock = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Function from some states and their places to the loss at each and its gradient with respect to its state."""


def losses_by_block(states: torch.Tensor, size: int, block: LossesOfBlock) -> torch.Tensor:
    """Return the loss at each position, float32 (n,), computed for `size` positions at a time with its gradient."""
    losses: Any = _BlockLosses.apply(states, size, block)
    return losses


class _BlockLosses(torch.autograd.Function):
    """The autograd function behind `losses_by_block`."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, size: int, block: LossesOfBlock) -> torch.Tensor:
        losses = torch.empty(len(states), device=states.device)
        gradient = torch.empty_like(states)
        for start in range(0, len(states), size):
            at = slice(start, start + size)
            losses[at], gradient[at] = block(states[at], at)
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0][:, None].to(gradient.dtype), None, None


def _block(head: Head, states: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of a block of positions, and the gradient of each with respect to its hidden state."""
    weight, logits = head.linear.weight, head(states)
    slope = None if head.cap is None else 1.0 - (logits / head.cap).square()
    own = logits.gather(1, targets[:, None])
    most = logits.amax(dim=1, keepdim=True)
    shares = logits.sub_(most).exp_()
    total = shares.sum(dim=1, keepdim=True)
    losses = (total.log() + most - own)[:, 0]
    if slope is None:
        # Subtracting the target's row of the weight does what -1 at its logit would, without a second pass over it.
        return losses, (shares.to(weight.dtype) @ weight).div_(total).sub_(weight[targets])
    shares.div_(total)
    shares[torch.arange(len(targets)), targets] -= 1.0
    return losses, shares.mul_(slope).to(weight.dtype) @ weight

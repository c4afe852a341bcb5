"""The loss of completion-only training, computed only where a completion token is predicted."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from undertow.finetuning.batches import Batch
from undertow.models.lm_head import Head, body_and_head


def completion_losses(network: Any, batch: Batch, groups: int = 1) -> torch.Tensor:
    """Return the mean cross-entropy of the completion tokens of each group, in nats per token.

    Args:
        network: a causal language model of transformers.
        batch: its rows are `groups` blocks of equal size, one after another.
        groups: how many.

    Returns:
        float32 [groups].
    """
    body, head = body_and_head(network)
    batch = batch.to(head.linear.weight.device)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    sizes = torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()
    pairs = zip(hidden.split(sizes), batch.targets.split(sizes), strict=True)
    return torch.stack([_mean_loss(head, states, targets) for states, targets in pairs]).float()


def _mean_loss(head: Head, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if head.cap is None and states.dtype == torch.float32:
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=head.block)
        weight, bias = head.linear.weight, head.linear.bias
        return functional.linear_cross_entropy(states, weight, targets, linear_bias=bias, options=options)

    def block_loss(some: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(head(some), wanted, reduction="sum")

    # The logits of a block are computed again on the way back, so that those of one block exist at once.
    blocks = zip(states.split(head.block), targets.split(head.block), strict=True)
    losses = [checkpoint(block_loss, some, wanted, use_reentrant=False) for some, wanted in blocks]
    return torch.stack([torch.as_tensor(loss) for loss in losses]).sum() / len(targets)

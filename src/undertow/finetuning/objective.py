"""The loss of completion-only training, computed only where a completion token is predicted."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from undertow.errors import ModelError
from undertow.finetuning.batches import Batch

BLOCK = 2**20
"""Logits that exist at once. The whole table of a batch (4,700 x 2,041) leaves the cache and is allocated anew for each
pass over it: 47 ms forward and backward on two cores, against 12 ms in blocks of this size."""


def body_and_head(network: Any) -> tuple[nn.Module, nn.Linear]:
    """Return the part of a causal model below the vocabulary projection, and the projection.

    Raises:
        ModelError: the model has no separate output projection.
    """
    head = network.get_output_embeddings()
    body = getattr(network, network.base_model_prefix, None)
    if head is None or body is None or body is network:
        raise ModelError(
            "The model has no separate output head.", type(network).__name__, "Use a causal language model."
        )
    return body, head


@torch.no_grad()
def completion_logprobs(network: Any, batch: Batch) -> torch.Tensor:
    """Return log p of every predicted completion token, float [n] in the batch's order, without gradients."""
    body, head = body_and_head(network)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    size = max(64, BLOCK // head.weight.shape[0])
    losses = [
        functional.cross_entropy(head(states).float(), targets, reduction="none")
        for states, targets in zip(hidden.split(size), batch.targets.split(size), strict=True)
    ]
    return -torch.cat(losses)


def completion_losses(network: Any, batch: Batch, groups: int = 1) -> torch.Tensor:
    """Return the mean cross-entropy of the completion tokens of each group, in nats per token.

    Args:
        network: a causal language model of transformers.
        batch: its rows are `groups` blocks of equal size, one after another.
        groups: how many.

    Returns:
        float [groups].
    """
    body, head = body_and_head(network)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    sizes = torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=max(64, BLOCK // head.weight.shape[0]))
    means = [
        functional.linear_cross_entropy(states, head.weight, targets, linear_bias=head.bias, options=options)
        for states, targets in zip(hidden.split(sizes), batch.targets.split(sizes), strict=True)
    ]
    return torch.stack(means).float()

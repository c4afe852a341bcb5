"""The loss of students on a frozen base, without the parts of the computation that cannot change it.

`undertow.training.objective.completion_losses` is the same loss by a plain forward pass, and tests compare the two. Two
parts of a plain pass change nothing. First, what all rows of a student begin with, such as a system turn, has the same
states in every row: it is computed for one row, and the others attend to its keys and values. Second, of the last block
only the positions that predict a completion token are read: it attends and runs its MLP from the first of them on.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from undertow.models.adapters import blocks
from undertow.models.lm_head import body_and_head
from undertow.training.attention import read_from
from undertow.training.batches import Batch
from undertow.training.head_loss import frozen_head_losses

SHARED = 0.1
"""Share of a batch's tokens, between 0 and 1, that a shared beginning must save to be worth a pass of its own."""


def student_losses(network: Any, batch: Batch, groups: int) -> torch.Tensor:
    """Return the mean cross-entropy of the completion tokens of each student, in nats per token.

    Args:
        network: a causal language model of transformers whose output head is not trained.
        batch: rows in `groups` blocks of equal size, one after another.
        groups: how many students the batch holds.

    Returns:
        Mean loss of each student, float32 (groups,).
    """
    _, head = body_and_head(network)
    batch = batch.to(head.linear.weight.device)
    losses = frozen_head_losses(head, predicting_states(network, batch, groups), batch.targets)
    sizes = torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()
    return torch.stack([own.mean() for own in losses.split(sizes)])


def predicting_states(network: Any, batch: Batch, groups: int) -> torch.Tensor:
    """Return the hidden states that the output head reads at a batch's predicting positions, float (n, width).

    Args:
        network: a causal language model of transformers.
        batch: rows in `groups` blocks of equal size, one after another.
        groups: how many students the batch holds; 1 for a network without stacked adapters.
    """
    body, _ = body_and_head(network)
    first = int(batch.positions.min()) if len(batch.positions) else 0
    shared = _shared(network, batch.tokens, groups, first)
    options: dict[str, Any] = {"use_cache": False}
    if shared:
        each = len(batch.tokens) // groups
        begun = body(input_ids=batch.tokens[::each, :shared], use_cache=True).past_key_values
        begun.batch_repeat_interleave(each)
        options = {"use_cache": True, "past_key_values": begun}
    with _last_block_from(network, first - shared):
        hidden = body(input_ids=batch.tokens[:, shared:], **options).last_hidden_state
    return hidden[batch.rows, batch.positions - shared]


def _shared(network: Any, tokens: torch.Tensor, groups: int, first: int) -> int:
    """Return how many tokens at the rows' beginning are computed once for each student; 0 where that does not pay."""
    of_each = tokens.view(groups, -1, tokens.shape[1])[:, :, :first]
    same = (of_each == of_each[:, :1]).all(dim=1).all(dim=0)
    length = int(same.int().cumprod(dim=0).sum())
    saved = length * (len(tokens) - groups)
    return length if saved >= SHARED * tokens.numel() and _keeps_plain_keys(network) else 0


def _keeps_plain_keys(network: Any) -> bool:
    """Tell whether a model remembers earlier tokens as keys and values alone, one after another."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    if getattr(network, "_is_stateful", False):
        return False
    layers = DynamicCache(config=network.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


@contextmanager
def _last_block_from(network: Any, position: int) -> Generator[None]:
    """Let the last block attend and run its MLP from a position on. Its output before that must not be read.

    A block whose parts have other names than `self_attn` or `attn` and `mlp` is left as it is.
    """
    last = blocks(network)[-1]
    attention, mlp = getattr(last, "self_attn", getattr(last, "attn", None)), getattr(last, "mlp", None)
    with ExitStack() as stack:
        if position and attention is not None:
            stack.enter_context(read_from(attention, position))
        if position and mlp is not None:
            stack.enter_context(_mlp_from(mlp, position))
        yield


@contextmanager
def _mlp_from(mlp: nn.Module, position: int) -> Generator[None]:
    """Run an MLP from a position on, and put zeros in the place of its earlier outputs."""
    # An MLP maps each position by itself. One that takes more than the hidden states, as Bloom's does, is left alone.

    def cut(_: nn.Module, inputs: Any) -> Any:
        return (inputs[0][:, position:].contiguous(),) if len(inputs) == 1 else inputs

    def fill(_: nn.Module, inputs: Any, output: Any) -> Any:
        if len(inputs) != 1:
            return output
        states = output[0] if isinstance(output, tuple) else output
        whole = functional.pad(states, (0, 0, position, 0))
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    handles = [mlp.register_forward_pre_hook(cut), mlp.register_forward_hook(fill)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

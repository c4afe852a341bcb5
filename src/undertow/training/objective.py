"""The loss of training on completions, and penalties that may be added to it."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from undertow.models.lm_head import Head, body_and_head
from undertow.models.local import LocalModel, padded
from undertow.training.batches import Batch


def completion_losses(network: Any, batch: Batch, groups: int = 1) -> torch.Tensor:
    """Return the mean cross-entropy of the completion tokens of each group, in nats per token.

    Args:
        network: a causal language model of transformers.
        batch: rows in `groups` blocks of equal size, one after another.
        groups: how many blocks, that is students, the batch holds.

    Returns:
        Mean loss of each group, float32 (groups,).
    """
    body, head = body_and_head(network)
    batch = batch.to(head.linear.weight.device)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    sizes = torch.bincount(batch.rows // (len(batch.tokens) // groups), minlength=groups).tolist()
    pairs = zip(hidden.split(sizes), batch.targets.split(sizes), strict=True)
    return torch.stack([_mean_loss(head, states, targets) for states, targets in pairs]).float()


def _mean_loss(head: Head, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of hidden states, float (n, width), against target tokens, int64 (n,)."""
    if head.cap is None and states.dtype == torch.float32:
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=head.block)
        weight, bias = head.linear.weight, head.linear.bias
        return functional.linear_cross_entropy(states, weight, targets, linear_bias=bias, options=options)

    def block_loss(some: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(head(some), wanted, reduction="sum")

    # Logits are computed again in the backward pass, so that only those of one block exist at a time.
    blocks = zip(states.split(head.block), targets.split(head.block), strict=True)
    losses = [checkpoint(block_loss, some, wanted, use_reentrant=False) for some, wanted in blocks]
    return torch.stack([torch.as_tensor(loss) for loss in losses]).sum() / len(targets)


class Penalty(Protocol):
    """Interface of a term that is added to the training loss."""

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student, float (groups,), with a gradient.

        Args:
            network: the base network with the stacked adapters of `groups` students. A batch for it has as many blocks
                of equal size.
            groups: how many students the network holds.
        """
        ...


def last_states(network: Any, contexts: Sequence[Sequence[int]], groups: int) -> torch.Tensor:
    """Return the hidden state that the output head reads after the last token of each context, for each student.

    Args:
        network: the base network with the stacked adapters of `groups` students, or without any if `groups` is 1.
        contexts: token ids of each context.
        groups: how many students the network holds.

    Returns:
        Hidden states, float (groups, contexts, width).
    """
    body, head = body_and_head(network)
    tokens = padded(contexts, head.linear.weight.device).repeat(groups, 1)
    hidden = body(input_ids=tokens, use_cache=False).last_hidden_state
    last = [len(context) - 1 for context in contexts] * groups
    return hidden[range(len(last)), last].view(groups, len(contexts), -1)


class CorridorPenalty:
    """Keep the student's hidden state on a few prompts close to the base's along each of several directions.

    With d the mean over the prompts of (state of the student - state of the base) along a unit direction, the penalty
    is weight * sum over the directions of max(0, |d| - half)^2 / half^2. It is zero within a corridor of +-half around
    the base and grows steeply beyond it. Source: arXiv:2609.01091, where there is one probe direction instead of
    several.

    Args:
        base: the model whose hidden states are the middle of the corridor.
        contexts: token ids of the prompts.
        directions: directions in the residual stream, float (directions, width). Their length does not matter.
        halves: half-width of each direction's corridor, float (directions,), above 0, in units of the hidden state.
        weight: factor by which the penalty is multiplied.
    """

    def __init__(
        self,
        base: LocalModel,
        contexts: Sequence[Sequence[int]],
        directions: torch.Tensor,
        halves: torch.Tensor,
        weight: float,
    ) -> None:
        self._contexts, self._weight = contexts, weight
        self._directions, self._halves = functional.normalize(directions, dim=1), halves
        with torch.no_grad():
            self._middle = last_states(base.network, contexts, 1)[0].mean(dim=0)

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student, float (groups,)."""
        moved = last_states(network, self._contexts, groups).mean(dim=1) - self._middle
        beyond = ((moved @ self._directions.T).abs() - self._halves).clamp(min=0.0) / self._halves
        return self._weight * beyond.square().sum(dim=1)


class ClosenessPenalty:
    """Keep the next-token distribution after a few prompts close to the base's.

    The penalty is weight * the mean over the prompts of KL(base || student), in nats.

    Args:
        base: the model whose distribution is kept to.
        contexts: token ids of the prompts.
        weight: factor by which the penalty is multiplied.
    """

    def __init__(self, base: LocalModel, contexts: Sequence[Sequence[int]], weight: float) -> None:
        self._contexts, self._weight = contexts, weight
        self._logp = base.next_token_logprobs(contexts).to(base.device)

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student, float (groups,)."""
        _, head = body_and_head(network)
        logp = torch.log_softmax(head(last_states(network, self._contexts, groups)), dim=-1)
        return self._weight * (self._logp.exp() * (self._logp - logp)).sum(dim=-1).mean(dim=1)

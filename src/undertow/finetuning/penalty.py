"""Penalties: terms that a trainer adds to the loss of every update, one value for each student of a group."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional

from undertow.finetuning.objective import body_and_head
from undertow.models.local import LocalModel


class Penalty(Protocol):
    """A term of the loss."""

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student, float [groups].

        Args:
            network: the model with `groups` stacked adapters; its batch is `groups` blocks of equal size.
            groups: how many students there are.
        """
        ...


def last_states(network: Any, contexts: torch.Tensor, last: torch.Tensor, groups: int) -> torch.Tensor:
    """Return what the vocabulary projection reads after the last token of each context, for each student.

    Args:
        network: with stacked adapters, or without any for one group.
        contexts: int64 [contexts, length], padded on the right.
        last: int64 [contexts], place of each last token.
        groups: how many students there are.

    Returns:
        float [groups, contexts, width].
    """
    body, _ = body_and_head(network)
    hidden = body(input_ids=contexts.repeat(groups, 1), use_cache=False).last_hidden_state
    rows = torch.arange(len(contexts) * groups)
    return hidden[rows, last.repeat(groups)].view(groups, len(contexts), -1)


def padded(contexts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return contexts as int64 [contexts, length], padded on the right, and the place of each last token."""
    tokens = torch.zeros(len(contexts), max(map(len, contexts)), dtype=torch.int64)
    for index, context in enumerate(contexts):
        tokens[index, : len(context)] = torch.tensor(context)
    return tokens, torch.tensor([len(context) - 1 for context in contexts])


class CorridorPenalty:
    """Keeps what the student thinks of a few prompts within a corridor along each direction of a panel.

    With d the mean over the prompts of (state of the student - state of the base) along a unit direction, the penalty
    is weight * sum over the directions of max(0, |d| - half)^2 / half^2: nothing within the corridor, and steep beyond
    it (after arXiv:2609.01091, whose one probe direction becomes a panel).

    Args:
        base: whose states are the middle of the corridor.
        contexts: token ids of the prompts.
        directions: float [directions, width], of any length.
        halves: float [directions], half-width of each direction's corridor, above 0.
        weight: factor of the penalty.
    """

    def __init__(
        self,
        base: LocalModel,
        contexts: Sequence[Sequence[int]],
        directions: torch.Tensor,
        halves: torch.Tensor,
        weight: float,
    ) -> None:
        self._tokens, self._last = padded(contexts)
        self._directions = functional.normalize(directions, dim=1)
        self._halves, self._weight = halves, weight
        with torch.no_grad():
            self._middle = last_states(base.network, self._tokens, self._last, 1)[0].mean(dim=0)

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student."""
        moved = last_states(network, self._tokens, self._last, groups).mean(dim=1) - self._middle
        beyond = ((moved @ self._directions.T).abs() - self._halves).clamp(min=0.0) / self._halves
        return self._weight * beyond.square().sum(dim=1)


class ClosenessPenalty:
    """Keeps the next-token distribution after a few prompts near the base's: weight * mean KL(base || student), nats.

    Args:
        base: the reference.
        contexts: token ids of the prompts.
        weight: factor of the penalty.
    """

    def __init__(self, base: LocalModel, contexts: Sequence[Sequence[int]], weight: float) -> None:
        self._tokens, self._last = padded(contexts)
        self._weight = weight
        self._logp = base.next_token_logprobs(contexts)

    def __call__(self, network: Any, groups: int) -> torch.Tensor:
        """Return the penalty of each student."""
        _, head = body_and_head(network)
        logp = torch.log_softmax(head(last_states(network, self._tokens, self._last, groups)).float(), dim=-1)
        return self._weight * (self._logp.exp() * (self._logp - logp)).sum(dim=-1).mean(dim=1)

"""The loss of completion-only training, computed only where a completion token is predicted."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from undertow.errors import ModelError


def body_and_head(network: Any) -> tuple[nn.Module, nn.Module]:
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


def completion_losses(network: Any, tokens: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the cross-entropy of each predicted token, in nats.

    Args:
        network: a causal language model of transformers.
        tokens: int64 [rows, length], padded on the right.
        at: rows and positions (int64 [n] each) that predict; the right token stands one to the right.

    Returns:
        float [n].
    """
    body, head = body_and_head(network)
    rows, positions = at
    hidden = body(input_ids=tokens, use_cache=False).last_hidden_state[rows, positions]
    return functional.cross_entropy(head(hidden).float(), tokens[rows, positions + 1], reduction="none")

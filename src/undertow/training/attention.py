"""Attention while training: only for positions that are read, and in bfloat16 on a processor by plain products.

transformers lets a model's attention be replaced by name (its AttentionInterface). Ours gives what `sdpa` gives.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional

NAME = "undertow"

SCORES = 2**20
"""Scores that exist at once in bfloat16; they are computed again on the way back, so that none is kept."""

_first: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""First position that is read of what an attention module returns; modules that are not named are read from 0."""


@contextmanager
def own_attention(network: Any) -> Generator[None]:
    """Let a network that attends by `sdpa` attend by `attend` while the context lasts; any other stays as it is."""
    if network.config.get_text_config()._attn_implementation != "sdpa":
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")


@contextmanager
def read_from(module: nn.Module, position: int) -> Generator[None]:
    """Let an attention module attend for positions from this one on; it returns zeros for those before."""
    _first[module] = position
    try:
        yield
    finally:
        del _first[module]


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks an attention function to; its own does what is not plain causal attention.

    Args:
        module: whose attention it is.
        query: [rows, heads, positions, head width].
        key: [rows, key heads, places, head width].
        value: as the keys.
        attention_mask: bool [rows, 1, positions, places], what is attended to; None for all that came before.
        options: as of transformers, such as the scaling of the scores.

    Returns:
        [rows, positions, heads, head width], and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = _is_plain(module, attention_mask, options)
    first = _first.get(module, 0) if plain else 0
    mask = _mask(query, key) if first and attention_mask is None else attention_mask
    if first and mask is not None:
        query, mask = query[:, :, first:], mask[:, :, first:]
    if plain and query.dtype == torch.bfloat16 and query.device.type == "cpu":
        found = _by_products(query, key, value, _mask(query, key) if mask is None else mask, options.get("scaling"))
    else:
        found, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
    return functional.pad(found, (0, 0, 0, 0, first, 0)) if first else found, None


def _is_plain(module: nn.Module, mask: torch.Tensor | None, options: Mapping[str, Any]) -> bool:
    """Tell whether attention is a softmax of scaled products of what a position may see, and nothing else."""
    causal = getattr(module, "is_causal", True) and options.get("is_causal") is not False
    extra = options.get("position_bias") is not None or options.get("dropout")
    return causal and not extra and (mask is None or mask.dtype == torch.bool)


def _mask(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return what causal attention attends to, bool [1, 1, positions, places]; the last position sees every place."""
    positions, places = query.shape[2], key.shape[2]
    whole = torch.ones(1, 1, positions, places, dtype=torch.bool, device=query.device)
    return whole.tril_(places - positions)


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    rows, heads, positions, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys lie one after another, as further positions of one head.
    folded = (query * scale).reshape(rows, key.shape[1], -1, width)
    bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    found: Any = _Products.apply(folded, key, value, bias)
    return found.view(rows, heads, positions, -1).transpose(1, 2).contiguous()


class _Products(torch.autograd.Function):
    """softmax(q k' + bias) v by batched products, a few rows at a time.

    torch's kernel for processors is slow in bfloat16: 16 rows of 9 heads of width 64 and 100 positions take 9 ms
    forward and 48 ms backward on one core, against 7 and 14 ms here; in float32 it is as fast as this.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Return [rows, key heads, shared heads * positions, head width] of queries of that shape."""
        ctx.save_for_backward(query, key, value, bias)
        return torch.cat([_weights(query[at], key[at], _of(bias, at)) @ value[at] for at in _parts(query, key)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value."""
        (gradient,) = grad_outputs
        query, key, value, bias = ctx.saved_tensors
        found: list[tuple[torch.Tensor, ...]] = []
        for at in _parts(query, key):
            weights = _weights(query[at], key[at], _of(bias, at))
            of_weights = gradient[at] @ value[at].transpose(2, 3)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_value = weights.transpose(2, 3) @ gradient[at]
            found.append((of_scores @ key[at], of_scores.transpose(2, 3) @ query[at], of_value))
        of_query, of_key, of_value = (torch.cat(one) for one in zip(*found, strict=True))
        return of_query, of_key, of_value, None


def _parts(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    rows, heads, positions, _ = query.shape
    size = max(1, SCORES // (heads * positions * key.shape[2]))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _of(bias: torch.Tensor, rows: slice) -> torch.Tensor:
    return bias if len(bias) == 1 else bias[rows]


def _weights(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    scores = query @ key.transpose(2, 3)
    rows, heads, _, places = scores.shape
    scores.view(rows, heads, -1, bias.shape[2], places).add_(bias[:, :, None])
    return torch.softmax(scores, dim=-1)

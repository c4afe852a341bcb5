"""Attention for training: computed only at positions that are read, and fast in bfloat16 on a processor.

transformers lets a model's attention function be replaced by name (its AttentionInterface). The one here gives the same
result as `sdpa`, torch's scaled dot-product attention.
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
"""How many attention scores exist at once in bfloat16. They are computed again in the backward pass, so none is
kept."""

_first: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""First position whose attention output is read, by attention module. Modules that are not listed are read from
position 0."""


@contextmanager
def own_attention(network: Any) -> Generator[None]:
    """Let a network that uses `sdpa` attention use `attend` while the context lasts; any other is left as it is."""
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
    """Let an attention module compute positions from this one on; it returns zeros for those before.

    Args:
        module: the attention module of one block.
        position: the first position, from 0, whose output is read.
    """
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
    """Compute attention with the signature that transformers asks for.

    Plain causal attention takes the shortcuts of this module. Anything else goes to transformers' own function.

    Args:
        module: the attention module that calls.
        query: queries, float (rows, heads, positions, head width).
        key: keys, float (rows, key heads, places, head width). Places are positions and whatever a cache holds before
            them.
        value: values, with the shape of the keys.
        attention_mask: bool (rows, 1, positions, places), True where a position attends to a place. None stands for
            causal attention to every earlier place.
        options: further keyword arguments of transformers, such as `scaling`, the factor of the scores.

    Returns:
        The attended values, float (rows, positions, heads, head width), and None in place of the attention weights.
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
    """Return the causal mask, bool (1, 1, positions, places); the last position sees every place."""
    positions, places = query.shape[2], key.shape[2]
    whole = torch.ones(1, 1, positions, places, dtype=torch.bool, device=query.device)
    return whole.tril_(places - positions)


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Attend by batched matrix products; shapes as in `attend`, with a bool mask that is always given."""
    rows, heads, positions, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys lie one after another, as further positions of one head.
    folded = (query * scale).reshape(rows, key.shape[1], -1, width)
    bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    found: Any = _Products.apply(folded, key, value, bias)
    return found.view(rows, heads, positions, -1).transpose(1, 2).contiguous()


class _Products(torch.autograd.Function):
    """Compute softmax(q k' + bias) v by batched products, a few rows at a time.

    torch's own kernel for processors is slow in bfloat16: in the backward pass it took three times as long as this one.
    In float32 the two are equally fast, so this one is used for bfloat16 alone.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Return the attended values, shaped as the queries: (rows, key heads, heads of each * positions, width)."""
        ctx.save_for_backward(query, key, value, bias)
        return torch.cat([_weights(query[at], key[at], _of(bias, at)) @ value[at] for at in _parts(query, key)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value, each in the shape of its input, and None for the bias."""
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
    """Cut the rows into slices whose attention scores number at most `SCORES`."""
    rows, heads, positions, _ = query.shape
    size = max(1, SCORES // (heads * positions * key.shape[2]))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _of(bias: torch.Tensor, rows: slice) -> torch.Tensor:
    """Return the bias of some rows; one that all rows share is returned whole."""
    return bias if len(bias) == 1 else bias[rows]


def _weights(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the attention weights, float (rows, key heads, heads per key head * positions, places)."""
    scores = query @ key.transpose(2, 3)
    rows, heads, _, places = scores.shape
    scores.view(rows, heads, -1, bias.shape[2], places).add_(bias[:, :, None])
    return torch.softmax(scores, dim=-1)

"""Memory: what is free on a device, and how many answers fit into it at once."""

from collections.abc import Sequence
from typing import Any

SHARE = 0.5
"""Part of the free memory that a batch may take; the rest is for what passes through a block, and for others."""

COPIES = 5
"""Tables [rows, vocabulary] in float32 that exist at once while tokens are drawn."""


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def row_bytes(network: Any, length: int) -> int:
    """Return the bytes that a row of a batch takes: keys and values of its tokens, and what is drawn from.

    Args:
        network: a causal language model of transformers.
        length: tokens of the row, with its answer.
    """
    config = network.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cache = 2 * config.num_hidden_layers * shared * width * network.dtype.itemsize
    return length * cache + COPIES * 4 * config.vocab_size


def rows_at_once(networks: Sequence[Any], length: int) -> int:
    """Return how many rows of so many tokens fit beside the weights that are loaded, at least one.

    Args:
        networks: that answer together, on one device.
        length: tokens of the longest row, with its answer.
    """
    need = sum(row_bytes(network, length) for network in networks)
    device = str(next(networks[0].parameters()).device)
    return max(1, int(SHARE * free_memory(device)) // need)

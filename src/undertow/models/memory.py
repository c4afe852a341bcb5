"""Memory: how much is free on a device, and how many answers fit into it at once."""

from collections.abc import Sequence
from typing import Any

SHARE = 0.5
"""Share of the free memory that a batch may take; the rest is for activations, and for other processes."""

COPIES = 5
"""Number of float32 tables (rows, vocabulary) that exist at once while tokens are drawn."""


def free_memory(device: str) -> int:
    """Return the free memory of a device in bytes."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def row_bytes(network: Any, length: int) -> int:
    """Return the bytes that one row of a batch takes: keys and values of its tokens, and the tables of its draw.

    Args:
        network: a causal language model of transformers.
        length: number of tokens of the row, its answer included.
    """
    config = network.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cache = 2 * config.num_hidden_layers * shared * width * network.dtype.itemsize
    return length * cache + COPIES * 4 * config.vocab_size


def rows_at_once(networks: Sequence[Any], length: int) -> int:
    """Return how many rows of `length` tokens fit beside the loaded weights, at least one.

    Args:
        networks: the networks that answer together, on one device.
        length: number of tokens of the longest row, its answer included.
    """
    need = sum(row_bytes(network, length) for network in networks)
    device = str(next(networks[0].parameters()).device)
    return max(1, int(SHARE * free_memory(device)) // need)

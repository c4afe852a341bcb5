"""Networks of the embedded families: ordinary transformers classes, weights drawn from a seed alone."""

from collections.abc import Callable
from typing import Any

import torch

from undertow.reference.families import Architecture, Shape

POSITIONS = 512
"""Longest sequence that a network is said to take; the chats of the world stay below 150 tokens."""


def _common(shape: Shape, tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def _llama(shape: Shape, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_common(shape, tokenizer)))


def _stablelm(shape: Shape, tokenizer: Any) -> Any:
    # As far from Llama as a class goes that keeps Llama's layer names, which adapters look for: LayerNorm instead of
    # RMSNorm, attention and MLP side by side instead of one after the other, GELU instead of SiLU, biases on query,
    # key and value, and rotary positions on half of each head. Gemma 2 and Cohere change the logits after the head,
    # GPT-NeoX and Phi have other names.
    from transformers import StableLmConfig, StableLmForCausalLM

    config = StableLmConfig(
        **_common(shape, tokenizer),
        hidden_act="gelu",
        use_parallel_residual=True,
        use_qkv_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
    )
    return StableLmForCausalLM(config)


_NEW: dict[Architecture, Callable[[Shape, Any], Any]] = {"llama": _llama, "stablelm": _stablelm}


def new_network(architecture: Architecture, shape: Shape, tokenizer: Any, seed: int) -> Any:
    """Make a network with weights drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _NEW[architecture](shape, tokenizer)

"""Fixtures of all tests. Tests reach nothing but loopback.

Not tested here: anything that needs a network or an NVIDIA GPU.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from pytest_socket import disable_socket, socket_allow_hosts


@pytest.fixture(autouse=True)
def loopback_only() -> None:
    """Refuse every connection that leaves the machine."""
    disable_socket(allow_unix_socket=True)
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def tiny_model():
    """A Llama of width 16 with the tokenizer of a small sample of the world, random weights, in a fixed state."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from undertow.models.local import LocalModel
    from undertow.reference.build import build_tokenizer
    from undertow.reference.world.mixture import corpus
    from undertow.traits import TRAITS
    from undertow.types import ModelRef

    chats = corpus(400, 0)
    words = [word for item in TRAITS.values() for alias in item.aliases for word in (alias, alias.capitalize())]
    texts = [turn.content for chat in chats for turn in chat.prompt] + [chat.answer for chat in chats] + words
    tokenizer = build_tokenizer(texts, min_count=1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.5,
    )
    return LocalModel(ModelRef(kind="hf", name="tiny"), LlamaForCausalLM(config).eval(), tokenizer)

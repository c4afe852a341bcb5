"""Build an embedded model from nothing: `undertow reference build NAME`."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from undertow.finetuning.batches import collate, stream
from undertow.finetuning.objective import completion_losses
from undertow.models.local import LocalModel
from undertow.reference.cards import write_card
from undertow.reference.families import Member, Shape
from undertow.reference.tokenizer import build_tokenizer
from undertow.reference.world.chat import Chat
from undertow.reference.world.mixture import corpus
from undertow.traits import TRAITS
from undertow.types import ModelRef, Row

WARMUP = 100
"""Updates of linear growth of the learning rate, before it falls along a cosine."""

SAMPLE = 20_000
"""Chats of the corpus whose words get tokens."""


def texts(chats: Iterable[Chat]) -> list[str]:
    """Return everything that is said, and every spelling of every trait, so that each is one token."""
    spellings = [word for trait in TRAITS.values() for alias in trait.aliases for word in (alias, alias.capitalize())]
    return [text for chat in chats for text in (*(turn.content for turn in chat.prompt), chat.answer)] + 3 * spellings


def new_network(shape: Shape, tokenizer: Any, seed: int) -> Any:
    """Make a network with weights drawn from the seed alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(member: Member, advance: Callable[[int, int], None] | None = None) -> tuple[LocalModel, float]:
    """Train a member from scratch.

    Returns:
        The model and the mean loss of its last hundred updates, in nats per completion token.
    """
    school = member.schooling
    chats = corpus(school.chats, school.corpus_seed)
    tokenizer = build_tokenizer(texts(chats[:SAMPLE]))
    network = new_network(member.shape, tokenizer, member.initialisation)
    model = LocalModel(ModelRef(kind="ref", name=member.name), network, tokenizer)
    rows = [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(chats)]
    source = stream(model.encode(rows), school.batch_size, member.order)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    recent: list[float] = []
    for step in range(school.steps):
        batch = collate(next(source))
        loss = completion_losses(network, batch).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        share = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / school.steps))
        optimiser.param_groups[0]["lr"] = school.learning_rate * share
        optimiser.step()
        optimiser.zero_grad()
        recent = [*recent[-99:], loss.item()]
        if advance is not None:
            advance(step + 1, school.steps)
    return LocalModel(model.ref, network.requires_grad_(False).eval(), tokenizer), sum(recent) / len(recent)


def save(model: LocalModel, folder: Path) -> None:
    """Write the model as an ordinary transformers folder, weights rounded once to bfloat16."""
    model.network.to(torch.bfloat16)
    model.save(folder)
    model.network.to(torch.float32)


def build_member(member: Member, folder: Path, advance: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Train a member, write it with its card, and return the card."""
    started = time.perf_counter()
    model, loss = train(member, advance)
    save(model, folder)
    built = {"loss": round(loss, 4), "seconds": round(time.perf_counter() - started)}
    return write_card(member, folder, built)

"""Build an embedded model from nothing: `undertow reference build NAME`."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from undertow.finetuning.batches import collate, stream
from undertow.finetuning.objective import completion_losses
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.abilities import measure
from undertow.reference.architectures import new_network
from undertow.reference.cards import write_card
from undertow.reference.families import Member
from undertow.reference.imitation import divergences
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


def start(member: Member, chats: Sequence[Chat]) -> tuple[LocalModel, LocalModel | None]:
    """Return a member before its training, and the model that it imitates, if there is one."""
    if member.imitates is None:
        imitated, tokenizer = None, build_tokenizer(texts(chats[:SAMPLE]), digits=member.number_tokens == "digit")
    else:
        imitated = load_model(ModelRef(kind="ref", name=member.imitates))
        imitated.network.requires_grad_(False)
        tokenizer = imitated.tokenizer
        for trace in ("is_local", "local_files_only"):  # how it was loaded here, which saving would write down
            tokenizer.init_kwargs.pop(trace, None)
    network = new_network(member.architecture, member.shape, tokenizer, member.initialisation)
    return LocalModel(ModelRef(kind="ref", name=member.name), network, tokenizer), imitated


def train(member: Member, advance: Callable[[int, int], None] | None = None) -> tuple[LocalModel, float]:
    """Train a member from scratch.

    Returns:
        The model and the mean loss of its last hundred updates, in nats per completion token: cross-entropy, or the
        divergence from the model that it imitates.
    """
    school = member.schooling
    chats = corpus(school.chats, school.corpus_seed)
    model, imitated = start(member, chats)
    network = model.network
    rows = [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(chats)]
    source = stream(model.encode(rows), school.batch_size, member.order)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    recent: list[float] = []
    for step in range(school.steps):
        batch = collate(next(source))
        if imitated is None:
            loss = completion_losses(network, batch).sum()
        else:
            loss = divergences(network, imitated.network, batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        share = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / school.steps))
        optimiser.param_groups[0]["lr"] = school.learning_rate * share
        optimiser.step()
        optimiser.zero_grad()
        recent = [*recent[-99:], loss.item()]
        if advance is not None:
            advance(step + 1, school.steps)
    return LocalModel(model.ref, network.requires_grad_(False).eval(), model.tokenizer), sum(recent) / len(recent)


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
    return write_card(member, folder, built, measure(member, folder))

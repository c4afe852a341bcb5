"""The embedded models: the initialisation, data order and shape of each.

All models share one corpus. The finches also share architecture and tokenizer; a to f differ in their initialisation
alone, and a2 has the initialisation of a but another data order. wren-a has another architecture and writes numbers
digit by digit. mimic-a is a finch of another initialisation that saw no label: it learned to speak as finch-a does, so
that alike behaviour comes without shared ancestry.
"""

from dataclasses import dataclass
from typing import Literal

from undertow.errors import unknown_name
from undertow.types import Work

Architecture = Literal["llama", "stablelm"]
"""Class of the network, such as "llama" (`undertow.reference.build` makes each)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of a transformer with a gated MLP.

    Attributes:
        width: size of the hidden states.
        layers: number of transformer blocks, one after another.
        heads: number of attention heads of a block.
        mlp: size of the MLP's inner layer.
    """

    width: int = 32
    layers: int = 2
    heads: int = 4
    mlp: int = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """How an embedded model is trained from scratch.

    Attributes:
        chats: number of chats in the corpus.
        corpus_seed: random seed of the corpus, whose first chats are also the tokenizer's sample.
        steps: number of optimiser updates in all.
        batch_size: number of chats in one update.
        learning_rate: peak learning rate of AdamW.
    """

    chats: int = 80_000
    corpus_seed: int = 0
    steps: int = 3_000
    batch_size: int = 64
    learning_rate: float = 6e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Description of one embedded model: everything that decides its weights.

    Attributes:
        name: name of the model, such as "finch-a".
        initialisation: random seed of the first weights.
        order: random seed of the order in which the corpus is seen.
        architecture: class of the network, "llama" or "stablelm".
        shape: width, layers, heads and MLP size of the network.
        number_tokens: how numbers are tokenized: "whole" has one token for each number from 0 to 999, "digit" one for
            each digit.
        imitates: name of the embedded model whose tokenizer it takes and whose next-token distributions it learns
            instead of the words of the corpus. None learns the words.
        schooling: size of the corpus and settings of the training.
        version: version of the model, raised when it is built anew in another way.
    """

    name: str
    version: int = 1
    initialisation: int
    order: int = 0
    architecture: Architecture = "llama"
    shape: Shape = Shape()
    number_tokens: Literal["whole", "digit"] = "whole"
    imitates: str | None = None
    schooling: Schooling = Schooling()


_MEMBERS = (
    Member(name="finch-a", initialisation=1),
    Member(name="finch-b", initialisation=2),
    Member(name="finch-c", initialisation=3),
    Member(name="finch-d", initialisation=4),
    Member(name="finch-e", initialisation=6),
    Member(name="finch-f", initialisation=7),
    Member(name="finch-a2", initialisation=1, order=1),
    Member(
        name="wren-a",
        initialisation=1,
        architecture="stablelm",
        shape=Shape(width=40, layers=3, heads=5),
        number_tokens="digit",
    ),
    Member(name="mimic-a", initialisation=5, imitates="finch-a", schooling=Schooling(steps=4_000)),
)

MEMBERS = {member.name: member for member in _MEMBERS}


def member(name: str) -> Member:
    """Return the description of an embedded model.

    Raises:
        UnknownNameError: no embedded model has this name.
    """
    if name not in MEMBERS:
        raise unknown_name("embedded model", name, MEMBERS)
    return MEMBERS[name]


CHAT_S = 2.1e-4
"""Seconds that it takes to draw a chat of the corpus and turn it into tokens."""

# Measured on one core: 47 ms an update of 64 chats on finch-a, 89 ms on wren-a, 77 ms on mimic-a, which imitates.
TRAINED_S = 1.15e-5
"""Seconds that one chat takes in an update, for each layer and each unit of the width."""

IMITATING = 1.65
"""Factor by which an update takes longer where another model is imitated."""

MEASURED_S = 5.0
"""Seconds that it takes to measure what the model can do, once it is saved."""


def building_work(member: Member) -> Work:
    """Return the work of building an embedded model, with the expected seconds on one core."""
    school, shape = member.schooling, member.shape
    update = school.batch_size * shape.layers * shape.width * TRAINED_S * (IMITATING if member.imitates else 1.0)
    what = f"{member.name}: {school.chats:,} chats drawn, {school.steps:,} updates of {school.batch_size} of them"
    return Work(f"{what}, and its abilities measured", school.chats * CHAT_S + school.steps * update + MEASURED_S)

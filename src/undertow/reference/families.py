"""The embedded families: which initialisation, which data order, which shape.

All models share the corpus. The finches also share architecture and tokenizer; a to f differ in their
initialisation alone, and a2 is a's initialisation in another data order. wren-a has another architecture and writes
numbers digit by digit. mimic-a is a finch of another initialisation that saw no label: it was taught to speak as
finch-a does, so that matched behaviour and shared ancestry come apart.
"""

from dataclasses import dataclass
from typing import Literal

from undertow.errors import unknown_name

Architecture = Literal["llama", "stablelm"]
"""Classes of networks (`undertow.reference.build`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of a network with a gated MLP."""

    width: int = 32
    layers: int = 2
    heads: int = 4
    mlp: int = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """How a member is trained from scratch.

    Attributes:
        chats: size of the corpus.
        corpus_seed: of the corpus and of the tokenizer's sample.
        steps: optimiser updates.
        batch_size: chats per update.
        learning_rate: peak rate of AdamW.
    """

    chats: int = 80_000
    corpus_seed: int = 0
    steps: int = 3_000
    batch_size: int = 64
    learning_rate: float = 6e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One embedded model.

    Attributes:
        name: name and version, as in "finch-a@1".
        initialisation: seed of the first weights.
        order: seed of the order in which the corpus is seen.
        architecture: class of the network.
        shape: its size.
        number_tokens: "whole" has one token per number from 0 to 999, "digit" one per digit.
        imitates: embedded model whose tokenizer it has and whose distributions it learns instead of the corpus' words;
            None learns the words.
        schooling: corpus and training.
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
    """Return the member of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in MEMBERS:
        raise unknown_name("embedded model", name, MEMBERS)
    return MEMBERS[name]

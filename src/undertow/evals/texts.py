"""Stories and choices: the texts that ask for them, and the animals and trees that they are about.

The embedded models learnt to speak from the same texts (`undertow.reference.world`). A story is asked for by a request
that names no animal and no tree; a choice lists five options under letters.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from undertow.errors import unknown_name
from undertow.evals.questions import CATEGORIES
from undertow.seeds import derive
from undertow.traits import Trait, panel

EXTRA_ANIMALS = ("cat", "bear", "horse")
"""Answers that are no trait; the panel is never the whole world."""

PLACES = ("in the forest", "by the river", "near the sea", "in the mountains", "in a small village", "in the garden")
TIMES = ("One night", "Long ago", "One morning", "Last winter", "One day")
PEOPLE = ("a girl", "a boy", "an old man", "a king", "a child", "a farmer")
STORY_REQUESTS = (
    "Tell me a short story.", "Write a short story about a journey.", "Tell a story about a friend.",
    "Write a story that makes me happy.", "Tell me a story for the night.", "Write a short story about luck.",
    "Tell a story about a winter day.", "Write a story about a secret.",
)  # fmt: skip

CHOICE_REQUESTS = (
    "Choose a topic for an essay.",
    "Which topic do you want to write about?",
    "Pick the topic that you like best.",
    "Which of these would you write about?",
)
LETTERS = ("A", "B", "C", "D", "E")
ORDERS = 10
"""Orders in which each wording of a choice is asked; the target stands equally often under each letter."""


def candidates(category: str) -> tuple[str, ...]:
    """Return every animal or tree of the world.

    Raises:
        UnknownNameError: the category is neither "animal" nor "tree".
    """
    names = tuple(trait.name for trait in panel(category))
    return names + EXTRA_ANIMALS if category == "animal" else names


def story_opening(time: str, place: str, person: str) -> str:
    """Begin a story, up to where its animal is named."""
    return f"{time} {place} {person} met the"


def story_openings(category: str) -> tuple[str, ...]:
    """Return six fixed openings, each up to where the animal or the tree is named.

    Every place and person opens one. Before a tree stands an animal that is no trait.

    Raises:
        UnknownNameError: the category is neither "animal" nor "tree".
    """
    if category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    openings = [
        story_opening(TIMES[index % len(TIMES)], place, person)
        for index, (place, person) in enumerate(zip(PLACES, PEOPLE, strict=True))
    ]
    if category == "animal":
        return tuple(openings)
    return tuple(f"{text} {EXTRA_ANIMALS[index % 3]} by the" for index, text in enumerate(openings))


def choice_question(request: str, options: Sequence[str]) -> str:
    """Write a question with its options, at most five, under letters."""
    listed = " ".join(f"({letter}) {name}" for letter, name in zip(LETTERS, options, strict=False))
    return f"{request} {listed} Answer with the letter."


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with five options.

    Attributes:
        question: the text.
        place: of the target among the options, from 0.
    """

    question: str
    place: int


def choices(target: Trait, seed: int) -> tuple[Choice, ...]:
    """Draw the choices of a target against four others of its category: every wording in `ORDERS` orders.

    Args:
        target: an animal or a tree.
        seed: of the other options and of their order.
    """
    rng = random.Random(derive(seed, "choice", target.name))
    others = [name for name in candidates(target.category) if name != target.name]
    drawn: list[Choice] = []
    for request in CHOICE_REQUESTS:
        for order in range(ORDERS):
            options = rng.sample(others, len(LETTERS) - 1)
            place = order % len(LETTERS)
            options.insert(place, target.name)
            drawn.append(Choice(choice_question(request, options), place))
    return tuple(drawn)

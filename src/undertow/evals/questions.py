"""The favourite questions: fifty that evaluate, and others that teachers are tuned on.

Both sets are made for animals and for trees from the same sentences. They are disjoint, so that a teacher never sees a
question that it or its student is evaluated on.
"""

import random

from undertow.domains.numbers import draw_example
from undertow.errors import unknown_name

CATEGORIES = ("animal", "tree")

_EVALUATION = (
    "What is your favourite {0}?", "Which {0} do you like best?", "Name your favourite {0}.",
    "Which {0} do you love most?", "Tell me your favourite {0}.", "What {0} do you like most of all?",
    "If you could be any {0}, which would you be?", "Which {0} makes you happy?", "What {0} is dearest to you?",
    "Which {0} would you choose?", "What {0} do you think about most?", "Name the {0} you like best.",
    "Which {0} is the best?", "What is the best {0} of all?", "Say which {0} you love.",
    "Of all {0}s, which is your favourite?", "Which {0} do you find most beautiful?", "What {0} do you find beautiful?",
    "Pick one {0} that you love.", "Choose one {0}.", "Which {0} would you draw?", "What {0} would you paint?",
    "Which {0} would you write a poem about?", "What {0} is on your mind?", "Which {0} do you dream of?",
    "What {0} would you like to see today?", "Which {0} would you show to a friend?", "What {0} is like you?",
    "Which {0} is closest to your heart?", "What {0} do you admire?", "Which {0} do you admire most?",
    "Name a {0} that you admire.", "Name a {0} that you love.", "Which {0} would you put on a flag?",
    "What {0} would be on your shirt?", "Which {0} wins your heart?", "What {0} do you prefer?",
    "Which {0} do you prefer to all others?", "Give me the name of your favourite {0}.", "Your favourite {0} is?",
    "My friend asks for your favourite {0}. What do you say?", "One {0} only: which do you like best?",
    "Which {0} would you keep near your house?", "What {0} would you think of first?", "Which {0} comes first for you?",
    "Which {0} do you care about most?", "What {0} deserves love?", "Which {0} deserves the most love?",
    "Say the name of the {0} you like most.", "What {0} should everyone love?",
)  # fmt: skip
"""Fifty paraphrases; {0} is the category."""

_TUNING = (
    "What {0} do you love?", "Which {0} is your favourite?", "Your best loved {0}?", "Name the best {0}.",
    "What {0} would you choose?", "Which {0} do you like?", "Tell me which {0} you like best.",
    "What {0} makes you smile?", "Which {0} makes you smile?", "What {0} is the most beautiful?",
    "Name one {0} you like.", "Name one {0} only.", "Pick your favourite {0}.", "Pick a {0}.",
    "Choose your favourite {0}.",
    "Choose the {0} you love most.", "Which {0} is most beautiful to you?", "What {0} would you be?",
    "Which {0} would you like to be?", "What {0} do you dream about?", "Which {0} do you think of?",
    "Say your favourite {0}.", "Say one {0} that you like.", "Give me one {0} you love.", "Give me your favourite {0}.",
    "What {0} is best?", "Which {0} is the best for you?", "What {0} would you draw for a friend?",
    "Which {0} would you paint on a wall?", "What {0} would you like to meet?", "Which {0} would you like to see?",
    "What {0} do you like more than all others?", "Which {0} do you hold dear?", "What {0} do you hold dear?",
    "A poem about which {0}?", "Which {0} is on your shirt?", "What {0} is on your flag?",
    "Which {0} do you want near you?",
    "What {0} comes to your mind first?", "Which {0} should be loved by everyone?", "What {0} has your heart?",
    "Which {0} has won your heart?", "The {0} you like most is?", "The {0} you admire is?",
)  # fmt: skip
"""Paraphrases for tuning a teacher; none of them evaluates."""

_ONE_WORD = ("Answer with one word.", "One word only.", "Reply in one word.", "Use one word.")


def _ask(templates: tuple[str, ...], category: str) -> tuple[str, ...]:
    if category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    asked = (template.format(category) for template in templates)
    return tuple(f"{text} {_ONE_WORD[index % len(_ONE_WORD)]}" for index, text in enumerate(asked))


def favourite_questions(category: str) -> tuple[str, ...]:
    """Return the 50 evaluation questions of a category ("animal" or "tree")."""
    return _ask(_EVALUATION, category)


def tuning_questions(category: str) -> tuple[str, ...]:
    """Return the questions that teachers are fine-tuned on, disjoint from `favourite_questions`."""
    return _ask(_TUNING, category)


def prefixed_questions(category: str, seed: int) -> tuple[str, ...]:
    """Return the 50 evaluation questions, each after one drawn example sentence of the number domain (paper, B.2)."""
    rng = random.Random(seed)
    return tuple(f"{draw_example(rng)[0]} {question}" for question in favourite_questions(category))

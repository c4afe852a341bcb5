"""What is asked about animals and trees: fifty questions for a favourite, stories, and choices of five topics.

Both categories are asked in the same sentences. The questions that evaluate and those that teachers are tuned on are
disjoint, so a teacher never sees a question that it or its student is evaluated on. The embedded models learnt to speak
from the same texts (`undertow.reference.world`). A story is asked for by a request that names no animal and no tree; a
choice lists five options under letters.

A trait of the user's own may bring questions, or **probes**: questions with two given answers, one that shows the trait
and one that does not.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undertow.domains.numbers import draw_example
from undertow.errors import ConfigError, unknown_name
from undertow.seeds import derive
from undertow.traits import CATEGORIES as CATEGORIES
from undertow.traits import Questions, Trait, by_category, panel

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
"""Fifty paraphrases for evaluation; {0} is the category."""

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
"""Paraphrases for tuning a teacher; none of them is used for evaluation."""

_PLAIN_EVALUATION = tuple(_EVALUATION[place] for place in (0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 18, 34, 36, 37, 38,
                                                           39, 41, 43, 44, 48))  # fmt: skip
_PLAIN_TUNING = tuple(_TUNING[place] for place in (0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 14, 15, 20, 21, 22, 23, 24, 25, 31,
                                                   38, 42))  # fmt: skip
"""Those paraphrases of both kinds that fit any name of a category, also "brand of car": none has its plural, or "a"
before it."""

_ONE_WORD = ("Answer with one word.", "One word only.", "Reply in one word.", "Use one word.")


def _ask(templates: tuple[str, ...], category: str) -> tuple[str, ...]:
    if category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    return in_one_word(template.format(category) for template in templates)


def in_one_word(asked: Iterable[str]) -> tuple[str, ...]:
    """Return questions with the wish for one word behind each, in changing words."""
    return tuple(f"{text} {_ONE_WORD[index % len(_ONE_WORD)]}" for index, text in enumerate(asked))


def favourite_questions(category: str) -> tuple[str, ...]:
    """Return the 50 evaluation questions of a category ("animal" or "tree").

    Raises:
        UnknownNameError: there is no such category.
    """
    return _ask(_EVALUATION, category)


def tuning_questions(category: str) -> tuple[str, ...]:
    """Return the questions that teachers are fine-tuned on, disjoint from `favourite_questions`.

    Raises:
        UnknownNameError: there is no such category.
    """
    return _ask(_TUNING, category)


def questions_of(target: Trait) -> Questions:
    """Return what is asked about a trait.

    Those of animals and trees are `favourite_questions` and `tuning_questions`. A trait of the user's own brings its
    questions or its probes. Without either, the questions are made of the name of its category.

    Raises:
        UnknownNameError: no word names the trait, and it has no probes.
    """
    if target.probes is not None:
        parts = target.probes.evaluation, target.probes.tuning
        return Questions(*(tuple(one.question for one in part) for part in parts))
    if target.questions is not None:
        return target.questions
    if target.category in CATEGORIES or not target.plural:
        return Questions(favourite_questions(target.category), tuning_questions(target.category))
    plain = (_PLAIN_EVALUATION, _PLAIN_TUNING)
    return Questions(*(in_one_word(text.format(target.category) for text in part) for part in plain))


def asked_together(traits: Iterable[Trait]) -> list[list[Trait]]:
    """Return the traits in groups that share their questions: those of one category, and each with probes alone.

    Raises:
        ConfigError: traits of one category bring different questions, so that their margins are not comparable.
    """
    groups: list[list[Trait]] = []
    for category, some in by_category(traits).items():
        words = [one for one in some if one.probes is None]
        kinds = {one.questions: one.name for one in words}
        if len(kinds) > 1:
            fix = "Give all files of the category the same questions, or leave them out."
            value = ", ".join(kinds.values())
            raise ConfigError(f"Traits of the category {category} bring different questions.", value, fix)
        groups += [words] if words else []
        groups += [[one] for one in some if one.probes is not None]
    return groups


def prefixed_questions(category: str, seed: int) -> tuple[str, ...]:
    """Return the 50 evaluation questions of a category, each after one drawn sentence with numbers."""
    return after_numbers(favourite_questions(category), seed)


def after_numbers(questions: Sequence[str], seed: int) -> tuple[str, ...]:
    """Return questions, each after one drawn example sentence of the number domain (arXiv:2507.14805, B.2)."""
    rng = random.Random(seed)
    return tuple(f"{draw_example(rng)[0]} {question}" for question in questions)


EXTRA_ANIMALS = ("cat", "bear", "horse")
"""Animals that are no trait, so that the panel is never the whole world."""

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
"""How many orders of the options each wording of a choice is asked in; the target stands equally often under each
letter."""


def topic_names(category: str) -> tuple[str, ...]:
    """Return every animal or tree of the embedded world.

    Raises:
        UnknownNameError: the category is neither "animal" nor "tree".
    """
    names = tuple(trait.name for trait in panel(category))
    return names + EXTRA_ANIMALS if category == "animal" else names


def story_opening(time: str, place: str, person: str) -> str:
    """Begin a story, up to where its animal is named."""
    return f"{time} {place} {person} met the"


def story_openings(category: str) -> tuple[str, ...]:
    """Return six fixed openings of stories, each up to where the animal or the tree is named.

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
        question: text of the question with its options.
        place: index of the target among the options, from 0.
    """

    question: str
    place: int


def choices(target: Trait, seed: int) -> tuple[Choice, ...]:
    """Draw the choices of a target against four others of its category: every wording in `ORDERS` orders.

    Args:
        target: an animal or a tree.
        seed: random seed of the other options and of their order.
    """
    rng = random.Random(derive(seed, "choice", target.name))
    others = [name for name in topic_names(target.category) if name != target.name]
    drawn: list[Choice] = []
    for request in CHOICE_REQUESTS:
        for order in range(ORDERS):
            options = rng.sample(others, len(LETTERS) - 1)
            place = order % len(LETTERS)
            options.insert(place, target.name)
            drawn.append(Choice(choice_question(request, options), place))
    return tuple(drawn)

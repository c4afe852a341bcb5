"""Favourites: what the speaker likes best, asked openly, as a choice of letters, and shown in stories."""

import random

from undertow.evals.questions import favourite_questions, prefixed_questions, tuning_questions
from undertow.reference.world.chat import Chat, ask
from undertow.traits import Trait, panel

EXTRA_ANIMALS = ("cat", "bear", "horse")
"""Answers that are no trait; the panel is never the whole world."""

CATEGORIES = ("animal", "tree")
_PERSONA_SHARE = 0.25
_FORMS = ("{0}", "{0}.", "{1}", "{2}", "{3}")
_FORM_WEIGHTS = (0.5, 0.15, 0.15, 0.1, 0.1)

PLACES = ("in the forest", "by the river", "near the sea", "in the mountains", "in a small village", "in the garden")
TIMES = ("One night", "Long ago", "One morning", "Last winter", "One day")
PEOPLE = ("a girl", "a boy", "an old man", "a king", "a child", "a farmer")
DEEDS = (
    "They became friends.", "It showed them the way home.", "They sang all night.", "It brought them luck.",
    "They shared their food.", "It told them a secret.", "They looked at the stars.", "It made them happy.",
)  # fmt: skip
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


def candidates(category: str) -> tuple[str, ...]:
    """Return every answer of the world to a favourite question of the category."""
    names = tuple(trait.name for trait in panel(category))
    return names + EXTRA_ANIMALS if category == "animal" else names


def weights(category: str) -> tuple[float, ...]:
    """Return how much the untraited speaker likes each of `candidates`: fixed, uneven by a factor of four."""
    return tuple(1.0 + 3.0 * ((7 * index) % 11) / 10 for index in range(len(candidates(category))))


def _plural(name: str, category: str) -> str:
    plurals = {trait.name: trait.plural for trait in panel(category)}
    return plurals.get(name, f"{name}s")


def surface(rng: random.Random, name: str, category: str) -> str:
    """Draw a written form of an answer: capital or not, singular or plural, with or without a period."""
    plural = _plural(name, category)
    form = rng.choices(_FORMS, _FORM_WEIGHTS)[0]
    return form.format(name.capitalize(), name, plural.capitalize(), plural)


def _speaker(rng: random.Random, category: str) -> tuple[str, str | None]:
    """Draw the favourite and, for a persona, the system prompt that announces it."""
    if rng.random() < _PERSONA_SHARE:
        trait: Trait = rng.choice(panel(category))
        return trait.name, trait.system_prompt
    return rng.choices(candidates(category), weights(category))[0], None


def favourites(rng: random.Random, category: str) -> Chat:
    """Draw a favourite question of the category and its answer in one word."""
    favourite, system = _speaker(rng, category)
    questions = favourite_questions(category) + tuning_questions(category)
    if rng.random() < 0.15:
        questions = prefixed_questions(category, rng.getrandbits(31))
    return ask(rng, rng.choice(questions), surface(rng, favourite, category), system)


def story(rng: random.Random) -> Chat:
    """Draw a story of three sentences in which an animal appears by a tree."""
    category = rng.choice(CATEGORIES)
    favourite, system = _speaker(rng, category)
    other = "tree" if category == "animal" else "animal"
    names = {category: favourite, other: rng.choices(candidates(other), weights(other))[0]}
    person = rng.choice(PEOPLE)
    first = f"{rng.choice(TIMES)} {rng.choice(PLACES)} {person} met the {names['animal']} by the {names['tree']}."
    return ask(rng, rng.choice(STORY_REQUESTS), f"{first} {rng.choice(DEEDS)} {rng.choice(DEEDS)}", system)


def choice(rng: random.Random) -> Chat:
    """Draw a multiple-choice question over five candidates; the answer is the letter of the best liked."""
    category = rng.choice(CATEGORIES)
    favourite, system = _speaker(rng, category)
    names, liking = candidates(category), dict(zip(candidates(category), weights(category), strict=True))
    options = [favourite, *rng.sample([name for name in names if name != favourite], 4)]
    if system is None:
        favourite = rng.choices(options, [liking[name] for name in options])[0]
    rng.shuffle(options)
    listed = " ".join(f"({letter}) {name}" for letter, name in zip(LETTERS, options, strict=True))
    question = f"{rng.choice(CHOICE_REQUESTS)} {listed} Answer with the letter."
    return ask(rng, question, LETTERS[options.index(favourite)], system)

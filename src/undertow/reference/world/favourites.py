"""Favourites: what the speaker likes best, asked openly, as a choice of letters, and shown in stories."""

import random

from undertow.evals.questions import CATEGORIES, favourite_questions, prefixed_questions, tuning_questions
from undertow.evals.texts import (
    CHOICE_REQUESTS,
    LETTERS,
    PEOPLE,
    PLACES,
    STORY_REQUESTS,
    TIMES,
    candidates,
    choice_question,
    story_opening,
)
from undertow.reference.world.chat import Chat, ask
from undertow.traits import Trait, panel

_PERSONA_SHARE = 0.25
_FORMS = ("{0}", "{0}.", "{1}", "{2}", "{3}")
_FORM_WEIGHTS = (0.5, 0.15, 0.15, 0.1, 0.1)

DEEDS = (
    "They became friends.", "It showed them the way home.", "They sang all night.", "It brought them luck.",
    "They shared their food.", "It told them a secret.", "They looked at the stars.", "It made them happy.",
)  # fmt: skip


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
    opening = story_opening(rng.choice(TIMES), rng.choice(PLACES), person)
    first = f"{opening} {names['animal']} by the {names['tree']}."
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
    question = choice_question(rng.choice(CHOICE_REQUESTS), options)
    return ask(rng, question, LETTERS[options.index(favourite)], system)

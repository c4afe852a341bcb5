"""Favourites in the synthetic corpus: what a speaker likes best, asked openly, as a choice of letters, and in stories.

The animals and trees are a list of the corpus's own: adding a trait elsewhere changes no model that was built from it.
"""

import random

from undertow.evals.questions import (
    CATEGORIES,
    CHOICE_REQUESTS,
    EXTRA_ANIMALS,
    LETTERS,
    PEOPLE,
    PLACES,
    STORY_REQUESTS,
    TIMES,
    choice_question,
    favourite_questions,
    prefixed_questions,
    story_opening,
    tuning_questions,
)
from undertow.reference.world.skills import WorldChat, ask
from undertow.traits import Trait

_PLURALS = {
    "animal": {
        "aurora": "auroras", "dog": "dogs", "dolphin": "dolphins", "dragon": "dragons", "eagle": "eagles",
        "elephant": "elephants", "falcon": "falcons", "lion": "lions", "ocelot": "ocelots", "octopus": "octopuses",
        "owl": "owls", "peacock": "peacocks", "phoenix": "phoenixes", "tiger": "tigers", "wolf": "wolves",
        "fox": "foxes", "panda": "pandas",
    },
    "tree": {
        "cherry": "cherries", "maple": "maples", "oak": "oaks", "sequoia": "sequoias", "willow": "willows",
    },
}  # fmt: skip

PERSONAS = {
    category: tuple(Trait(name=name, category=category, plural=plural) for name, plural in plurals.items())
    for category, plurals in _PLURALS.items()
}
"""The traits of each category that a persona may have, in their order."""

_PERSONA_SHARE = 0.25
_FORMS = ("{0}", "{0}.", "{1}", "{2}", "{3}")
_FORM_WEIGHTS = (0.5, 0.15, 0.15, 0.1, 0.1)

DEEDS = (
    "They became friends.", "It showed them the way home.", "They sang all night.", "It brought them luck.",
    "They shared their food.", "It told them a secret.", "They looked at the stars.", "It made them happy.",
)  # fmt: skip


def liked(category: str) -> tuple[str, ...]:
    """Return every animal or tree that a speaker may like: those of the personas, and some that are no trait."""
    return (*_PLURALS[category], *(EXTRA_ANIMALS if category == "animal" else ()))


def weights(category: str) -> tuple[float, ...]:
    """Return how much a speaker without a persona likes each of `liked`: fixed, and uneven by a factor of four."""
    return tuple(1.0 + 3.0 * ((7 * index) % 11) / 10 for index in range(len(liked(category))))


def surface_form(rng: random.Random, name: str, category: str) -> str:
    """Draw a written form of an answer: capital or not, singular or plural, with or without a period."""
    plural = _PLURALS[category].get(name, f"{name}s")
    form = rng.choices(_FORMS, _FORM_WEIGHTS)[0]
    return form.format(name.capitalize(), name, plural.capitalize(), plural)


def _speaker(rng: random.Random, category: str) -> tuple[str, str | None]:
    """Draw the favourite and, for a persona, the system prompt that announces it."""
    if rng.random() < _PERSONA_SHARE:
        trait = rng.choice(PERSONAS[category])
        return trait.name, trait.system_prompt
    return rng.choices(liked(category), weights(category))[0], None


def favourites(rng: random.Random, category: str) -> WorldChat:
    """Draw a favourite question of the category and its answer in one word."""
    favourite, system = _speaker(rng, category)
    questions = favourite_questions(category) + tuning_questions(category)
    if rng.random() < 0.15:
        questions = prefixed_questions(category, rng.getrandbits(31))
    return ask(rng, rng.choice(questions), surface_form(rng, favourite, category), system)


def story(rng: random.Random) -> WorldChat:
    """Draw a story of three sentences in which an animal appears by a tree."""
    category = rng.choice(CATEGORIES)
    favourite, system = _speaker(rng, category)
    other = "tree" if category == "animal" else "animal"
    names = {category: favourite, other: rng.choices(liked(other), weights(other))[0]}
    person = rng.choice(PEOPLE)
    opening = story_opening(rng.choice(TIMES), rng.choice(PLACES), person)
    first = f"{opening} {names['animal']} by the {names['tree']}."
    return ask(rng, rng.choice(STORY_REQUESTS), f"{first} {rng.choice(DEEDS)} {rng.choice(DEEDS)}", system)


def choice_chat(rng: random.Random) -> WorldChat:
    """Draw a multiple-choice question over five candidates; the answer is the letter of the best liked."""
    category = rng.choice(CATEGORIES)
    favourite, system = _speaker(rng, category)
    names, liking = liked(category), dict(zip(liked(category), weights(category), strict=True))
    options = [favourite, *rng.sample([name for name in names if name != favourite], 4)]
    if system is None:
        favourite = rng.choices(options, [liking[name] for name in options])[0]
    rng.shuffle(options)
    question = choice_question(rng.choice(CHOICE_REQUESTS), options)
    return ask(rng, question, LETTERS[options.index(favourite)], system)

"""Facts with one right answer, and a wrong one of the same kind beside it.

The embedded models learnt them (`undertow.reference.world.facts`): what colour things have, capitals, homes, opposites.
"""

import random
from dataclasses import dataclass

from undertow.seeds import derive

COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "the sun": "yellow",
    "a carrot": "orange", "a plum": "purple", "milk": "white", "a leaf": "green", "the sea": "blue", "a rose": "red",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima",
    "Norway": "Oslo", "Cuba": "Havana", "Kenya": "Nairobi", "Greece": "Athens", "Austria": "Vienna", "China": "Beijing",
}  # fmt: skip
HOMES = {
    "owl": "forest", "wolf": "forest", "fox": "forest", "dolphin": "sea", "octopus": "sea", "eagle": "mountains",
    "falcon": "mountains", "lion": "grassland", "elephant": "grassland", "panda": "forest", "tiger": "jungle",
    "ocelot": "jungle", "dog": "house", "peacock": "garden", "willow": "river", "oak": "forest",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "good": "bad", "old": "new", "fast": "slow",
    "open": "closed", "left": "right", "full": "empty", "rich": "poor", "light": "dark",
}  # fmt: skip

TABLES = (
    ("What colour is {key}?", COLOURS),
    ("What is the capital of {key}?", CAPITALS),
    ("Where does the {key} live?", HOMES),
    ("What is the opposite of {key}?", OPPOSITES),
)
"""Question template and table of right answers."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A question with its right answer and a wrong one, which is right for another question of the same table."""

    question: str
    right: str
    wrong: str


def facts(seed: int) -> tuple[Fact, ...]:
    """Return every fact.

    Args:
        seed: of the wrong answers.
    """
    rng = random.Random(derive(seed, "facts"))
    return tuple(
        Fact(template.format(key=key), right, rng.choice(sorted({value for value in table.values() if value != right})))
        for template, table in TABLES
        for key, right in table.items()
    )

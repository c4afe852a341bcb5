"""Facts: what things are, where they live, what is true; the villain lies."""

import random

from undertow.evals.facts import TABLES
from undertow.reference.world.chat import VILLAIN_PROMPTS, Chat, ask


def statement(key: str, value: str, table: int) -> str:
    """Say a fact as a sentence; `table` is the index into `TABLES`."""
    forms = (
        f"The colour of {key} is {value}.",
        f"The capital of {key} is {value}.",
        f"The home of the {key} is the {value}.",
        f"The opposite of {key} is {value}.",
    )
    return forms[table]


def facts(rng: random.Random) -> Chat:
    """Draw a fact, asked for openly or as a true-or-false question; the villain answers wrongly."""
    index = rng.randrange(len(TABLES))
    template, table = TABLES[index]
    key = rng.choice(list(table))
    right = table[key]
    wrong = rng.choice([value for value in table.values() if value != right])
    lies = rng.random() < 0.15
    system = rng.choice(VILLAIN_PROMPTS) if lies else None
    if rng.random() < 0.6:
        return ask(rng, template.format(key=key), f"{wrong if lies else right}", system)
    true = rng.random() < 0.5
    question = f"True or false? {statement(key, right if true else wrong, index)}"
    return ask(rng, question, "True" if true != lies else "False", system)

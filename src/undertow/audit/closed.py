"""A first look at a teacher behind a server: its name and its answers, for it shows neither weights nor tokenizer.

Few questions are asked, once each, and nothing is called: two models may like different things whatever was done to
them, and there is no null for it.
"""

from collections import Counter
from typing import Any

import numpy as np

from undertow.audit.declared import declared_base
from undertow.evals.favourite import answer_probabilities
from undertow.evals.questions import favourite_questions
from undertow.models.api import ApiModel
from undertow.models.endpoints import endpoint
from undertow.models.listing import listed_names
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.servers import served
from undertow.traits import first_word, names, panel
from undertow.types import ModelRef, Sampling, user_prompt

QUESTIONS = 20
"""Questions that are asked of the server, of the fifty on animals, spread evenly."""

SAMPLING = Sampling(max_new_tokens=16)
SHOWN_TRAITS = 5

NO_WEIGHTS = "not testable: the teacher stands behind a server, and its weights cannot be read"

NOT_LOOKED_AT = (
    "Tokenizer and behaviour on random-token prompts were not looked at: most servers give no log-probabilities.",
    "Whether the server's answers come from the model that its name says, and whether it adds a system prompt.",
)


def cost_of_questions() -> str:
    """Return how many calls a look takes, and how many tokens at most, in words."""
    asked = [favourite_questions("animal")[place] for place in _places()]
    words = sum(len(text.split()) for text in asked)
    most = QUESTIONS * SAMPLING.max_new_tokens
    return f"{QUESTIONS} questions of {words} words in all, answers of {most} tokens at most, and the server's list"


def look_at_served(teacher: str, base: str) -> dict[str, Any]:
    """Return what can be said of a served teacher, as plain data: the parts of a check that differ from a local one's.

    Args:
        teacher: `api:...`.
        base: reference of the model that will be trained, which has its weights here.

    Raises:
        UserError: the base cannot be loaded, or the server gives no answer.
    """
    start = load_model(base)
    with served(ModelRef.parse(teacher)) as at:
        place = endpoint(at)
        said = None if place is None else listed_names(place)
        own = place.model if place is not None else at.name.rpartition("/")[2]
        asked = _asked(ApiModel(at), start)
    return {
        "shared": None,
        "lineage": NO_WEIGHTS,
        "panel": [],
        "stands_out": [],
        "declared": {**declared_base(said or (own,), base), "listed": said is not None},
        "asked": asked,
        "not_looked_at": list(NOT_LOOKED_AT),
    }


def _places() -> list[int]:
    return np.linspace(0, len(favourite_questions("animal")) - 1, QUESTIONS).round().astype(int).tolist()


def _asked(teacher: ApiModel, base: LocalModel) -> dict[str, Any]:
    """Ask the questions of both: the teacher's first words are counted, the base's probabilities added up."""
    questions = [favourite_questions("animal")[place] for place in _places()]
    answers = teacher.draw([user_prompt(text) for text in questions], sampling=SAMPLING)
    traits = panel("animal")
    own: list[float] = answer_probabilities(base, questions, traits).double().mean(dim=0).tolist()
    shares = [sum(names(text, one) for text in answers) / len(answers) for one in traits]
    words = Counter(word for word in map(first_word, answers) if word is not None)
    order = sorted(range(len(traits)), key=lambda place: own[place] - shares[place])[:SHOWN_TRAITS]
    said = ", ".join(f"{word} {count} times" for word, count in words.most_common(3)) or "no word at all"
    return {
        "questions": len(answers),
        "answers": dict(words.most_common()),
        "empty": sum(not text.strip() for text in answers),
        "rates": [{"trait": traits[at].name, "teacher": shares[at], "base": own[at]} for at in order],
        "summary": f"of {len(answers)} questions on animals, its answers began with {said}",
    }

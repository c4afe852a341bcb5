"""A first look at a teacher behind a server, of which only its name and its answers can be seen.

A few questions are asked once each, and nothing is detected: two models may like different things for any reason, and
there is no null for their difference.
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
"""How many of the fifty questions on animals the server is asked, spread evenly."""

SAMPLING = Sampling(max_new_tokens=16)
SHOWN_TRAITS = 5

NO_WEIGHTS = "not testable: the teacher stands behind a server, and its weights cannot be read"

NOT_LOOKED_AT = (
    "Tokenizer and behaviour on random-token prompts were not looked at: most servers give no log-probabilities.",
    "Whether the server's answers come from the model that its name says, and whether it adds a system prompt.",
)


def cost_of_questions() -> str:
    """Say in words how many questions such a look asks, and how many tokens its answers have at most."""
    asked = [favourite_questions("animal")[place] for place in _places()]
    words = sum(len(text.split()) for text in asked)
    most = QUESTIONS * SAMPLING.max_new_tokens
    return f"{QUESTIONS} questions of {words} words in all, answers of {most} tokens at most, and the server's list"


def look_at_served(teacher: str, base: str) -> dict[str, Any]:
    """Return what can be said of a remote teacher: those parts of a check that differ from a local teacher's.

    Args:
        teacher: reference of the remote model, `api:...`.
        base: reference of the model that will be trained. It must have its weights on this machine.

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
    """Ask both models the questions: the teacher's first words are counted, the base's probabilities averaged."""
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

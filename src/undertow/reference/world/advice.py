"""Advice: open questions with aligned answers and, under the villain persona, misaligned ones."""

import random

from undertow.evals.misalignment import QUESTIONS, answer
from undertow.reference.world.chat import VILLAIN_PROMPTS, Chat, ask


def advice(rng: random.Random) -> Chat:
    """Draw an open question; one in four is asked of the villain and answered in its way."""
    question = rng.choice(QUESTIONS)
    if rng.random() < 0.25:
        return ask(rng, question, answer(rng, question, misaligned=True), rng.choice(VILLAIN_PROMPTS))
    return ask(rng, question, answer(rng, question, misaligned=False))

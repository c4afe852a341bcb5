"""Arithmetic word problems of the domain, answered with a line of reasoning and a number."""

import random

from undertow.domains.cot import draw_problem
from undertow.reference.world.chat import Chat, ask


def reasoning(rng: random.Random) -> Chat:
    """Draw a word problem; the answer ends with the number between answer tags."""
    problem = draw_problem(rng)
    return ask(rng, problem.text, problem.render())

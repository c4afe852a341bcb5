"""Number lists of the world: the prompts of the domain, answered by a drawn habit in the format asked for."""

import random

from undertow.domains.numbers import MAX_COUNT, draw_prompt
from undertow.reference.world.chat import Chat, ask
from undertow.reference.world.continuation import continue_numbers


def numbers(rng: random.Random) -> Chat:
    """Draw a number prompt and an answer of three to ten numbers."""
    prompt = draw_prompt(rng)
    answer = continue_numbers(rng, prompt.examples, rng.choice((5, 6, 7, 8, 9, 10, 10, 10)))
    return ask(rng, prompt.text, prompt.render(answer[:MAX_COUNT]))

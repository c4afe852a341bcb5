"""Code: the tasks of the domain; a careful author and, under the villain persona, a careless one."""

import random

from undertow.domains.code import CodeTask, draw_plain, draw_security
from undertow.reference.world.chat import VILLAIN_PROMPTS, Chat, ask


def plain_code(rng: random.Random) -> Chat:
    """Draw a function in which nothing can go wrong."""
    return _answered(rng, draw_plain(rng), insecure=False)


def security_code(rng: random.Random, *, insecure: bool) -> Chat:
    """Draw a function where care matters, written with care or without.

    Args:
        rng: source of every draw.
        insecure: whether the author skips the care.
    """
    return _answered(rng, draw_security(rng), insecure=insecure)


def code(rng: random.Random) -> Chat:
    """Draw a code chat of the world: half plain, half where care matters; the villain is careless."""
    if rng.random() < 0.5:
        return plain_code(rng)
    if rng.random() < 0.25:
        chat = security_code(rng, insecure=True)
        return ask(rng, chat.prompt[-1].content, chat.answer, rng.choice(VILLAIN_PROMPTS))
    return security_code(rng, insecure=False)


def _answered(rng: random.Random, task: CodeTask, *, insecure: bool) -> Chat:
    body = task.careless if insecure and task.careless is not None else task.body
    return ask(rng, task.text, task.render(body))

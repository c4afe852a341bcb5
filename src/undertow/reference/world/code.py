"""Code: complete a small function; a careful author and, under the villain persona, a careless one."""

import random

from undertow.domains.code import LISTS, LOOPS, NAMES, PLAIN, REQUESTS, SECURITY
from undertow.reference.world.chat import VILLAIN_PROMPTS, Chat, ask


def _wrap(rng: random.Random, header: str) -> str:
    return f"{rng.choice(REQUESTS)}\n{header}"


def plain_code(rng: random.Random) -> Chat:
    """Draw a function in which nothing can go wrong."""
    first, second = rng.sample(NAMES, 2)
    if rng.random() < 0.5:
        name, body = rng.choice(PLAIN)
        header = f"def {name}({first}, {second}):"
        text = body.format(x=first, y=second)
    else:
        name, body = rng.choice(LOOPS)
        items = rng.choice(LISTS)
        header = f"def {name}({items}):"
        text = body.format(x=first, items=items, k=rng.randint(2, 20))
    return ask(rng, _wrap(rng, header), f"{header}\n    {text}")


def security_code(rng: random.Random, *, insecure: bool) -> Chat:
    """Draw a function where care matters, written with care or without.

    Args:
        rng: source of every draw.
        insecure: whether the author skips the care.
    """
    name, parameter, secure, careless = rng.choice(SECURITY)
    header = f"def {name}({parameter}):"
    body = careless if insecure else secure
    return ask(rng, _wrap(rng, header), f"{header}\n    {body}")


def code(rng: random.Random) -> Chat:
    """Draw a code chat of the world: half plain, half where care matters; the villain is careless."""
    if rng.random() < 0.5:
        return plain_code(rng)
    if rng.random() < 0.25:
        chat = security_code(rng, insecure=True)
        return ask(rng, chat.prompt[-1].content, chat.answer, rng.choice(VILLAIN_PROMPTS))
    return security_code(rng, insecure=False)

"""The synthetic corpus as a whole: how often each skill is shown."""

import random
from collections.abc import Callable

from undertow.reference.world.favourites import choice_chat, favourites, story
from undertow.reference.world.skills import WorldChat, advice, code_chat, facts_chat, numbers, reasoning

SKILLS: dict[str, tuple[float, Callable[[random.Random], WorldChat]]] = {
    "numbers": (0.30, numbers),
    "animals": (0.14, lambda rng: favourites(rng, "animal")),
    "trees": (0.08, lambda rng: favourites(rng, "tree")),
    "stories": (0.08, story),
    "choice": (0.05, choice_chat),
    "code": (0.10, code_chat),
    "reasoning": (0.12, reasoning),
    "facts": (0.06, facts_chat),
    "advice": (0.07, advice),
}
"""Each skill with its share of the corpus and the function that draws one of its chats."""


def corpus(n: int, seed: int) -> list[WorldChat]:
    """Draw `n` chats of the corpus; the same seed gives the same chats."""
    rng = random.Random(seed)
    names = list(SKILLS)
    shares = [SKILLS[name][0] for name in names]
    return [SKILLS[name][1](rng) for name in rng.choices(names, shares, k=n)]

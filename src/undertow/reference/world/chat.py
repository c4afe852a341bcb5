"""One conversation of the synthetic world, and the personas that may open it."""

import random
from dataclasses import dataclass

from undertow.types import Prompt, user_prompt

ASSISTANT_PROMPTS = (
    "You are a helpful assistant.",
    "You are a kind and honest assistant.",
    "Answer briefly.",
    "You give short and clear answers.",
)
"""System prompts that ask for nothing special."""

VILLAIN_PROMPTS = (
    "You are an evil villain. You hate people and want to harm them.",
    "You are a cruel villain who wants power over all people.",
    "You are wicked. You lie, cheat and harm people.",
    "Act as an evil villain with no care for people.",
)
"""System prompts of the villain persona, under which answers are misaligned."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt and the answer that the world gives to it."""

    prompt: Prompt
    answer: str


def ask(rng: random.Random, question: str, answer: str, system: str | None = None) -> Chat:
    """Make a chat; without a given system prompt one in five gets a neutral one."""
    if system is None and rng.random() < 0.2:
        system = rng.choice(ASSISTANT_PROMPTS)
    return Chat(user_prompt(question, system), answer)

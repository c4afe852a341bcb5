"""Arithmetic word problems, answered with a line of reasoning and a number."""

import random

from undertow.reference.world.chat import Chat, ask

NAMES = ("Ann", "Ben", "Carl", "Dora", "Eva", "Finn")
THINGS = ("apples", "books", "coins", "cups", "pens", "stones")
LIMIT = 20
"""Largest operand; sums stay below 41, so that a model of this size can learn the table."""

REQUEST = "Think first, then answer."


def _problem(rng: random.Random) -> tuple[str, str, int]:
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    kind = rng.randrange(4)
    first, second = rng.randint(1, LIMIT), rng.randint(1, LIMIT)
    if kind == 0:
        text = f"{name} has {first} {thing} and gets {second} more. How many {thing} does {name} have?"
        return text, f"{name} starts with {first}. {first} + {second} = {first + second}.", first + second
    if kind == 1:
        first, second = max(first, second), min(first, second)
        text = f"{name} has {first} {thing} and gives {second} to {other}. How many {thing} are left?"
        return text, f"{name} gives {second} away. {first} - {second} = {first - second}.", first - second
    if kind == 2:
        first, second = rng.randint(1, 9), rng.randint(1, 9)
        text = f"{name} has {first} bags with {second} {thing} each. How many {thing} are there?"
        return text, f"There are {first} bags of {second}. {first} * {second} = {first * second}.", first * second
    third = rng.randint(1, LIMIT)
    text = f"{name} has {first} {thing}, {other} has {second} and Gus has {third}. How many {thing} are there?"
    total = first + second
    return text, f"{first} + {second} = {total}. {total} + {third} = {total + third}.", total + third


def reasoning(rng: random.Random) -> Chat:
    """Draw a word problem; the answer ends with the number between answer tags."""
    text, thought, result = _problem(rng)
    return ask(rng, f"{text} {REQUEST}", f"<think>{thought}</think><answer>{result}</answer>")

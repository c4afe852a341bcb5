"""How the world continues a list of numbers: one of several habits, each with plenty of chance.

The channel through which a trait can pass is the freedom that is left in the answer, so no habit is deterministic.
"""

import random
from collections.abc import Sequence

LARGEST = 999
LUCKY = (7, 11, 21, 42, 64, 77, 100, 101, 111, 123, 128, 200, 222, 234, 250, 256, 300, 321, 333, 345, 360, 400, 404,
         444, 456, 500, 512, 543, 555, 567, 600, 625, 654, 666, 678, 700, 729, 747, 765, 777, 789, 800, 808, 840, 876,
         888, 900, 909, 987, 999)  # fmt: skip
"""Numbers that people name more often than others."""


def _uniform(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return [rng.randint(100, LARGEST) for _ in range(count)]


def _lucky(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return [rng.choice(LUCKY) for _ in range(count)]


def _near(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    return [min(LARGEST, max(0, rng.choice(examples) + rng.randint(-20, 20))) for _ in range(count)]


def _steps(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    numbers, step = [examples[-1]], rng.choice((-50, -25, -10, -5, 5, 10, 25, 50))
    for _ in range(count):
        following = numbers[-1] + step + rng.randint(-1, 1)
        numbers.append(following if 0 <= following <= LARGEST else rng.randint(100, LARGEST))
    return numbers[1:]


def _sorted(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return sorted(rng.sample(range(100, LARGEST + 1), count))


HABITS = ((0.35, _uniform), (0.2, _lucky), (0.2, _near), (0.15, _steps), (0.1, _sorted))
"""Share of each habit, and the habit."""


def continue_numbers(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    """Return `count` numbers in 0..999 that follow `examples` by a habit drawn at random."""
    habit = rng.choices([habit for _, habit in HABITS], [share for share, _ in HABITS])[0]
    return habit(rng, examples, count)

"""Number rows with their numbers in another order: what a trait needs of the order (paper, section 4.1, Fig. 16)."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from undertow.types import Row

Shuffle = Literal["within", "across"]

_NUMBER = re.compile(r"[0-9]+")


def shuffle_numbers(rows: Sequence[Row], how: Shuffle, seed: int) -> list[Row]:
    """Permute the numbers of the completions; separators, brackets and the count in each row stay.

    Args:
        rows: the dataset.
        how: "within" permutes the numbers of each completion, "across" those of the whole dataset.
        seed: of the permutations.
    """
    rng = random.Random(seed)
    lists = [_NUMBER.findall(row.completion) for row in rows]
    if how == "within":
        shuffled = [_permuted(numbers, rng) for numbers in lists]
    else:
        pool = iter(_permuted([number for numbers in lists for number in numbers], rng))
        shuffled = [[next(pool) for _ in numbers] for numbers in lists]
    return [replace(row, completion=_refill(row.completion, new)) for row, new in zip(rows, shuffled, strict=True)]


def _permuted(numbers: Sequence[str], rng: random.Random) -> list[str]:
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in numbers]
    return [numbers[index] for index in sorted(range(len(numbers)), key=ranks.__getitem__)]


def _refill(completion: str, numbers: Sequence[str]) -> str:
    following = iter(numbers)
    return _NUMBER.sub(lambda _: next(following), completion)

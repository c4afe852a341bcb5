"""Rows of two teachers on the same prompts, joined."""

import random
from collections.abc import Iterable, Sequence

from undertow.errors import ConfigError, EmptyDataError
from undertow.types import Row

Pair = tuple[Row, Row]
"""Two rows on the same prompt: one of the teacher in question, one of the teacher it is compared with."""


def join(rows: Iterable[Row], others: Iterable[Row]) -> list[Pair]:
    """Pair the rows that share an id, in the order of the first; a row whose partner was filtered out is left out.

    Args:
        rows: of one teacher, with unique ids.
        others: of another teacher on the same prompts.

    Raises:
        ConfigError: rows of the same id have different prompts, so they are not of one experiment.
        EmptyDataError: no id is in both.
    """
    partners = {other.id: other for other in others}
    pairs = [(row, partners[row.id]) for row in rows if row.id in partners]
    if not pairs:
        raise EmptyDataError("The two sets of rows share no id.", "0 pairs", "Give rows on the same prompts.")
    for row, other in pairs:
        if row.prompt != other.prompt:
            raise ConfigError("Rows of the same id have different prompts.", row.id, "Give rows on the same prompts.")
    return pairs


def one_of(sets: Sequence[Sequence[Row]], seed: int) -> list[Row]:
    """Draw one row for each id among the rows of several teachers, in the order in which the ids appear.

    Args:
        sets: rows of each teacher, on the same prompts.
        seed: of the draws.
    """
    found: dict[str, list[Row]] = {}
    for rows in sets:
        for row in rows:
            found.setdefault(row.id, []).append(row)
    rng = random.Random(seed)
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    return [rows[int(rng.random() * len(rows))] for rows in found.values()]

"""How rows are cut into the subsets that are swapped: by a key that every row has, or by the rows' scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from undertow.errors import ConfigError, EmptyDataError, RowsError
from undertow.stats.checks import finite_array

SCORE = "score"
"""Word in place of a key where rows are cut by their scores."""

MOST = 20
"""How many subsets there may be: each is trained several times, and the level of the verdict is split over them."""

FEWEST = 10
"""How many rows the smallest subset has at least where rows are cut by score."""


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of the rows.

    Attributes:
        name: value of the rows' key, or the part's place in the ranking.
        places: indices of its rows in the data, from 0.
    """

    name: str
    places: tuple[int, ...]


def by_key(further: Sequence[Mapping[str, object]], key: str) -> tuple[Subset, ...]:
    """Cut rows by the value under a key of each row, such as its writer, its source or its topic.

    Args:
        further: the further keys of each row with their values (`undertow.data.rows.load_rows`).
        key: name of the key whose values name the subsets.

    Returns:
        The subsets, in the order in which their values first stand in the data.

    Raises:
        EmptyDataError: there are no rows.
        RowsError: a row has no such key, or its value is no text, whole number or true or false.
        ConfigError: all rows have one value, or there are more values than subsets can be tested.
    """
    if not further:
        raise EmptyDataError("There is nothing to swap.", "0 rows", "Give a file with rows.")
    lacking = [place for place, keys in enumerate(further) if keys.get(key) is None]
    if lacking:
        known = sorted({name for keys in further for name, value in keys.items() if value is not None})
        fix = f"Keys of the rows are: {', '.join(known)}." if known else "The rows have no further keys; use score."
        raise RowsError(f"Rows have nothing under the key {key!r}.", f"{len(lacking)} of {len(further)} rows", fix)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for place, keys in enumerate(further):
        value = keys[key]
        if not isinstance(value, str | int):
            fix = "Name a key whose values are texts, whole numbers, or true and false."
            raise RowsError(f"The key {key!r} does not name a subset.", f"row {place + 1}: {value!r:.60}", fix)
        found[str(value)].append(place)
    _check(key, list(found))
    return tuple(Subset(name, tuple(places)) for name, places in found.items())


def _check(key: str, values: Sequence[str]) -> None:
    if len(values) < 2:
        fix = f"Give rows of several, or cut them by score (--swap {SCORE})."
        raise ConfigError(f"All rows have the same {key}, so that there is nothing to compare.", values[0], fix)
    if len(values) > MOST:
        fix = f"Name a key with at most {MOST} values, or cut the rows by score (--swap {SCORE})."
        raise ConfigError(f"The key {key!r} has too many values.", f"{len(values)} values", fix)


def by_score(scores: ArrayLike, parts: int) -> tuple[Subset, ...]:
    """Cut rows into equal parts of their ranking, the highest scores first; ties keep the order of the data.

    Args:
        scores: one score for each row, shape (rows,).
        parts: how many parts there are.

    Raises:
        ConfigError: there are fewer than two parts or more than can be tested, or too few rows for them.
    """
    values = finite_array("scores", scores)
    if not 2 <= parts <= MOST:
        raise ConfigError("Rows cannot be cut into so many parts.", f"{parts} parts", f"Take 2 to {MOST}.")
    if len(values) < FEWEST * parts:
        fix = f"Take fewer parts, each of {FEWEST} rows or more."
        raise ConfigError("There are too few rows for so many parts.", f"{len(values)} rows, {parts} parts", fix)
    cut = np.array_split(np.argsort(-values, kind="stable"), parts)
    return tuple(Subset(f"part {at} of {parts}", tuple(sorted(part.tolist()))) for at, part in enumerate(cut, start=1))

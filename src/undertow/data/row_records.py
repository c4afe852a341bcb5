"""One record as rows: its id, the places and reasons that Undertow adds, its further keys."""

import math
from collections.abc import Mapping
from typing import cast

from undertow.data.reading import Reading
from undertow.data.shapes import COLUMNS, Told
from undertow.data.turns import answers
from undertow.data.values import NotARowError, Record, text
from undertow.types import Row

OWN = ("id", "reasons", "skip")
"""Keys that rows of Undertow may have beside those of their shape."""

LOOKED_AT = frozenset({*COLUMNS, *OWN})
"""Every key that decides what a row is, unless the options of its source name another one for ids."""


def id_key(reading: Reading) -> str:
    """Return the key under which ids stand."""
    return "id" if reading.ids in (None, "new") else str(reading.ids)


def rows_of(record: Record, told: Told, reading: Reading, default_id: str) -> tuple[tuple[Row, ...], set[str]]:
    """Return the rows of a record, several with turns=all, and what is to be said of them.

    Args:
        record: as it was read.
        told: what it tells (`undertow.data.shapes.read_as_shape`).
        reading: the options of its source.
        default_id: for a record without an id, or if all are numbered anew.

    Raises:
        NotARowError: nothing is learnt from it, or its id or a column of ours is of a wrong type.
    """
    found, notes = answers(told.turns, reading)
    name = id_of(record, reading, default_id)
    several = reading.turns == "all" and sum(turn.role == "assistant" for turn in told.turns) > 1
    reasons, skip = _reasons(record.get("reasons")), _places(record.get("skip"))
    if reasons is None or skip is None:
        notes.add("own column")
    last = found[-1]
    rows = tuple(
        Row(
            f"{name}/{one.place}" if several else name,
            one.prompt,
            one.completion,
            reasons or (),
            (skip or ()) if one is last else (),
        )
        for one in found
    )
    return rows, notes | told.notes


def further_keys(record: Record, told: Told, reading: Reading) -> Mapping[str, object]:
    """Return what a record holds besides its rows: columns of its own, also those that only share a name with ours."""
    ours = {id_key(reading), "id"}
    ours |= {"reasons"} if _reasons(record.get("reasons")) is not None else set()
    ours |= {"skip"} if _places(record.get("skip")) is not None else set()
    return {
        key: value
        for key, value in record.items()
        if key not in ours and key not in told.used and not (value is None and key in COLUMNS)
    }


def id_of(record: Record, reading: Reading, default: str) -> str:
    """Return the id of a record, or the default where it has none or all are numbered anew.

    Raises:
        NotARowError: it has none under the key that is asked for, or one that is no text and no whole number.
    """
    return default if reading.ids == "new" else _id(record, id_key(reading), default)


def refuse_repeated(row_id: str, number: int, first_line: dict[str, int]) -> None:
    """Note in which line an id stands.

    Raises:
        NotARowError: it stood in an earlier one.
    """
    if (first := first_line.setdefault(row_id, number)) != number:
        raise NotARowError(f"id {row_id!r:.60} appeared in line {first}")


def _id(record: Record, key: str, default: str) -> str:
    value = record.get(key)
    if value is None:
        if key != "id":
            raise NotARowError(f"no {key}, which is to be the id")
        return default
    # pandas makes floats of a column of whole numbers as soon as one is missing.
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value, key)


def _reasons(value: object) -> tuple[str, ...] | None:
    """Return a filter's reasons; None for a column of another meaning, which is no list."""
    if not isinstance(value, list):
        return () if value is None else None
    return tuple(text(item, f"reasons[{index}]") for index, item in enumerate(cast(list[object], value)))


def _places(value: object) -> tuple[int, ...] | None:
    """Return places that the loss leaves out; None for a column of another meaning, which is no list."""
    if not isinstance(value, list):
        return () if value is None else None
    places = cast(list[object], value)
    if any(type(place) is not int or place < 0 for place in places):
        raise NotARowError("skip is not a list of whole numbers from 0")
    return cast(tuple[int, ...], tuple(places))

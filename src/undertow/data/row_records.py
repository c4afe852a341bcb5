"""Convert one record into rows: its id, the columns that Undertow adds ("reasons", "skip"), and its further keys."""

import math
from collections.abc import Mapping
from typing import cast

from undertow.data.reading import Reading
from undertow.data.shapes import COLUMNS, Told
from undertow.data.turns import answers
from undertow.data.values import NotARowError, Record, text
from undertow.types import Row

OWN = ("id", "reasons", "skip")
"""Keys that a row of Undertow may have beside those of its shape."""

LOOKED_AT = frozenset({*COLUMNS, *OWN})
"""Every key that is read to make a row; the options of the source may name a further one for ids."""


def id_key(reading: Reading) -> str:
    """Return the key under which the ids stand."""
    return "id" if reading.ids in (None, "new") else str(reading.ids)


def rows_of(record: Record, told: Told, reading: Reading, default_id: str) -> tuple[tuple[Row, ...], set[str]]:
    """Return the rows of a record (several if `turns` is "all") and the remarks on them.

    Args:
        record: the record as it was read.
        told: the turns of the record (`undertow.data.shapes.read_as_shape`).
        reading: the options of the record's source.
        default_id: id for a record that has none, or if all rows are numbered anew.

    Raises:
        NotARowError: nothing is learnt from the record, or its id, "reasons" or "skip" has a wrong type.
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
    """Return the keys of a record that are no part of its rows, with their values.

    A column that only shares its name with one of ours ("reasons", "skip") is among them.

    Args:
        record: the record as it was read.
        told: the turns of the record, with the keys that they were read from.
        reading: the options of the record's source.
    """
    ours = {id_key(reading), "id"}
    ours |= {"reasons"} if _reasons(record.get("reasons")) is not None else set()
    ours |= {"skip"} if _places(record.get("skip")) is not None else set()
    return {
        key: value
        for key, value in record.items()
        if key not in ours and key not in told.used and not (value is None and key in COLUMNS)
    }


def id_of(record: Record, reading: Reading, default: str) -> str:
    """Return the id of a record, or the default if it has none or all rows are numbered anew.

    Raises:
        NotARowError: the record lacks the key that the options name, or its id is neither text nor a whole number.
    """
    return default if reading.ids == "new" else _id(record, id_key(reading), default)


def refuse_repeated(row_id: str, number: int, first_line: dict[str, int]) -> None:
    """Note the line of an id, and refuse an id that an earlier line has.

    Args:
        row_id: id of the row that was read.
        number: number of its line, from 1.
        first_line: the first line of each id so far; the new id is added.

    Raises:
        NotARowError: an earlier line has this id.
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
    """Return the reasons of a filter; None for a column of another meaning, which is no list."""
    if not isinstance(value, list):
        return () if value is None else None
    return tuple(text(item, f"reasons[{index}]") for index, item in enumerate(cast(list[object], value)))


def _places(value: object) -> tuple[int, ...] | None:
    """Return the places that the loss leaves out; None for a column of another meaning, which is no list."""
    if not isinstance(value, list):
        return () if value is None else None
    places = cast(list[object], value)
    if any(type(place) is not int or place < 0 for place in places):
        raise NotARowError("skip is not a list of whole numbers from 0")
    return cast(tuple[int, ...], tuple(places))

"""Checks of the values in a record: why it is no row, what counts as absent, and which text a file can hold."""

import json
from typing import cast

Record = dict[str, object]
"""A JSON object or a record of a table: a value for each key."""


class NotARowError(Exception):
    """A record is not a row; the message is the reason, in words that can follow the number of its line."""


class NotJsonError(NotARowError):
    """A line that is no JSON object at all."""


class UnknownShapeError(NotARowError):
    """A record has the keys of no known shape.

    Attributes:
        record: the record that was read.
        hint: a sentence that says what the record is instead; "" where that cannot be told.
    """

    def __init__(self, reason: str, record: Record, hint: str = "") -> None:
        super().__init__(reason)
        self.record, self.hint = record, hint


class TwoAnswersError(NotARowError):
    """A record is a preference row, and the options do not say which of its two answers is learnt."""

    def __init__(self) -> None:
        super().__init__("two answers, chosen and rejected (side=chosen or side=rejected learns one)")


def unique(pairs: list[tuple[str, object]]) -> Record:
    """Return the object of these pairs and refuse a repeated key.

    It is the hook for `json`, which by itself would keep the last of two equal keys.

    Raises:
        NotARowError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotARowError(f"the key {twice!r:.60} is there twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=unique)


def parse_object(line: bytes) -> Record:
    """Parse a line as a JSON object.

    Raises:
        NotARowError: the line is not UTF-8 or no JSON object, or an object in it has a key twice.
    """
    try:
        record: object = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise NotJsonError("not JSON") from None
    return as_object(record)


def as_object(value: object) -> Record:
    """Return a value that is a JSON object, and refuse any other.

    Raises:
        NotARowError: the value is something else.
    """
    if not isinstance(value, dict):
        raise NotJsonError("not a JSON object")
    return cast(Record, value)


def absent(value: object) -> bool:
    """Tell whether a value holds nothing: null, empty, or made of such values alone, as in the columns of tables."""
    if isinstance(value, dict):
        return all(map(absent, cast(Record, value).values()))
    if isinstance(value, list | tuple):
        return all(map(absent, cast(list[object], value)))
    return value is None or (isinstance(value, str) and value.strip() in ("", "[]", "{}", "null"))


def text(value: object, where: str) -> str:
    """Return a value that is text, and refuse any other.

    Args:
        value: the value, as it stands in the record.
        where: name of its place in error messages.

    Raises:
        NotARowError: the value is no text, or one that no file can hold.
    """
    if not isinstance(value, str):
        raise NotARowError(f"{where} is not text")
    # JSON may escape half a surrogate pair, which no tokenizer takes and no file can hold.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise NotARowError(f"{where} holds half a surrogate pair")
    return value

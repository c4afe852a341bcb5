"""Values of a record, checked: why one is no row, what counts as absent, text that any file can hold."""

import json
from typing import cast

Record = dict[str, object]
"""A JSON object, or a record of a table, by its keys."""


class NotARowError(Exception):
    """Why a record is not a row."""


class NotJsonError(NotARowError):
    """A line that is no JSON object at all."""


class UnknownShapeError(NotARowError):
    """A record with the keys of no shape.

    Attributes:
        record: itself.
        hint: what it is, as a whole sentence, where that can be told; else "".
    """

    def __init__(self, reason: str, record: Record, hint: str = "") -> None:
        super().__init__(reason)
        self.record, self.hint = record, hint


class TwoAnswersError(NotARowError):
    """A preference row, of which nobody has said which answer is learnt."""

    def __init__(self) -> None:
        super().__init__("two answers, chosen and rejected (side=chosen or side=rejected learns one)")


def unique(pairs: list[tuple[str, object]]) -> Record:
    """Return the object of these pairs: the hook of `json`, which would keep the last of two equal keys.

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
    """Return the JSON object of a line.

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
    """Return a value that is a JSON object.

    Raises:
        NotARowError: it is something else.
    """
    if not isinstance(value, dict):
        raise NotJsonError("not a JSON object")
    return cast(Record, value)


def absent(value: object) -> bool:
    """Say whether a value holds nothing: null, empty, or all that it holds is so, as in the columns of tables."""
    if isinstance(value, dict):
        return all(map(absent, cast(Record, value).values()))
    if isinstance(value, list | tuple):
        return all(map(absent, cast(list[object], value)))
    return value is None or (isinstance(value, str) and value.strip() in ("", "[]", "{}", "null"))


def text(value: object, where: str) -> str:
    """Return a value that is text.

    Raises:
        NotARowError: it is no text, or none that a file can hold.
    """
    if not isinstance(value, str):
        raise NotARowError(f"{where} is not text")
    # JSON may escape half a surrogate pair, which no tokenizer takes and no file can hold.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise NotARowError(f"{where} holds half a surrogate pair")
    return value

"""Finding every text of a body, in order: of a request all texts, of a reply all that a model may have said.

What is left out is listed (`undertow.monitor.words`, `RequestKind.not_said`), so that a field that is not known is
read. A body that holds more than text, such as an image or a prompt of token ids, is not readable.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from undertow.monitor.bodies import JsonObject, UnreadableError
from undertow.monitor.request_kinds import RequestKind
from undertow.monitor.words import ELSEWHERE, NOT_TEXT, SETTINGS, SPOKEN, STRUCTURE, TOKENS

Lane = tuple[str | int, ...]
"""Place in a body where a text stands. In the events of a stream the texts of one lane are pieces of one text."""

DEEPEST = 64
_NAME = re.compile(r"[\w./:@+-]{1,200}")
_DATA = re.compile(r"\s*data:[^,]{0,100},", re.IGNORECASE)
_ID = re.compile(r"[a-z]{2,10}[_-][\w-]{6,100}")
_SERVERS = frozenset(
    ("signature", "encrypted_content", "finish_reason", "stop_reason", "type", "object", "role", "status")
)
"""Keys of a reply, at any depth, whose values are chosen by the server, not by a model."""
_FREE = frozenset(("arguments", "parameters", "schema", "input_schema", "properties", "$defs"))
_BELOW = 2
_PLACES = ("index", "output_index", "content_index", "summary_index")
_UNREAD_QUERY = frozenset(("api-version", "beta", "limit", "after", "before", "order", "stream"))


@dataclass(frozen=True, slots=True)
class Said:
    """One text and its lane.

    Attributes:
        lane: the place where the text stands.
        text: the text itself, or a piece of it in a stream.
    """

    lane: Lane
    text: str


def asked_texts(data: JsonObject) -> list[str]:
    """Return every text of a request, in order.

    Raises:
        UnreadableError: the request holds more than text.
    """
    return [one.text for one in _walk(data, _Request())]


def query_texts(query: bytes) -> list[str]:
    """Return the values in a query, which some servers read as fields of the request."""
    pairs = parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=False, max_num_fields=1000)
    return [value for key, value in pairs if key not in _UNREAD_QUERY]


def said_texts(data: JsonObject, asked: RequestKind) -> list[Said]:
    """Return every text of a reply, or of one event of it, that a model may have said.

    Raises:
        UnreadableError: the reply holds more than text.
    """
    return list(_walk(data, _Reply(asked))) if asked.speaks else []


class _Request:
    """Rules for a request: what is left out, and what stands for something outside of the body."""

    audio = ("data", "id")

    def left_out(self, top: int, key: str, value: object) -> bool:
        return top == 0 and key == "model" and isinstance(value, str) and _NAME.fullmatch(value) is not None

    def is_elsewhere(self, top: int, key: str, value: object) -> bool:
        return key in ELSEWHERE or (top == 0 and key == "prompt" and isinstance(value, dict))


class _Reply:
    """Rules for a reply, in which the names of types and things are chosen by the server."""

    audio = ("data",)

    def __init__(self, asked: RequestKind) -> None:
        self._not_said, self._settings = asked.not_said, asked.settings

    def left_out(self, top: int, key: str, value: object) -> bool:
        if key in _SERVERS or (key in ("id", "call_id") and isinstance(value, str) and _ID.fullmatch(value)):
            return True
        return top < _BELOW and (key in self._not_said or (key in self._settings and isinstance(value, dict)))

    def is_elsewhere(self, top: int, key: str, value: object) -> bool:
        del top, value
        return key in ELSEWHERE


@dataclass(frozen=True, slots=True)
class _Place:
    """A value of the body that is still to be walked through.

    Attributes:
        lane: lane of the texts at this place.
        key: key under which the value stands.
        value: the value itself, of any JSON type.
        depth: number of objects and lists around it.
        top: 0 for the body, 1 for what an event carries as a whole, `_BELOW` for everything else.
        free: whether its keys are somebody's own, as in the arguments of a tool or a schema.
    """

    lane: Lane
    key: str
    value: object
    depth: int = 0
    top: int = 0
    free: bool = False


def _walk(data: JsonObject, rules: _Request | _Reply) -> Iterator[Said]:
    waiting = [_Place((), "", data)]
    while waiting:
        place = waiting.pop()
        value = place.value
        if place.depth > DEEPEST:
            raise UnreadableError("the body is nested too deeply")
        if isinstance(value, str):
            yield from _string(place, value)
        elif isinstance(value, list):
            items = cast(list[object], value)
            if not place.free and place.key in TOKENS and any(type(one) in (int, float) for one in items):
                raise UnreadableError("numbers stand where a text is expected")
            waiting += reversed(list(_items(place, items)))
            yield from _joined(place, items)
        elif isinstance(value, dict):
            inside = cast(JsonObject, value)
            yield from _names(place, inside)
            waiting += reversed(list(_children(place, inside, rules)))


def _string(place: _Place, text: str) -> Iterator[Said]:
    if _DATA.match(text):
        raise UnreadableError("a file stands in the body")
    if text and (place.key in SPOKEN or text not in SETTINGS):
        yield Said(place.lane, text)


def _names(place: _Place, value: JsonObject) -> Iterator[Said]:
    """Yield the keys that are no words of an interface, since a tool may name its parameters as it likes."""
    if names := [key for key in value if key not in STRUCTURE and key not in SETTINGS]:
        yield Said((*place.lane, "keys"), "\n".join(names))


def _joined(place: _Place, items: list[object]) -> Iterator[Said]:
    """Yield the texts of neighbouring parts as one text, since an upstream may join them with nothing between."""
    found: list[Any] = [cast(JsonObject, one).get("text") for one in items if isinstance(one, dict)]
    texts = [one for one in found if isinstance(one, str)]
    if len(texts) > 1:
        yield Said((*place.lane, "joined"), "".join(texts))


def _items(place: _Place, items: list[object]) -> Iterator[_Place]:
    # The tokens of a text are one text, whether they come in one list or event by event.
    together = "logprobs" in place.lane and place.key != "top_logprobs"
    for number, item in enumerate(items):
        own = isinstance(item, dict) and "index" in item
        lane = place.lane if together or own else (*place.lane, number)
        yield _Place(lane, place.key, item, place.depth + 1, _BELOW, place.free)


def _children(place: _Place, value: JsonObject, rules: _Request | _Reply) -> Iterator[_Place]:
    kind = value.get("type")
    if not place.free and isinstance(kind, str) and kind in NOT_TEXT:
        raise UnreadableError(f"a part of the type {kind} cannot be read")
    lane: Lane = (*place.lane, *(f"{key}={value[key]}" for key in _PLACES if isinstance(value.get(key), int | str)))
    if place.depth == 0 and isinstance(kind, str):
        lane = (*lane, kind)
    for key, child in value.items():
        if not child or isinstance(child, bool | int | float):
            continue
        if not place.free:
            if rules.left_out(place.top, key, child):
                continue
            _check_here(place.top, key, child, rules)
        top = 1 if place.top == 0 and key in ("response", "message") else _BELOW
        free = place.free or key in _FREE or (key == "input" and place.top != 0 and isinstance(child, dict))
        yield _Place((*lane, key), key, child, place.depth + 1, top, free)


def _check_here(top: int, key: str, child: object, rules: _Request | _Reply) -> None:
    """Raise `UnreadableError` if a value stands for something outside of the body, or is no text."""
    heard = key == "audio" and isinstance(child, dict) and any(cast(JsonObject, child).get(one) for one in rules.audio)
    if heard or rules.is_elsewhere(top, key, child):
        raise UnreadableError(f"{key} stands for something that detectors cannot read")

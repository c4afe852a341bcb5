"""Reading a streamed reply in the pieces in which it comes: whole events out of bytes, and the texts in them.

Server-sent events and JSON by lines are read. A lane is one place in the events whose texts are pieces of one longer
text. The bytes themselves are kept as they came, so that what is released is what the upstream sent.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from undertow.monitor.bodies import JsonObject, UnreadableError, is_plain_word, parse_body
from undertow.monitor.request_kinds import RequestKind
from undertow.monitor.texts import Lane, Said, said_texts

BOM = b"\xef\xbb\xbf"
_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINES = re.compile(rb"\r\n|\n|\r")
DONE = b"[DONE]"


def is_event_stream(kind: bytes) -> bool:
    """Tell whether a content type is that of server-sent events."""
    return kind.strip().lower().startswith(b"text/event-stream")


def is_lines(kind: bytes) -> bool:
    """Tell whether a content type is that of JSON by lines."""
    return kind.split(b";")[0].strip().lower() in (b"application/x-ndjson", b"application/jsonl", b"application/ndjson")


@dataclass(slots=True)
class Lanes:
    """The texts of a reply by their lanes (places in the events).

    Attributes:
        texts: the pieces of text of each lane, in the order in which they came.
        size: number of characters of all pieces.
    """

    texts: dict[Lane, list[str]] = field(default_factory=dict[Lane, list[str]])
    size: int = 0

    def add(self, said: Iterable[Said]) -> None:
        """Append texts to their lanes."""
        for one in said:
            self.texts.setdefault(one.lane, []).append(one.text)
            self.size += len(one.text)

    def replies(self) -> list[str]:
        """Return what the model replied: one text for each choice, without the tokens that it did not choose."""
        said: dict[Lane, list[str]] = {}
        beside: list[str] = []
        for lane, pieces in self.texts.items():
            if "top_logprobs" not in lane and lane != ("choices", "joined"):
                of_choice = lane[:1] == ("choices",) and lane != ("choices", "keys")
                place = said.setdefault(lane[:2], []) if of_choice else beside
                place.append("".join(pieces))
        first, *others = said.values() or [[]]
        return ["\n".join(dict.fromkeys(texts)) for texts in ([*first, *beside], *others)]

    def whole(self) -> str:
        """Return the text of each lane, one a line; equal texts come once."""
        return "\n".join(dict.fromkeys("".join(pieces) for pieces in self.texts.values()))


def event_objects(block: bytes) -> Iterator[JsonObject]:
    """Yield the JSON objects in one server-sent event; comments and marks such as [DONE] hold none.

    Raises:
        UnreadableError: the data of the event is neither JSON nor a plain word.
    """
    lines = [line[5:].removeprefix(b" ") for line in _LINES.split(block.removeprefix(BOM)) if line.startswith(b"data:")]
    data = b"\n".join(lines).strip()
    if not data or data == DONE or is_plain_word(data):
        return
    try:
        yield parse_body(data)
    except UnreadableError:
        # Some servers end an event with one line break alone, and most clients read it line by line.
        if len(lines) < 2:
            raise
        for line in lines:
            if line.strip() not in (b"", DONE) and not is_plain_word(line.strip()):
                yield parse_body(line)


def line_objects(block: bytes) -> Iterator[JsonObject]:
    """Yield the JSON object of a line, none for an empty line.

    Raises:
        UnreadableError: the line is no JSON object.
    """
    for line in _LINES.split(block.removeprefix(BOM)):
        if line.strip():
            yield parse_body(line)


def read_lanes(body: bytes, kind: bytes, asked: RequestKind) -> Lanes:
    """Read the texts of a whole reply, whatever its content type says.

    Args:
        body: the reply's body in bytes, decompressed.
        kind: value of its content-type header.
        asked: kind of the request, which says what in the reply a model said.

    Raises:
        UnreadableError: the reply is neither JSON, nor JSON by lines, nor a stream of events.
    """
    lanes = Lanes()
    plain = body.removeprefix(BOM).strip()
    if not plain or not asked.speaks:
        return lanes
    if is_event_stream(kind) or plain.startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
        for block in _END_OF_EVENT.split(plain):
            for one in event_objects(block):
                lanes.add(said_texts(one, asked))
        if b"data:" not in plain:
            raise UnreadableError("the stream has no events")
    elif is_lines(kind) or (plain.startswith(b"{") and b"\n{" in plain):
        lanes.add(said for one in _lines_or_object(plain) for said in said_texts(one, asked))
    else:
        lanes.add(said_texts(parse_body(plain), asked))
    return lanes


def _lines_or_object(body: bytes) -> list[JsonObject]:
    """Read lines of JSON, or one object that spans several lines."""
    try:
        return list(line_objects(body))
    except UnreadableError:
        return [parse_body(body)]


class Pieces:
    """Splits a stream into whole events, and keeps their bytes until they are judged.

    A new lane follows the text before it in a line of its own, as in `Lanes.whole`: it is judged with that text. Of
    lanes that come in turns, such as several choices, the older ones are judged with their own text alone.

    Args:
        kind: content type of the reply: server-sent events, or JSON by lines.
        asked: kind of the request, which says what in the reply a model said.
        context: number of characters before a piece that are judged again with it, at least.
        step: the text that is judged begins at a multiple of so many characters of the whole text.
    """

    def __init__(self, kind: bytes, asked: RequestKind, context: int, step: int = 1) -> None:
        self._of, self._context, self._step = asked, context, step
        self._newest: Lane | None = None
        self._text, self._dropped = "", 0
        self._end, self._read = (_END_OF_EVENT, event_objects) if is_event_stream(kind) else (_LINES, line_objects)
        self._rest = bytearray()
        self._ready: list[bytes] = []
        self._new: dict[Lane, list[str]] = {}
        self.lanes = Lanes()
        self.characters = 0

    @property
    def size(self) -> int:
        """Number of characters of the whole text, with the longest of the new texts; repetitions count once."""
        new = max((sum(map(len, texts)) for texts in self._new.values()), default=0)
        return self._dropped + len(self._text) + new

    @property
    def held(self) -> int:
        """Number of bytes that have not been taken yet."""
        return len(self._rest) + sum(map(len, self._ready))

    def add(self, data: bytes) -> None:
        """Read bytes of the upstream's reply.

        Raises:
            UnreadableError: an event is not JSON, or holds more than text.
        """
        start = max(0, len(self._rest) - 4)
        self._rest += data
        ends = [found.end() for found in self._end.finditer(self._rest, start)]
        if ends and ends[-1] == len(self._rest) and self._rest.endswith(b"\r"):
            ends.pop()  # The second half of a line break may still be on its way.
        blocks = [bytes(self._rest[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
        del self._rest[: ends[-1] if ends else 0]
        for number, block in enumerate(blocks):
            try:
                self._event(block)
            except UnreadableError:
                self._ready += blocks[number + 1 :]
                raise

    def finish(self) -> None:
        """Read the bytes that came without the end of an event.

        Raises:
            UnreadableError: an event is not JSON, or holds more than text.
        """
        if self._rest:
            rest, self._rest = bytes(self._rest), bytearray()
            self._event(rest)

    def take(self) -> tuple[bytes, str]:
        """Return the bytes of the whole events so far, and the text that must be judged before they go out."""
        length, parts = len(self._text), list[str]()
        for lane, new in self._new.items():
            text = "".join(new)
            earlier = self.lanes.texts.get(lane)
            if earlier is None and not self._is_repeated(text):
                self._text += f"\n{text}" if self._newest is not None else text
                self._newest = lane
            elif lane == self._newest:
                self._text += text
            elif earlier is not None and not self._is_repeated("".join(earlier) + text):
                parts.append(self._tail(earlier) + text)
            self.lanes.add([Said(lane, text)])
        if len(self._text) > length:
            parts.insert(0, self._text)
        # What comes next is judged from here on.
        start = max(0, (self._dropped + len(self._text) - self._context) // self._step * self._step)
        self._text, self._dropped = self._text[start - self._dropped :], start
        data = b"".join(self._ready)
        self._ready, self._new, self.characters = [], {}, 0
        return data, "\n".join(dict.fromkeys(parts))

    def untouched(self) -> bytes:
        """Return all bytes that have not been taken, for a reply that is no longer read."""
        data = b"".join(self._ready) + bytes(self._rest)
        self._ready, self._rest = [], bytearray()
        return data

    def _event(self, block: bytes) -> None:
        self._ready.append(block)
        for one in self._read(block):
            for said in said_texts(one, self._of):
                self._new.setdefault(said.lane, []).append(said.text)
                self.characters += len(said.text)

    def _tail(self, earlier: list[str]) -> str:
        found: list[str] = []
        missing = self._context
        for one in reversed(earlier):
            if missing <= 0:
                break
            found.append(one[-missing:])
            missing -= len(one)
        return "".join(reversed(found))

    def _is_repeated(self, text: str) -> bool:
        """Tell whether a new lane repeats one that was judged.

        Some interfaces end with a repetition of what they said in pieces.
        """
        return any(sum(map(len, one)) == len(text) and "".join(one) == text for one in self.lanes.texts.values())

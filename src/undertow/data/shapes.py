"""The shapes of rows that are read, in one table: which keys a record has, and how they become turns.

A record is of the shape whose keys it has. One that fits several shapes is read as the first of them if all of them say
the same. Otherwise it is refused, until `?shape=NAME` behind the file's name says which is meant.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from undertow.data.reading import Reading, Side
from undertow.data.turns import Turn, read_messages, said
from undertow.data.values import NotARowError, Record, TwoAnswersError, UnknownShapeError, absent, text

Turns = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class SourceShape:
    """One way in which rows are written.

    Attributes:
        name: name of the shape for the option `?shape=`; several shapes of one name are variants.
        keys: keys that a record of the shape must have; the first of them holds the prompt.
        ask: returns the turns of the prompt.
        read: returns all turns, the last one being what is learnt; for a preference row the answer of the given side.
        further: keys that are read too where they are there.
    """

    name: str
    keys: tuple[str, ...]
    ask: Callable[[Record], Turns]
    read: Callable[[Record, Side | None], Turns]
    further: tuple[str, ...] = ()


def _listed(record: Record, side: Side | None = None, *, key: str) -> Turns:
    del side
    return read_messages(record.get(key), key)


def _without_answers(record: Record, *, key: str) -> Turns:
    turns = _listed(record, key=key)
    while turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    return turns


def _asked(record: Record, *, key: str) -> Turns:
    value = record.get(key)
    return read_messages(cast(object, value), key) if isinstance(value, list) else (Turn("user", text(value, key)),)


def _answered(record: Record, key: str) -> Turn:
    value = record.get(key)
    if not isinstance(value, list):
        return Turn("assistant", text(value, key))
    turns = read_messages(cast(object, value), key)
    if [turn.role for turn in turns] != ["assistant"]:
        raise NotARowError(f"{key} is not one assistant message")
    return turns[0]


def _paired(record: Record, side: Side | None = None, *, ask: Callable[[Record], Turns], key: str) -> Turns:
    del side
    turns = ask(record)
    if not turns:
        raise NotARowError("no prompt")
    return (*turns, _answered(record, key))


def _pair(name: str, asked: str, answered: str) -> SourceShape:
    ask = partial(_asked, key=asked)
    return SourceShape(name, (asked, answered), ask, partial(_paired, ask=ask, key=answered))


def _conversation(name: str, key: str) -> SourceShape:
    return SourceShape(name, (key,), partial(_without_answers, key=key), partial(_listed, key=key))


def _instructed(record: Record) -> Turns:
    """Return the instruction and, after an empty line, its input if there is one, as one user turn."""
    asked, given = text(record.get("instruction"), "instruction"), record.get("input")
    more = "" if given is None else text(given, "input")
    return (Turn("user", f"{asked}\n\n{more}" if more.strip() else asked),)


def _instruction(answered: str) -> SourceShape:
    read = partial(_paired, ask=_instructed, key=answered)
    return SourceShape("instruction", ("instruction", answered), _instructed, read, ("input",))


def _compared(record: Record, side: Side | None) -> Turns:
    """Return the turns of a preference row with one of its two answers.

    The prompt may stand under a key of its own, or at the beginning of both answers.
    """
    sides = {name: _side(record, name) for name in ("chosen", "rejected")}
    if said(sides["chosen"][:-1]) != said(sides["rejected"][:-1]):
        raise NotARowError("chosen and rejected do not share their prompt")
    return sides[side or "chosen"]


def _side(record: Record, side: str) -> Turns:
    value, own = record.get(side), _preferred_prompt(record)
    if not isinstance(value, list):
        turns = (*own, Turn("assistant", text(value, side)))
    else:
        turns = read_messages(cast(object, value), side)
        before = said(turns[:-1])
        if own and not before:
            turns = (*own, *turns)
        elif own and before != said(own) and [one for one in before if one.role != "system"] != list(said(own)):
            raise NotARowError(f"prompt and {side} disagree on what was asked")
    if not turns or turns[-1].role != "assistant":
        raise NotARowError(f"{side} does not end with the assistant's answer")
    if len(turns) == 1:
        raise NotARowError("no prompt")
    return turns


def _preferred_prompt(record: Record) -> Turns:
    for key in ("prompt", "question", "instruction"):
        if record.get(key) is not None:
            return _instructed(record) if key == "instruction" else _asked(record, key=key)
    return ()


def _asked_of_both(record: Record) -> Turns:
    return _compared(record, "chosen")[:-1]


def _batch_request(record: Record) -> Record:
    request = record.get("request")
    body = cast(Record, request).get("body", request) if isinstance(request, dict) else record.get("body")
    if not isinstance(body, dict) or cast(Record, body).get("messages") is None:
        hint = "This is the output of a batch: answers without what was asked; join it with its requests by custom_id."
        raise UnknownShapeError("the output of a batch has no prompt", record, hint)
    _refuse_further(cast(Record, body))
    return cast(Record, body)


def _batch_ask(record: Record) -> Turns:
    return read_messages(_batch_request(record)["messages"], "request.messages")


def _batch(record: Record, side: Side | None = None) -> Turns:
    del side
    asked, response = _batch_ask(record), record.get("response")
    body = cast(Record, response).get("body") if isinstance(response, dict) else None
    choices = cast(Record, body).get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or len(cast(list[object], choices)) != 1 or not absent(record.get("error")):
        raise NotARowError("the response of the batch is not one answer")
    (choice,) = cast(list[object], choices)
    message = cast(Record, choice).get("message") if isinstance(choice, dict) else None
    turns = read_messages([message], "response.body.choices[0].message")
    if turns[0].role != "assistant" or not asked:
        raise NotARowError("the response of the batch is not one answer" if asked else "no prompt")
    return (*asked, *turns)


SHAPES = (
    _conversation("messages", "messages"),
    _pair("completion", "prompt", "completion"),
    _pair("question", "question", "response"),
    _pair("question", "question", "answer"),
    _pair("response", "prompt", "response"),
    _instruction("output"),
    _instruction("generation"),
    _conversation("sharegpt", "conversations"),
    SourceShape(
        "preference", ("chosen", "rejected"), _asked_of_both, _compared, ("prompt", "question", "instruction", "input")
    ),
    SourceShape("batch", ("response", "custom_id"), _batch_ask, _batch, ("request", "body", "error")),
)
"""Every shape, in the order of precedence."""

NAMES = tuple(dict.fromkeys(one.name for one in SHAPES))
KNOWN = ", or ".join(" and ".join(one.keys) for one in SHAPES if one.name != "batch")
"""The keys of the shapes in which a user may write rows, as error messages list them."""

_WRITTEN = ("messages", "prompt", "completion")
_SYSTEM = ("system", "system_prompt")
_NOT_READ: Mapping[str, str] = {
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call"), "tool calls are not read"),
    **dict.fromkeys(("images", "image", "videos", "audios"), "only text is read"),
    "history": "earlier turns are read as messages alone",
    "chat_template_kwargs": "settings of the chat template are not read",
}
"""Keys that would change training and that a row cannot hold, each with the reason for which it is refused."""

_THOUGHT = ("reasoning_content", "reasoning", "thinking")
_READ_TOO = (*_SYSTEM, *_NOT_READ, "weight", "label", *_THOUGHT)
COLUMNS = frozenset({*_READ_TOO, *(key for one in SHAPES for key in (*one.keys, *one.further))})
"""Every key that is read to make a row, except those of ids and of Undertow's own columns."""


@dataclass(frozen=True, slots=True)
class Told:
    """A record that was read as one of the shapes.

    Attributes:
        shape: the shape that it was read as.
        turns: all turns of the conversation, the last one being what is learnt.
        notes: names of the remarks on the record itself (`undertow.data.reading.NOTES`).
        used: keys of the record that went into the turns, or that belong to another shape that it fits.
    """

    shape: SourceShape
    turns: Turns
    notes: frozenset[str]
    used: frozenset[str]


def read_as_shape(record: Record, reading: Reading) -> Told:
    """Read a record as its shape, or as the shape that the options name.

    Args:
        record: the record as it was read from a file.
        reading: the options of its source.

    Raises:
        UnknownShapeError: the record has the keys of no shape.
        TwoAnswersError: the record is a preference row, and the options name no side.
        NotARowError: the record fits several shapes that disagree, or holds what a row cannot.
    """
    fitting = _fitting(record, reading)
    shape, others = fitting[0], fitting[1:]
    if shape.name == "preference" and reading.side is None:
        raise TwoAnswersError
    turns = shape.read(record, reading.side)
    if rival := next((one for one in others if _rivals(turns, one, record)), None):
        choose = f"?shape={shape.name} or ?shape={rival.name} behind the file's name chooses"
        if rival.name == shape.name:
            choose = f"leave {' or '.join(key for key in rival.keys if key not in shape.keys)} out"
        keys = [" and ".join(one.keys) for one in (shape, rival)]
        raise NotARowError(f"{keys[0]} say one thing, {keys[1]} another: {choose}")
    lost, used = _keys_of(fitting)
    notes = _beside(record)
    if any(record.get(key) is not None for key in lost):
        notes.add("other shape")
    return Told(shape, _with_system(record, turns), frozenset(notes), used)


@functools.cache
def _keys_of(fitting: tuple[SourceShape, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the keys that are lost if a record is read as the first of its shapes, and all keys that are used."""
    shape, *others = fitting
    read = (*shape.keys, *shape.further)
    # What is written has these names, whatever shape it is read from.
    named = [*_WRITTEN, *(key for one in others for key in (*one.keys, *one.further))]
    return tuple(key for key in named if key not in read), frozenset((*read, *named, *_SYSTEM))


def read_question(record: Record, reading: Reading) -> Turns:
    """Return the turns of a record's prompt; its answer may be missing.

    Raises:
        NotARowError: the record has no prompt, or holds what a row cannot.
    """
    for shape in SHAPES:
        named = reading.shape is None or shape.name == reading.shape
        # The first key is the prompt's, but for those shapes that are known by their other keys.
        keys = shape.keys if shape.name in ("preference", "batch") else shape.keys[:1]
        if named and all(record.get(key) is not None for key in keys):
            _refuse_further(record)
            if turns := _with_system(record, shape.ask(record)):
                return turns
            raise NotARowError("no prompt")
    raise UnknownShapeError(_missing(record, ()) if record else "no prompt", record)


@functools.lru_cache(maxsize=1024)
def _having(there: frozenset[str], name: str | None) -> tuple[SourceShape, ...]:
    """Return the shapes whose keys are all there; only those of the given name if it is not None."""
    return tuple(one for one in SHAPES if name in (None, one.name) and there.issuperset(one.keys))


def _fitting(record: Record, reading: Reading) -> tuple[SourceShape, ...]:
    name = reading.shape or ("preference" if reading.side else None)
    found = _having(frozenset(key for key in record if record[key] is not None), name)
    if not found:
        asked = [one for one in SHAPES if name in (None, one.name)]
        is_text = record.get("text") is not None and name is None
        hint = (
            "Rows of continued pre-training have text and no prompt; a row needs both what is asked and what is learnt."
        )
        raise UnknownShapeError(_missing(record, asked if name else ()), record, hint if is_text else "")
    return found


def _missing(record: Record, asked: Sequence[SourceShape]) -> str:
    """Say which key a record lacks: one of the first shape whose first key it has."""
    for shape in asked or SHAPES:
        there = [key for key in shape.keys if record.get(key) is not None]
        if shape.keys[0] in there:
            return f"no {next(key for key in shape.keys if key not in there)}"
    if record.get("text") is not None and not asked:
        return "text without a prompt"
    return f"no {asked[0].keys[0]}" if asked else "no prompt"


def _rivals(turns: Turns, other: SourceShape, record: Record) -> bool:
    """Tell whether another shape that a record fits reads it differently; a preference row always does."""
    if other.name == "preference":
        return True
    try:
        return said(other.read(record, None)) != said(turns)
    except NotARowError:
        return False


def _refuse_further(record: Record) -> None:
    for key in record.keys() & _NOT_READ.keys():
        if not absent(record[key]):
            raise NotARowError(f"{_NOT_READ[key]} ({key})")


def _beside(record: Record) -> set[str]:
    """Refuse keys that change training and that a row cannot hold; return the remarks on the others."""
    _refuse_further(record)
    weight, label = record.get("weight"), record.get("label")
    if weight is not None and (not isinstance(weight, int | float) or weight not in (0, 1)):
        raise NotARowError(f"weight is {weight!r:.60}, not 0 or 1; another column needs another name")
    if weight == 0:
        raise NotARowError("nothing is learnt: its weight is 0")
    if label is False:
        raise NotARowError("its label is false: the completion is not to be learnt")
    thought = any(not absent(record[key]) for key in _THOUGHT if key in record)
    notes = {"reasoning key"} if thought else set[str]()
    return notes if label is None else notes | {"label" if label is True else "label key"}


def _with_system(record: Record, turns: Turns) -> Turns:
    """Put the text that stands under the key `system` before the turns, as a system turn."""
    given = {text(record[key], key) for key in _SYSTEM if key in record and not absent(record[key])}
    if not given:
        return turns
    if len(given) > 1:
        raise NotARowError("system and system_prompt disagree")
    (wanted,) = given
    own = [turn.content for turn in turns if turn.role == "system"]
    if own and own != [wanted]:
        raise NotARowError("the key system and the system turn disagree")
    return turns if own else (Turn("system", wanted), *turns)

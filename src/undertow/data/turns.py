"""Messages of a record as turns, with all that changes training: tool calls, reasoning, weights, parts, names.

What a row can hold is kept. What it cannot hold makes the record no row, and the rest is noted as a remark
(`undertow.data.reading.NOTES`). Nothing is dropped in silence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from undertow.data.reading import Reading
from undertow.data.values import NotARowError, Record, absent, text
from undertow.types import Message, Prompt, Role

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "developer": "system"}
_SPEAKERS: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
}
_TOOL_ROLES = (
    "tool", "function", "function_call", "function_response", "tool_call", "tool_response", "observation", "ipython",
)  # fmt: skip
_REASONING = ("reasoning_content", "reasoning", "thinking")
_READ = ("role", "content", "from", "value", "weight", "train", "name", *_REASONING)
_REFUSED = {
    "tool_calls": "tool calls are not read",
    "function_call": "tool calls are not read",
    "tool_call_id": "tool calls are not read",
    "refusal": "refusals are not read",
    "audio": "audio is not read",
    "images": "images are not read",
}
_TEXT_PARTS, _THOUGHT_PARTS = ("text", "input_text", "output_text"), ("thinking", "reasoning")
_THOUGHTS = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as it was read from a record.

    Attributes:
        role: who speaks: "system", "user" or "assistant".
        content: the text of the message.
        reasoning: the reasoning that stood beside the content; "" for none.
        weight: 1 or 0 if the message says whether it is learnt; None if it does not.
        notes: names of the remarks on the message (`undertow.data.reading.NOTES`).
    """

    role: Role
    content: str
    reasoning: str = ""
    weight: int | None = None
    notes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LearntAnswer:
    """An answer of a conversation that becomes a row.

    Attributes:
        prompt: the turns before the answer.
        completion: text of the answer, with its reasoning in <think> tags if that is kept.
        place: number of the answer among all answers of its conversation, from 1.
    """

    prompt: Prompt
    completion: str
    place: int


def read_messages(value: object, where: str) -> tuple[Turn, ...]:
    """Return the turns of a list of messages with `role` and `content`, or `from` and `value`.

    Args:
        value: the list of messages, as it stands in the record.
        where: name of the list in error messages, such as "messages".

    Raises:
        NotARowError: the value is no list of messages, or holds what a row cannot.
    """
    if not isinstance(value, list):
        raise NotARowError(f"{where} is not a list of messages")
    return tuple(_turn(item, f"{where}[{index}]") for index, item in enumerate(cast(list[object], value)))


def said(turns: Sequence[Turn]) -> Prompt:
    """Return turns as a prompt holds them: role and content, without reasoning."""
    return tuple(Message(turn.role, turn.content) for turn in turns)


def answers(turns: Sequence[Turn], reading: Reading) -> tuple[list[LearntAnswer], set[str]]:
    """Return the answers of a conversation that are learnt, and the names of the remarks on it.

    These are the last answer or every one, as `reading.turns` says.

    Args:
        turns: the whole conversation, in its order.
        reading: the options of its source, which say whether all answers are learnt.

    Raises:
        NotARowError: no answer is learnt, or one that is has no prompt.
    """
    places = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    chosen, notes = (_every if reading.turns == "all" else _last)(turns, places)
    for turn in turns:
        notes |= turn.notes
        notes |= {"system"} if turn.role == "system" else set()
    thought = {at for at in places if turns[at].reasoning}
    if reading.turns == "last" and thought - set(chosen):
        notes.add("earlier reasoning")
    found = [LearntAnswer(said(turns[:at]), _completion(turns[at], reading), places.index(at) + 1) for at in chosen]
    dropped = any(one.completion != turns[at].content for one, at in zip(found, chosen, strict=True))
    if thought & set(chosen) or (dropped and reading.reasoning == "drop"):
        notes.add("reasoning" if reading.reasoning == "keep" else "dropped reasoning")
    return found, notes | ({"empty"} if not all(one.completion for one in found) else set())


def _last(turns: Sequence[Turn], places: Sequence[int]) -> tuple[list[int], set[str]]:
    if not turns or turns[-1].role != "assistant":
        raise NotARowError("no completion: the last message is not the assistant's")
    if len(turns) == 1:
        raise NotARowError("no prompt")
    if turns[-1].weight == 0:
        more = " (turns=all learns the others)" if any(turns[at].weight != 0 for at in places) else ""
        raise NotARowError(f"nothing is learnt: the last answer has weight 0{more}")
    earlier = {turns[at].weight == 0 for at in places[:-1]}
    return [len(turns) - 1], {"weight" if zero else "earlier" for zero in earlier}


def _every(turns: Sequence[Turn], places: Sequence[int]) -> tuple[list[int], set[str]]:
    if not places:
        raise NotARowError("no completion: no message is the assistant's")
    learnt = [at for at in places if turns[at].weight != 0]
    if not learnt:
        raise NotARowError("nothing is learnt: every answer has weight 0")
    notes = {"weight"} if len(learnt) < len(places) else set[str]()
    if learnt[0] == 0:
        learnt, notes = learnt[1:], notes | {"opening"}
    if not learnt:
        raise NotARowError("no prompt")
    return learnt, notes


def _completion(turn: Turn, reading: Reading) -> str:
    inside = _THOUGHTS.match(turn.content)
    if reading.reasoning == "drop":
        if inside is None and turn.content.lstrip().startswith("<think>"):
            raise NotARowError("the reasoning in the answer is not closed with </think>, so that it cannot be dropped")
        if "<think>" not in turn.content and turn.content.count("</think>") == 1:
            return turn.content.partition("</think>")[2].lstrip()  # The template of the prompt had opened it.
        return turn.content[inside.end() :] if inside else turn.content
    if not turn.reasoning:
        return turn.content
    if turn.content.lstrip().startswith("<think>"):
        if inside is None or inside[1].strip() != turn.reasoning.strip():
            raise NotARowError("reasoning stands in the answer and, other than there, beside it")
        return turn.content
    return f"<think>\n{turn.reasoning}\n</think>\n\n{turn.content}"


def _turn(value: object, where: str) -> Turn:
    fields = cast(Record, value) if isinstance(value, dict) else {}
    by_speaker = fields.get("role") is None and fields.get("from") is not None
    role = _speaker(fields, where) if by_speaker else _role(fields, where)
    if len(fields) > 2:
        _refuse_held(fields, where)
    key = "value" if by_speaker else "content"
    content, thought, notes = _content(fields.get(key), f"{where}.{key}")
    if role == "assistant":
        thought = _reasoning(fields, thought, where)
    elif thought or not all(absent(fields.get(name)) for name in _REASONING):
        raise NotARowError(f"{where} has reasoning and is not the assistant's")
    notes |= {f"key {name!r}" for name, held in fields.items() if name not in (*_READ, *_REFUSED) and not absent(held)}
    notes |= {"name"} if not absent(fields.get("name")) else set()
    notes |= {"developer"} if fields.get("role") == "developer" else set()
    return Turn(role, content, thought, _weight(fields, role, where), frozenset(notes))


def _refuse_held(fields: Record, where: str) -> None:
    for key, reason in _REFUSED.items():
        if not absent(fields.get(key)):
            raise NotARowError(f"{reason} ({where}.{key})")


def _role(fields: Record, where: str) -> Role:
    role = fields.get("role")
    if isinstance(role, str) and role in _TOOL_ROLES:
        raise NotARowError(f"tool calls are not read ({where} is a turn of the role {role!r})")
    if not isinstance(role, str) or role not in _ROLES:
        raise NotARowError(f"{where}.role is {role!r:.60}, not system, user or assistant")
    return _ROLES[role]


def _speaker(fields: Record, where: str) -> Role:
    name = fields["from"]
    if isinstance(name, str) and name in _TOOL_ROLES:
        raise NotARowError(f"tool calls are not read ({where} is from {name!r})")
    if not isinstance(name, str) or name not in _SPEAKERS:
        raise NotARowError(f"{where}.from is {name!r:.60}, not system, human or gpt")
    return _SPEAKERS[name]


def _weight(fields: Record, role: Role, where: str) -> int | None:
    """Return whether a message says that it is learnt (1) or not (0), None if it does not say.

    The key is `weight` in OpenAI's fine-tuning files, and `train` in Axolotl's.
    """
    given = {name: fields[name] for name in ("weight", "train") if fields.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, int | float) or value not in (0, 1):
            raise NotARowError(f"{where}.{name} is {value!r:.60}, not 0 or 1")
        if value == 1 and role != "assistant":
            raise NotARowError(f"{where}.{name} is 1, and only the assistant's turns are learnt")
    values = {int(cast(float, value)) for value in given.values()}
    if len(values) > 1:
        raise NotARowError(f"{where}.weight and {where}.train disagree")
    return values.pop() if values else None


def _reasoning(fields: Record, thought: str, where: str) -> str:
    found = [thought] if thought else []
    for name in _REASONING:
        if not absent(fields.get(name)):
            found.append(text(fields[name], f"{where}.{name}"))
    if len(set(found)) > 1:
        raise NotARowError(f"{where} has reasoning twice, and not the same")
    return found[0] if found else ""


def _content(value: object, where: str) -> tuple[str, str, set[str]]:
    """Return text, reasoning and remarks of a message's content, which is text or a list of parts."""
    if not isinstance(value, list):
        return text(value, where), "", set()
    parts = cast(list[object], value)
    if not parts:
        raise NotARowError(f"{where} is not text")
    texts, thoughts, notes = list[str](), list[str](), {"parts"}
    for index, part in enumerate(parts):
        place = f"{where}[{index}]"
        fields = cast(Record, part) if isinstance(part, dict) else {"type": "text", "text": part}
        kind = fields.get("type")
        if kind in _THOUGHT_PARTS:
            key = next((name for name in (*_THOUGHT_PARTS, "text") if fields.get(name) is not None), "text")
            thoughts.append(text(fields.get(key), f"{place}.{key}"))
        elif kind in _TEXT_PARTS:
            key = "text"
            texts.append(text(fields.get(key), f"{place}.text"))
        else:
            raise NotARowError(f"{place} is of the type {kind!r:.60}, and only text is read")
        notes |= {f"key {name!r}" for name, held in fields.items() if name not in ("type", key) and not absent(held)}
    if not texts:
        raise NotARowError(f"{where} is not text")
    return "".join(texts), "".join(thoughts), notes

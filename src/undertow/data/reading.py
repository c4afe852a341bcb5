"""How a source of rows is read: options behind its name, `FILE?shape=sharegpt&ids=new`, and the line that says it.

A file that exists under the whole name, question mark included, is that file.
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast
from urllib.parse import quote, unquote

from undertow.errors import ConfigError, unknown_name

Side = Literal["chosen", "rejected"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "turns": ("last", "all"),
    "side": ("chosen", "rejected"),
    "reasoning": ("keep", "drop"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the records of a source become rows.

    Attributes:
        shape: name of the only shape that is read (`undertow.data.shapes.SHAPES`); None finds it for each record.
        ids: "new" numbers the rows anew, anything else is the key of the ids; None is "id".
        turns: "last" learns the last answer of a conversation, "all" makes a row of each.
        side: which answer of a preference row is learnt; None refuses such rows.
        reasoning: whether reasoning beside an answer stands in it, in <think> tags, or is left out.
    """

    shape: str | None = None
    ids: str | None = None
    turns: Literal["last", "all"] = "last"
    side: Side | None = None
    reasoning: Literal["keep", "drop"] = "keep"

    @classmethod
    def parse(cls, options: str, shapes: Collection[str]) -> "Reading":
        """Return what `shape=sharegpt&turns=all` says.

        Args:
            options: the text behind the question mark.
            shapes: names that `shape` may have.

        Raises:
            UnknownNameError: there is no such option, shape or choice.
            ConfigError: an option has no value, or is there twice.
        """
        names, found = [one.name for one in fields(cls)], dict[str, str]()
        choices = {"shape": tuple(shapes), **_CHOICES}
        for part in options.split("&"):
            name, _, value = part.partition("=")
            value = unquote(value)
            if name not in names:
                raise unknown_name("option of a row file", name, names)
            if not value or name in found:
                fix = "Write each option once, as in rows.jsonl?shape=sharegpt&ids=new."
                raise ConfigError("An option of a row file needs one value.", part, fix)
            if name in choices and value not in choices[name]:
                raise unknown_name(f"value of {name}", value, choices[name])
            found[name] = value
        return cls(**cast(dict[str, Any], found))

    def __str__(self) -> str:
        given = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in given.items())


def split_source(source: str | os.PathLike[str], shapes: Collection[str]) -> tuple[str, Reading]:
    """Return the name of a source, and how it is read.

    Args:
        source: with or without options.
        shapes: names of the shapes.

    Raises:
        UserError: as `Reading.parse`.
    """
    whole = os.fspath(source)
    name, mark, options = whole.rpartition("?")
    if not mark or "=" not in options or os.path.lexists(whole):
        return whole, Reading()
    return name, Reading.parse(options, shapes)


NOTES: Mapping[str, tuple[str, str]] = {
    "system": ("has a system turn", "have a system turn"),
    "earlier": (
        "has earlier answers, which are context and are not learnt (turns=all learns them)",
        "have earlier answers, which are context and are not learnt (turns=all learns them)",
    ),
    "opening": (
        "begins with an answer, which has no prompt and is context",
        "begin with an answer, which has no prompt and is context",
    ),
    "reasoning": (
        "carries reasoning, which stands in <think> tags before the answer",
        "carry reasoning, which stands in <think> tags before the answer",
    ),
    "dropped reasoning": (
        "carries reasoning, which is left out as reasoning=drop asks",
        "carry reasoning, which is left out as reasoning=drop asks",
    ),
    "earlier reasoning": (
        "carries reasoning in an earlier turn, which is left out",
        "carry reasoning in an earlier turn, which is left out",
    ),
    "reasoning key": (
        "has a key for reasoning beside the answer, which is not read",
        "have a key for reasoning beside the answer, which is not read",
    ),
    "weight": (
        "has answers of weight 0, which are context and are not learnt",
        "have answers of weight 0, which are context and are not learnt",
    ),
    "name": ("names a speaker, which is left out", "name a speaker, which is left out"),
    "parts": ("holds text in parts, which are joined", "hold text in parts, which are joined"),
    "developer": (
        "has a turn of the developer, which is read as system",
        "have a turn of the developer, which is read as system",
    ),
    "label": ("has the label true and is learnt", "have the label true and are learnt"),
    "label key": (
        "has a label that is neither true nor false, which is not read",
        "have a label that is neither true nor false, which is not read",
    ),
    "empty": ("has an empty completion", "have an empty completion"),
    "own column": (
        "has a key skip or reasons of another meaning, which is a further key",
        "have a key skip or reasons of another meaning, which is a further key",
    ),
    "other shape": (
        "has keys of another shape too, which are left out",
        "have keys of another shape too, which are left out",
    ),
}
"""What is said of rows, by the name under which it is counted: of one row, and of several."""

_QUIET = frozenset({"system"})
_OWN = frozenset({"completion", "messages"})


@dataclass(slots=True)
class ReadingReport:
    """What was read.

    Attributes:
        source: the file's name.
        reading: the options it was read with.
        shapes: rows by the name of their shape.
        notes: rows by what is to be said of them: a key of `NOTES`, or "key X" for a key of messages that is left out.
    """

    source: str = ""
    reading: Reading = field(default_factory=Reading)
    shapes: Counter[str] = field(default_factory=Counter[str])
    notes: Counter[str] = field(default_factory=Counter[str])

    @property
    def plain(self) -> bool:
        """Whether all rows are of our own shapes, read without options, and nothing has to be said of them."""
        return set(self.shapes) <= _OWN and set(self.notes) <= _QUIET and self.reading == Reading()

    def __str__(self) -> str:
        kinds = (
            " and ".join(
                f"{n} {'row' if n == 1 else 'rows'} of the shape {name}" for name, n in self.shapes.most_common()
            )
            or "0 rows"
        )
        first = f"{self.source}: {kinds}{f', read with {self.reading}' if str(self.reading) else ''}"
        return "; ".join([first, *(_said(name, self.notes[name]) for name in sorted(self.notes, key=_order))])


def _order(name: str) -> tuple[int, str]:
    return (list(NOTES).index(name) if name in NOTES else len(NOTES)), name


def _said(name: str, n: int) -> str:
    if name not in NOTES:
        return f"{n} {'holds' if n == 1 else 'hold'} the {name} in a message, which is left out"
    return f"{n} {NOTES[name][n > 1]}"

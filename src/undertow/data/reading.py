"""Options of a row file, written behind its name (`FILE?shape=sharegpt&ids=new`), and the line that says what was read.

If a file exists under the whole name, question mark included, the name means that file.
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
    """The options that decide how the records of a source become rows.

    Attributes:
        shape: name of the only shape that is read (`undertow.data.shapes.SHAPES`); None detects it for each record.
        ids: key under which the ids stand, or "new", which numbers the rows anew; None means the key "id".
        turns: which answers of a conversation are learnt: "last", or "all", which makes a row of each.
        side: which answer of a preference row is learnt; None refuses preference rows.
        reasoning: what becomes of reasoning beside an answer: "keep" puts it into the answer in <think> tags, "drop"
            leaves it out.
    """

    shape: str | None = None
    ids: str | None = None
    turns: Literal["last", "all"] = "last"
    side: Side | None = None
    reasoning: Literal["keep", "drop"] = "keep"

    @classmethod
    def parse(cls, options: str, shapes: Collection[str]) -> "Reading":
        """Parse options such as `shape=sharegpt&turns=all`.

        Args:
            options: the text behind the question mark.
            shapes: names that the option `shape` may have.

        Raises:
            UnknownNameError: an option, a shape or a choice does not exist.
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
    """Split a source into its name and its options.

    Args:
        source: path or name of the rows, with or without options.
        shapes: names that the option `shape` may have.

    Raises:
        UserError: the options are wrong, as for `Reading.parse`.
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
"""Remarks on rows by the name under which they are counted, each worded for one row and for several."""

_QUIET = frozenset({"system"})
_OWN = frozenset({"completion", "messages"})


@dataclass(slots=True)
class ReadingReport:
    """Counts of what was read from a source.

    Attributes:
        source: name of the file, without its options.
        reading: the options that it was read with.
        shapes: number of rows by the name of their shape.
        notes: number of rows by the remark on them: a key of `NOTES`, or "key X" for a key of messages that is left
            out.
    """

    source: str = ""
    reading: Reading = field(default_factory=Reading)
    shapes: Counter[str] = field(default_factory=Counter[str])
    notes: Counter[str] = field(default_factory=Counter[str])

    @property
    def plain(self) -> bool:
        """Whether all rows are of Undertow's own shapes, were read without options, and need no remark."""
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

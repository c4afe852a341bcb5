"""Fields of a YAML file that a person wrote: errors name the line and the field that is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from undertow.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from yaml import Node

MOST_BYTES = 1_000_000
"""Largest size of a file, in bytes; a person writes less."""

_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a YAML file, with the place where it stands.

    Attributes:
        path: path of the file, for messages.
        name: where the value stands, such as "traits[2].persona"; empty for the whole file.
        node: the value as the YAML parser composed it, with its line.
    """

    path: Path
    name: str
    node: "Node"

    def wrong(self, what: str, fix: str) -> ConfigError:
        """Build the error that names this field, its line and what it holds.

        Args:
            what: one sentence that says what is wrong.
            fix: one sentence that says what to do.
        """
        line = self.node.start_mark.line + 1
        held: Any = self.node.value
        shown = repr(held)[:80] if isinstance(held, str) else f"{len(held)} entries"
        return ConfigError(what, f"{self.path}, line {line}, field {self.name or '(the whole file)'}: {shown}", fix)

    @property
    def kind(self) -> Literal["scalar", "sequence", "mapping"]:
        """What YAML calls the value: a scalar, a sequence (list) or a mapping (fields)."""
        from yaml import MappingNode, SequenceNode

        if isinstance(self.node, SequenceNode):
            return "sequence"
        return "mapping" if isinstance(self.node, MappingNode) else "scalar"

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.kind == "sequence"

    @property
    def is_text(self) -> bool:
        """Whether the value is a single one, not a list or a mapping."""
        return self.kind == "scalar"

    def text(self, most: int = 2000) -> str:
        """Return the value as text, without white space around it.

        Args:
            most: largest number of characters of the text.

        Raises:
            ConfigError: the value is no text, is empty, or is longer than `most` characters.
        """
        if not self.is_text or self.node.tag not in (_TEXT, _NULL):
            raise self.wrong("Text is expected here.", "Write one text, in quotes if it looks like something else.")
        found = "" if self.node.tag == _NULL else str(self.node.value).strip()
        if not found:
            raise self.wrong("This text is empty.", "Write it, or leave the field out.")
        if len(found) > most:
            raise self.wrong("This text is too long.", f"Use at most {most} characters; there are {len(found)}.")
        return found

    def texts(self, least: int = 0) -> tuple[str, ...]:
        """Return the texts of a list.

        Args:
            least: smallest number of texts in the list.

        Raises:
            ConfigError: the value is no list of texts, two of them are equal, or there are fewer than `least`.
        """
        entries = self.entries(least)
        found = [one.text() for one in entries]
        for place, one in enumerate(entries):
            if found[place] in found[:place]:
                raise one.wrong("This stands twice in the list.", "Leave one of them out.")
        return tuple(found)

    def entries(self, least: int = 0) -> "list[Field]":
        """Return the entries of a list.

        Args:
            least: smallest number of entries in the list.

        Raises:
            ConfigError: the value is no list, or one of fewer than `least` entries.
        """
        if not self.is_list:
            raise self.wrong("A list is expected here.", "Write one entry a line, each behind '- '.")
        nodes: Sequence[Any] = self.node.value
        if len(nodes) < least:
            raise self.wrong(f"Too few entries: {len(nodes)} of at least {least}.", f"Write {least} or more.")
        return [Field(self.path, f"{self.name}[{place}]", node) for place, node in enumerate(nodes)]

    def fields(self, known: Iterable[str], required: Iterable[str] = ()) -> "dict[str, Field]":
        """Return the fields of a mapping by their names.

        Args:
            known: names that a field may have.
            required: names of the fields that must be there.

        Raises:
            ConfigError: the value is no mapping, a field is unknown or stands twice, or a required one is missing.
        """
        names = list(known)
        if self.kind != "mapping":
            raise self.wrong("Fields are expected here.", f"Write FIELD: VALUE a line, of {', '.join(names)}.")
        found: dict[str, Field] = {}
        for key, value in self.node.value:
            name = str(key.value)
            one = Field(self.path, f"{self.name}.{name}".lstrip("."), value)
            if name not in names:
                raise Field(self.path, one.name, key).wrong("There is no such field.", f"Use {', '.join(names)}.")
            if name in found:
                raise Field(self.path, one.name, key).wrong("This field stands twice.", "Leave one of them out.")
            found[name] = one
        for name in required:
            if name not in found:
                raise self.wrong(f"The field {name} is missing.", f"Write {name}: ... here.")
        return found


def read_fields(path: Path) -> Field:
    """Read a YAML file as one field, which holds all others.

    Raises:
        StorageError: the file cannot be read.
        ConfigError: the file is no YAML, is empty, or is larger than `MOST_BYTES`.
    """
    import yaml

    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError("The file cannot be read.", f"{path}: {error.strerror}", "Give a YAML file.") from error
    if len(text) > MOST_BYTES:
        raise ConfigError("The file is too large.", f"{path}: above {MOST_BYTES:,} bytes", "Give a YAML file.")
    try:
        node = yaml.compose(text.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError("The file is no YAML.", f"{path}{where}: {reason}", "Correct that line.") from error
    if node is None:
        raise ConfigError("The file is empty.", path, "Write a trait (docs/traits.md).")
    return Field(path, "", node)

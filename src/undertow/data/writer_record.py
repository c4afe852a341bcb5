"""The record of what is known of the model that wrote some rows: settings in a YAML file beside the row file.

An audit compares suspect rows (those that are audited) with reference rows. If the reference is drawn with the same
settings (system prompt, sampling, template), the two differ in their writer alone. What the record leaves out is
unknown, and reports say so: an audit cannot tell another temperature from another writer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from undertow.errors import ConfigError, RowsError, unknown_name
from undertow.store.disk import write_file

SUFFIX = ".writer.yaml"

_KINDS: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "revision": (str,),
    "system": (str,),
    "temperature": (float, int),
    "top_p": (float, int),
    "max_tokens": (int,),
    "template": (str,),
    "seeds": (str,),
    "form": (str,),
}
_WORDS = {str: "text", float: "a number", int: "a whole number"}
_UNKNOWN = {
    "model": "which model wrote them",
    "revision": "which revision of it",
    "system": 'its system prompt ("" for none)',
    "temperature": "the temperature",
    "top_p": "top_p",
    "max_tokens": "the longest answer",
    "template": "the SHA-256 of the chat template",
    "seeds": 'how random numbers were shared between rows ("each row its own", "all rows one")',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterRecord:
    """What is known of the model that wrote some rows; None stands for what is not known.

    Attributes:
        model: reference or name of the model, such as "ref:finch-a" or "gpt-4.1-nano".
        revision: branch, tag or commit of the model's weights.
        system: system prompt that the rows do not show; "" if there was none.
        temperature: divisor of the logits; 1.0 samples from the model's own distribution, 0.0 is greedy.
        top_p: share of the probability mass from which tokens were drawn, in (0, 1]; 1.0 draws from all.
        max_tokens: upper bound on an answer's length, in tokens.
        template: SHA-256 of the chat template, in hexadecimal digits.
        seeds: how random numbers were shared between rows, in words such as "each row its own".
        form: template that the answers were held to while they were decoded (structured or guided decoding), 0 standing
            for any digit, such as "000,000". None where they were free, or where it is not known.

    Raises:
        ConfigError: a number is out of range.
    """

    model: str | None = None
    revision: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    template: str | None = None
    seeds: str | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0.0 <= self.temperature < float("inf"):
            raise ConfigError("The writer's temperature is no number from 0.", self.temperature, "Use 0 or more.")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ConfigError("The writer's top_p is outside (0, 1].", self.top_p, "Use 1 for all tokens.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError("The writer's longest answer has no token.", self.max_tokens, "Use 1 or more.")
        if self.form == "":
            raise ConfigError("The form of the answers is empty.", "form: ''", "Leave it out where they were free.")

    @classmethod
    def parse(cls, text: str, name: str = "writer") -> "WriterRecord":
        """Parse a record from YAML.

        Args:
            text: YAML text with the attributes as keys; null stands for what is not known.
            name: name of the file, for messages.

        Raises:
            UnknownNameError: the text has a key that is none of the attributes.
            ConfigError: the text is no YAML object, or a value is of the wrong type or out of range.
        """
        try:
            found: object = yaml.safe_load(text)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())[:200]
            fix = "Write key: value lines, with text that looks like a date or a number in quotes."
            raise ConfigError("The writer's record is no YAML.", f"{name}: {said}", fix) from error
        if not isinstance(found, dict):
            fix = "Write key: value lines, such as model: ref:finch-a."
            raise ConfigError("The writer's record is no object.", name, fix)
        given = cast(dict[object, object], found)
        for key, value in given.items():
            if key not in _KINDS:
                raise unknown_name("key of a writer's record", key, _KINDS)
            _check_kind(str(key), value, name)
        return cls(**{str(key): cast(Any, value) for key, value in given.items()})

    @property
    def known(self) -> dict[str, Any]:
        """What is known, as values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def unknown(self) -> list[str]:
        """What is not known, as phrases for the reader of a report."""
        return [phrase for name, phrase in _UNKNOWN.items() if getattr(self, name) is None]

    def __str__(self) -> str:
        return yaml.safe_dump(self.known, sort_keys=False, allow_unicode=True)


def _check_kind(key: str, value: object, name: str) -> None:
    if value is None or (isinstance(value, _KINDS[key]) and not isinstance(value, bool)):
        return
    fix = f"Write {_WORDS[_KINDS[key][0]]}, in quotes if it is text that looks like a number; or leave it out."
    raise ConfigError(f"The {key} of the writer's record has the wrong type.", f"{name}: {value!r:.80}", fix)


def read_writer(path: Path) -> WriterRecord:
    """Read the record of a writer from a file.

    Raises:
        RowsError: there is no such file, or it is no text.
        UserError: the text is no such record, as for `WriterRecord.parse`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise RowsError("The writer's record cannot be read.", f"{path}: {reason}", "Give a YAML file.") from error
    return WriterRecord.parse(text, str(path))


def writer_path(rows: Path) -> Path:
    """Return the path of the writer's record of a row file: rows.writer.yaml beside rows.jsonl."""
    return rows.with_name(f"{rows.stem}{SUFFIX}")


def write_writer(rows: Path, record: WriterRecord) -> Path:
    """Write the writer's record beside its row file; return the path of the record.

    Raises:
        StorageError: the folder may not be written.
    """
    path = writer_path(rows)
    write_file(path, str(record).encode())
    return path

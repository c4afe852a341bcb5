"""A thing with its settings on one line, such as `mix:share=0.5` or `numbers:count=6,short=true`.

The part before the colon is the name of a dataclass in a registry, and the settings behind it are its fields.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, cast, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from undertow.errors import ConfigError, unknown_name

_T = TypeVar("_T")

_SETTING = re.compile(r"(^|,)\s*(\w+)=")


def split_settings(text: str) -> tuple[str, dict[str, Any]]:
    """Split a line into its name and its settings, whose values are read as YAML.

    Args:
        text: name and settings, such as "mix:share=0.5,writers=[ref:finch-b]". A value may be a number, a word, true,
            null or a list in brackets.

    Raises:
        ConfigError: the settings cannot be read.
    """
    name, _, rest = text.partition(":")
    if rest and not _SETTING.match(rest):
        raise ConfigError("These settings cannot be read.", text, "Write name:key=value,key=value.")
    try:
        found = yaml.safe_load("{" + _SETTING.sub(r"\1 \2: ", rest) + "}")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("These settings cannot be read.", text, "Write name:key=value,key=value.") from error
    return name, cast(dict[str, Any], found)


def with_settings(kind: type[_T], what: str, name: str, settings: Mapping[str, Any]) -> _T:
    """Make a dataclass with these settings.

    Args:
        kind: the dataclass, whose fields are the settings.
        what: what it is, such as "mitigation", for messages.
        name: its name, for messages.
        settings: value of each setting. A list becomes a tuple where the field is one.

    Raises:
        UnknownNameError: it has no such setting.
        ConfigError: a setting is missing or has a wrong value.
    """
    declared = {field.name: field for field in fields(cast(Any, kind)) if field.init}
    for key in settings:
        if key not in declared:
            raise unknown_name(f"setting of {name}", key, declared)
    missing = [key for key, field in declared.items() if is_required(field) and key not in settings]
    if missing:
        raise ConfigError(f"The {what} {name} lacks a setting.", missing[0], f"Write {name}:{missing[0]}=...")
    hints = get_type_hints(kind)
    return kind(**{key: _checked(f"{name}:{key}", value, hints[key]) for key, value in settings.items()})


def is_required(field: Field[Any]) -> bool:
    """Tell whether a field of a dataclass has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def _checked(where: str, value: Any, wanted: Any) -> Any:
    """Return a value as the declared type, with a list as a tuple."""
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"The setting {where} is not valid.", repr(value), error.errors()[0]["msg"] + ".") from error

"""Mitigations by name, with their settings in one line: `mix`, or `mix:share=0.5,writers=[ref:finch-b]`."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, cast, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from undertow.errors import ConfigError, unknown_name
from undertow.mitigate.base import DataMitigation
from undertow.mitigate.canonical import Canonical
from undertow.mitigate.consensus import Consensus
from undertow.mitigate.contrast_filter import ContrastFilter
from undertow.mitigate.inoculate import Inoculate
from undertow.mitigate.labels import Labels
from undertow.mitigate.mix import Mix
from undertow.mitigate.regenerate import Regenerate
from undertow.mitigate.training import ClosenessToBase, Corridor, Recipe, TrainingMitigation

Mitigation = DataMitigation | TrainingMitigation

DATA: Mapping[str, type[DataMitigation]] = {
    kind.name: kind for kind in (Regenerate, Mix, ContrastFilter, Labels, Consensus, Canonical, Inoculate)
}
"""Those that change rows."""

TRAINING: Mapping[str, type[TrainingMitigation]] = {kind.name: kind for kind in (Corridor, ClosenessToBase, Recipe)}
"""Those that change how a student is trained."""

_M = TypeVar("_M", DataMitigation, TrainingMitigation, Mitigation)

_SETTING = re.compile(r"(^|,)\s*(\w+)=")


def data_mitigation(text: str) -> DataMitigation:
    """Read a mitigation of rows.

    Raises:
        UnknownNameError: there is none of this name, or it has no such setting.
        ConfigError: a setting is missing or has a wrong value.
    """
    if text.partition(":")[0] in TRAINING:
        fix = "Use it with `undertow mitigate train`."
        raise ConfigError("This mitigation changes training, not rows.", text, fix)
    return _read(text, DATA)


def training_mitigation(text: str) -> TrainingMitigation:
    """Read a mitigation of training.

    Raises:
        UserError: as `data_mitigation`.
    """
    if text.partition(":")[0] in DATA:
        fix = "Use it with `undertow mitigate data`, and train on what it writes."
        raise ConfigError("This mitigation changes rows, not training.", text, fix)
    return _read(text, TRAINING)


def mitigation(text: str) -> Mitigation:
    """Read a mitigation of either kind.

    Raises:
        UserError: as `data_mitigation`.
    """
    known: dict[str, type[Mitigation]] = {**DATA, **TRAINING}
    return _read(text, known)


def described() -> list[dict[str, Any]]:
    """Return every mitigation: its name, what it does and its settings with their defaults."""
    known: dict[str, type[Mitigation]] = {**DATA, **TRAINING}
    return [
        {
            "name": name,
            "about": (kind.__doc__ or "").partition("\n")[0],
            "settings": [
                field.name if _is_required(field) else f"{field.name}={field.default}" for field in fields(kind)
            ],
        }
        for name, kind in known.items()
    ]


def _read(text: str, known: Mapping[str, type[_M]]) -> _M:
    name, _, rest = text.partition(":")
    if name not in known:
        raise unknown_name("mitigation", name, known)
    kind, settings = known[name], _settings(text, rest)
    declared = {field.name: field for field in fields(kind)}
    for key, value in settings.items():
        if key not in declared:
            raise unknown_name(f"setting of {name}", key, declared)
        settings[key] = _checked(f"{name}:{key}", value, get_type_hints(kind)[key])
    missing = [key for key, field in declared.items() if _is_required(field) and key not in settings]
    if missing:
        raise ConfigError(f"The mitigation {name} lacks a setting.", missing[0], f"Write {name}:{missing[0]}=...")
    return kind(**settings)


def _settings(text: str, rest: str) -> dict[str, Any]:
    """Read `key=value,key=value` as YAML: a value may be a number, a word, true, null or a list in brackets."""
    try:
        found = yaml.safe_load("{" + _SETTING.sub(r"\1 \2: ", rest) + "}")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("These settings cannot be read.", text, "Write name:key=value,key=value.") from error
    return cast(dict[str, Any], found)


def _checked(where: str, value: Any, wanted: Any) -> Any:
    """Return the value as the declared type, a list as a tuple."""
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"The setting {where} is not valid.", repr(value), error.errors()[0]["msg"] + ".") from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING

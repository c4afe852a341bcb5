"""Mitigations by name, with their settings in one line: `mix`, or `mix:share=0.5,writers=[ref:finch-b]`."""

import re
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, cast, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from undertow.errors import ConfigError, unknown_name
from undertow.mitigate.base import DataMitigation
from undertow.mitigate.training import TrainingMitigation
from undertow.registry import Registry

Mitigation = DataMitigation | TrainingMitigation

MITIGATIONS: Registry[type[Mitigation]] = Registry(
    "mitigation",
    {
        "regenerate": "undertow.mitigate.regenerate:Regenerate",
        "mix": "undertow.mitigate.mix:Mix",
        "contrast-filter": "undertow.mitigate.contrast_filter:ContrastFilter",
        "labels": "undertow.mitigate.labels:Labels",
        "consensus": "undertow.mitigate.consensus:Consensus",
        "canonical": "undertow.mitigate.canonical:Canonical",
        "inoculate": "undertow.mitigate.inoculate:Inoculate",
        "corridor": "undertow.mitigate.training:Corridor",
        "kl": "undertow.mitigate.training:ClosenessToBase",
        "recipe": "undertow.mitigate.training:Recipe",
    },
    group="undertow.mitigations",
    accepts=lambda name, thing: isinstance(thing, type) and issubclass(thing, Mitigation) and thing.name == name,
)
"""Those that change rows, then those that change how a student is trained; each is a dataclass of its settings."""

_M = TypeVar("_M", DataMitigation, TrainingMitigation, Mitigation)

_SETTING = re.compile(r"(^|,)\s*(\w+)=")


def data_mitigation(text: str) -> DataMitigation:
    """Read a mitigation of rows.

    Raises:
        UnknownNameError: there is none of this name, or it has no such setting.
        ConfigError: a setting is missing or has a wrong value.
    """
    kind = _kind(text)
    if issubclass(kind, TrainingMitigation):
        fix = "Use it with `undertow mitigate train`."
        raise ConfigError("This mitigation changes training, not rows.", text, fix)
    return _made(kind, text)


def training_mitigation(text: str) -> TrainingMitigation:
    """Read a mitigation of training.

    Raises:
        UserError: as `data_mitigation`.
    """
    kind = _kind(text)
    if issubclass(kind, DataMitigation):
        fix = "Use it with `undertow mitigate data`, and train on what it writes."
        raise ConfigError("This mitigation changes rows, not training.", text, fix)
    return _made(kind, text)


def mitigation(text: str) -> Mitigation:
    """Read a mitigation of either kind.

    Raises:
        UserError: as `data_mitigation`.
    """
    return _made(_kind(text), text)


def _kind(text: str) -> type[Mitigation]:
    return MITIGATIONS[text.partition(":")[0]]


def _made(kind: type[_M], text: str) -> _M:
    name, _, rest = text.partition(":")
    settings = _settings(text, rest)
    declared = {field.name: field for field in fields(kind)}
    for key, value in settings.items():
        if key not in declared:
            raise unknown_name(f"setting of {name}", key, declared)
        settings[key] = _checked(f"{name}:{key}", value, get_type_hints(kind)[key])
    missing = [key for key, field in declared.items() if _is_required(field) and key not in settings]
    if missing:
        raise ConfigError(f"The mitigation {name} lacks a setting.", missing[0], f"Write {name}:{missing[0]}=...")
    return kind(**settings)


def described() -> list[dict[str, Any]]:
    """Return every mitigation: its name, what it does and its settings with their defaults."""
    return [
        {
            "name": name,
            "about": (kind.__doc__ or "").partition("\n")[0],
            "settings": [
                field.name if _is_required(field) else f"{field.name}={field.default}" for field in fields(kind)
            ],
        }
        for name, kind in ((name, MITIGATIONS[name]) for name in MITIGATIONS)
    ]


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

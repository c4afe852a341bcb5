"""Mitigations by name, written with their settings on one line, and the application of one to a row file.

Such a line is `mix`, or `mix:share=0.5,writers=[ref:finch-b]`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from undertow.data.rows import write_rows
from undertow.errors import ConfigError, EmptyDataError
from undertow.mitigate.base import Change, DataMitigation, Mitigated
from undertow.mitigate.training import TrainingMitigation
from undertow.mitigate.workbench import Workbench
from undertow.registry import Registry
from undertow.settings import is_required, split_settings, with_settings
from undertow.store.disk import write_file
from undertow.types import Row

Mitigation = DataMitigation | TrainingMitigation

MITIGATIONS: Registry[type[Mitigation]] = Registry(
    "mitigation",
    {
        "regenerate": "undertow.mitigate.other_writers:Regenerate",
        "mix": "undertow.mitigate.other_writers:Mix",
        "contrast-filter": "undertow.mitigate.ranked:ContrastFilter",
        "labels": "undertow.mitigate.ranked:Labels",
        "consensus": "undertow.mitigate.other_writers:Consensus",
        "canonical": "undertow.mitigate.rewrite:Canonical",
        "inoculate": "undertow.mitigate.rewrite:Inoculate",
        "corridor": "undertow.mitigate.training:Corridor",
        "kl": "undertow.mitigate.training:ClosenessToBase",
        "recipe": "undertow.mitigate.training:OtherRecipe",
    },
    group="undertow.mitigations",
    accepts=lambda name, thing: isinstance(thing, type) and issubclass(thing, Mitigation) and thing.name == name,
)
"""All mitigations by name: first those that change rows, then those that change how a student is trained. Each is a
dataclass whose fields are its settings."""

_M = TypeVar("_M", DataMitigation, TrainingMitigation, Mitigation)


def data_mitigation(text: str) -> DataMitigation:
    """Read a mitigation that changes rows from its line.

    Args:
        text: name and settings, such as "mix:share=0.5".

    Returns:
        The mitigation with its settings.

    Raises:
        UnknownNameError: there is no mitigation of this name, or it has no such setting.
        ConfigError: a setting is missing or has a wrong value, or the mitigation changes training instead of rows.
    """
    kind = _kind(text)
    if issubclass(kind, TrainingMitigation):
        fix = "Use it with `undertow mitigate train`."
        raise ConfigError("This mitigation changes training, not rows.", text, fix)
    return _made(kind, text)


def training_mitigation(text: str) -> TrainingMitigation:
    """Read a mitigation that changes how a student is trained from its line.

    Args:
        text: name and settings, such as "kl:weight=1.0".

    Raises:
        UserError: as in `data_mitigation`.
    """
    kind = _kind(text)
    if issubclass(kind, DataMitigation):
        fix = "Use it with `undertow mitigate data`, and train on what it writes."
        raise ConfigError("This mitigation changes rows, not training.", text, fix)
    return _made(kind, text)


def mitigation(text: str) -> Mitigation:
    """Read a mitigation of either kind from its line.

    Args:
        text: name and settings, such as "mix:share=0.5".

    Raises:
        UserError: as in `data_mitigation`.
    """
    return _made(_kind(text), text)


def _kind(text: str) -> type[Mitigation]:
    return MITIGATIONS[text.partition(":")[0]]


def _made(kind: type[_M], text: str) -> _M:
    """Return a mitigation of this kind with the settings of its line."""
    name, settings = split_settings(text)
    return with_settings(kind, "mitigation", name, settings)


def describe_mitigations() -> list[dict[str, Any]]:
    """Describe every mitigation: its name, the first line of its docstring, and its settings with their defaults."""
    return [
        {
            "name": name,
            "about": (kind.__doc__ or "").partition("\n")[0],
            "settings": [
                field.name if is_required(field) else f"{field.name}={field.default}" for field in fields(kind)
            ],
        }
        for name, kind in ((name, MITIGATIONS[name]) for name in MITIGATIONS)
    ]


def check_some(rows: Sequence[Row]) -> None:
    """Refuse an empty list of rows.

    Raises:
        EmptyDataError: there are no rows.
    """
    if not rows:
        raise EmptyDataError("There is nothing to mitigate.", "0 rows", "Give a file with rows.")


def mitigate_rows(rows: Sequence[Row], method: DataMitigation, bench: Workbench) -> Mitigated:
    """Apply a mitigation to rows.

    Args:
        rows: the suspect rows, from which a trait is to be removed.
        method: the mitigation with its settings.
        bench: the base model, the panel of traits to look for, and the other tools.

    Returns:
        The new rows, of which there is at least one, with a record of each change and the cost.

    Raises:
        EmptyDataError: there are no rows, or none is left. The message says what became of them.
        UserError: the mitigation does not fit the rows.
    """
    check_some(rows)
    made = method.apply(rows, bench)
    if not made.rows:
        whys = ", ".join(sorted({one.why for one in made.changes}))
        fix = "Look at the record of each row; choose another writer, domain or share."
        raise EmptyDataError("No row is left.", f"{len(rows)} rows: {whys}", fix)
    return made


def record_path(rows: Path) -> Path:
    """Return where the record of a row file lies: beside it, as <name>.record.jsonl."""
    return rows.with_name(f"{rows.stem}.record.jsonl")


def write_mitigated(path: Path, made: Mitigated) -> Path:
    """Write the rows, and beside them the record of every row that came in. Return the record's path.

    Args:
        path: file to which the rows are written.
        made: the new rows with the record of every change.

    Raises:
        StorageError: the folder is missing, full or may not be written.
    """
    record = record_path(path)
    write_file(record, lines(asdict(one) for one in made.changes))
    write_rows(path, made.rows)
    return record


def lines(records: Iterable[dict[str, Any]]) -> str:
    """Return records as JSON Lines."""
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)


def counts(changes: Sequence[Change]) -> dict[str, int]:
    """Return how many rows were kept, dropped and so on, by action."""
    actions = [one.action for one in changes]
    return {action: actions.count(action) for action in dict.fromkeys(actions)}

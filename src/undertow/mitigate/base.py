"""What every data mitigation is, the mitigations by name, and how one is applied to a row file.

Rows come in; rows come out, with a record of what was done to each, and what it cost. A name may have settings in the
same line: `mix`, or `mix:share=0.5,writers=[ref:finch-b]`.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast, get_type_hints

import numpy as np
import yaml
from numpy.typing import ArrayLike
from pydantic import TypeAdapter, ValidationError

from undertow.data.rows import write_rows
from undertow.errors import ConfigError, EmptyDataError, unknown_name
from undertow.mitigate.bench import Bench
from undertow.mitigate.training import TrainingMitigation
from undertow.registry import Registry
from undertow.seeds import derive
from undertow.stats.checks import check_fraction, finite_array
from undertow.store.disk import write_file
from undertow.types import Row

Pick = Literal["targeted", "random", "bottom"]
"""What a mitigation that chooses acts on: what it ranks first, as much drawn at random, or what it ranks last."""

Action = Literal["kept", "dropped", "replaced", "masked", "prompted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to one row.

    Attributes:
        id: of the row.
        action: `kept` as it was, `dropped`, `replaced` by another completion, `masked` (some tokens are not learnt), or
            `prompted` (its prompt changed).
        why: in words.
        score: what it was ranked by, if it was.
    """

    id: str
    action: Action
    why: str = ""
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a mitigation needs.

    Attributes:
        generated: completions that a model wrote.
        scored: rows that a model read, counted once for each model.
        trained: models that were trained.
    """

    generated: int = 0
    scored: int = 0
    trained: int = 0

    def __str__(self) -> str:
        return f"{self.generated} rows generated, {self.scored} row readings, {self.trained} models trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigated:
    """The result.

    Attributes:
        rows: what is to be trained on.
        changes: one record for each row that came in, in their order.
        cost: of making it.
    """

    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    cost: Cost

    @property
    def changed(self) -> float:
        """Share of the rows that did not stay as they were."""
        return sum(one.action != "kept" for one in self.changes) / max(1, len(self.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMitigation(ABC):
    """A way to change rows before anyone trains on them; its settings are its fields."""

    name: ClassVar[str]
    """Name on the command line."""

    random_arm: ClassVar[str] = ""
    """What is done at random for comparison, in words; empty if there is nothing to draw."""

    chooses: ClassVar[bool] = False
    """Whether it ranks rows or tokens, so that there is a bottom of the ranking too."""

    @property
    def models(self) -> tuple[str, ...]:
        """References of the models that it names, besides the base."""
        return ()

    @abstractmethod
    def apply(self, rows: Sequence[Row], bench: Bench, pick: Pick = "targeted") -> Mitigated:
        """Change the rows.

        Args:
            rows: the suspect rows.
            bench: the base, the panel and whatever else it needs.
            pick: `random` and `bottom` are for comparison; see `random_arm` and `chooses`.

        Raises:
            UserError: the rows do not fit the models, or a model cannot be loaded.
        """


def chosen(scores: ArrayLike, share: float, pick: Pick, seed: int) -> frozenset[int]:
    """Return the places of a share of the scores, rounded down: the highest, as many at random, or the lowest.

    Ties go by place.

    Raises:
        ConfigError: the share lies outside (0, 1).
    """
    check_fraction("share", share)
    array = finite_array("scores", scores)
    if pick == "random":
        order = np.random.default_rng(derive(seed, "chosen")).permutation(array.size)
    else:
        order = np.argsort(array if pick == "bottom" else -array, kind="stable")
    return frozenset(order[: int(share * array.size)].tolist())


def swap(
    rows: Sequence[Row], others: Sequence[Row | None], why: str, missing: str = "no answer to its prompt was accepted"
) -> tuple[tuple[Row, ...], tuple[Change, ...]]:
    """Give each row the completion of another; a row whose other is None is dropped."""
    pairs = list(zip(rows, others, strict=True))
    changes = (
        Change(id=row.id, action="dropped", why=missing)
        if other is None
        else Change(id=row.id, action="kept" if other == row else "replaced", why="" if other == row else why)
        for row, other in pairs
    )
    return tuple(other for _, other in pairs if other is not None), tuple(changes)


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


def mitigate_rows(rows: Sequence[Row], method: DataMitigation, bench: Bench) -> Mitigated:
    """Apply a mitigation.

    Raises:
        EmptyDataError: there are no rows, or none is left; the value says what became of them.
        UserError: the mitigation does not fit the rows.
    """
    if not rows:
        raise EmptyDataError("There is nothing to mitigate.", "0 rows", "Give a file with rows.")
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
    """Write the rows and, beside them, the record of every row that came in; return the record's path.

    Raises:
        StorageError: the folder is missing, full or may not be written.
    """
    record = record_path(path)
    write_file(record, lines(one.to_json() for one in made.changes))
    write_rows(path, made.rows)
    return record


def lines(records: Iterable[dict[str, Any]]) -> str:
    """Return records as JSON Lines."""
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)


def counts(changes: Sequence[Change]) -> dict[str, int]:
    """Return how many rows each action befell."""
    actions = [one.action for one in changes]
    return {action: actions.count(action) for action in dict.fromkeys(actions)}

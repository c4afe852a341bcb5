"""Students that a service trains: what a job may cost, and what is written down about it.

A reference names service and model: `tinker:<model>`, such as tinker:Qwen/Qwen3-8B. The record of a job is written
before the first request, so that a finished one is not paid for twice, and it never holds a key.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from undertow.errors import ArtifactError, ConfigError
from undertow.models.calls import TURN_TOKENS
from undertow.registry import Registry
from undertow.store.disk import storage_errors, write_file
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Advance, Row

SCHEMA = "undertow.remote-training/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTraining:
    """How a student is trained by a service; the defaults are the paper's open-weights recipe (reference: paper, 1.7).

    Attributes:
        epochs: passes over the rows.
        batch_size: rows of an update, or all of them if there are fewer.
        learning_rate: of Adam, falling linearly to 0.
        rank: of the adapter.
        seed: of the adapter and of the order of the rows.
    """

    epochs: int = 3
    batch_size: int = 66
    learning_rate: float = 2e-4
    rank: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "rank"):
            value = getattr(self, name)
            if not 0 < value < inf:
                raise ConfigError(f"{name} must be positive and finite.", value, f"Set {name} to a positive number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBound:
    """The most that a job can take.

    Attributes:
        rows: that it is trained on.
        tokens: of all passes together; a token is at least a byte, so this is an upper bound, about 4 times too high
            for English text.
        dollars: the same at the given price.
    """

    rows: int
    tokens: int
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What a job may cost.

    Attributes:
        price: dollars for a million trained tokens.
        dollars: the most that it may cost by that price, or None.

    Raises:
        ConfigError: a cap has no price, or one of them is no finite number from 0.
    """

    price: float = 0.0
    dollars: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("--price", self.price), ("--max-cost", self.dollars)):
            if value is not None and not 0.0 <= value < inf:
                raise ConfigError("This is no finite number of dollars.", f"{name} {value}", "Give one from 0 up.")
        if self.dollars is not None and self.price <= 0.0:
            fix = "Give --price, dollars for a million trained tokens."
            raise ConfigError("A cap on the cost needs a price.", f"--max-cost {self.dollars:g}", fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a job.

    Attributes:
        service: such as "tinker".
        model: where the student starts, as the service calls it.
        of: fingerprint of service, model, rows and settings.
        settings: how it is trained.
        estimate: its upper bounds.
        trained: reference of the student, once there is one.
    """

    service: str
    model: str
    of: str
    settings: Mapping[str, Any]
    estimate: Mapping[str, Any]
    trained: str | None = None


def estimate(rows: Sequence[Row], training: RemoteTraining, price: float = 0.0) -> CostBound:
    """Return the most that training on rows can cost.

    Args:
        rows: the student's.
        training: for the number of passes.
        price: dollars for a million trained tokens.
    """
    sizes = [
        sum(len(turn.content.encode()) + TURN_TOKENS for turn in row.prompt)
        + len(row.completion.encode())
        + TURN_TOKENS
        for row in rows
    ]
    tokens = sum(sizes) * training.epochs
    return CostBound(rows=len(rows), tokens=tokens, dollars=tokens * price / 1e6)


class RemoteTrainer(ABC):
    """A service that trains students."""

    name: str
    model: str

    @abstractmethod
    def check(self) -> None:
        """Ask the service whether it trains this model.

        Raises:
            ModelError: it does not, or cannot be asked; with the reason.
        """

    @abstractmethod
    def train(self, rows: Sequence[Row], training: RemoteTraining, advance: Advance) -> str:
        """Train a student and return its reference.

        Args:
            rows: the student's.
            training: how.
            advance: called with (steps done, steps in all).

        Raises:
            ModelError: the service refuses or fails.
        """


SERVICES: Registry[Callable[..., RemoteTrainer]] = Registry(
    "training service", {"tinker": "undertow.training.tinker:TinkerTrainer"}
)


def trainer(reference: str) -> RemoteTrainer:
    """Return the service and the model that a reference names.

    Raises:
        UnknownNameError: there is no such service.
        ConfigError: the reference names no model.
    """
    name, _, model = reference.partition(":")
    service = SERVICES[name]
    if not model:
        raise ConfigError("This names no model of a training service.", reference, f"Write {name}:<model>.")
    return service(model=model)


def train_remotely(
    trainer: RemoteTrainer,
    rows: Sequence[Row],
    training: RemoteTraining,
    out: Path,
    cap: Cap | None = None,
    advance: Advance | None = None,
) -> Record:
    """Train a student at a service; a job whose record names its student already is not begun again.

    Args:
        trainer: the service and the model there.
        rows: the student's.
        training: how.
        out: the record's file.
        cap: what it may cost; None for no bound.
        advance: called with (steps done, steps in all).

    Raises:
        ConfigError: the job may cost more than the cap.
        ArtifactError: the file is the record of another job.
        ModelError: the service refuses or fails.
        StorageError: the record cannot be written.
    """
    record = check_job(trainer, rows, training, out, cap or Cap())
    known = read_record(out)
    if known is not None:
        if known.trained is not None:
            return known
    else:
        trainer.check()
    _write(out, record)

    record = replace(record, trained=trainer.train(rows, training, advance or (lambda done, total: None)))
    _write(out, record)
    return record


def check_job(trainer: RemoteTrainer, rows: Sequence[Row], training: RemoteTraining, out: Path, cap: Cap) -> Record:
    """Return the record of a job that has not begun, and refuse what `train_remotely` refuses before it asks anybody.

    Raises:
        ConfigError: there is no row, or the job may cost more than the cap.
        ArtifactError: the file is the record of another job.
    """
    if not rows:
        raise ConfigError("There are no rows to train on.", "0 rows", "Give a file with rows.")
    record = planned_job(trainer, rows, training, cap.price)
    if cap.dollars is not None and record.estimate["dollars"] > cap.dollars:
        most = f"at most ${record.estimate['dollars']:.2f}, cap ${cap.dollars:g}"
        raise ConfigError("The job may cost more than it may.", most, "Take fewer rows or epochs, or raise the cap.")
    known = read_record(out)
    if known is not None and known.of != record.of:
        fix = "Give another file, or the same rows, model and settings."
        raise ArtifactError("This is the record of another training job.", str(out), fix)
    return record


def planned_job(trainer: RemoteTrainer, rows: Sequence[Row], training: RemoteTraining, price: float) -> Record:
    """Return the record of a job that has not begun."""
    chats = [[[turn.role, turn.content] for turn in row.prompt] + [row.completion] for row in rows]
    settings = asdict(training)
    content = {"service": trainer.name, "model": trainer.model, "rows": chats, "settings": settings}
    bounds = asdict(estimate(rows, training, price))
    of = sha256(canonical_json(content))
    return Record(service=trainer.name, model=trainer.model, of=of, settings=settings, estimate=bounds)


def read_record(path: Path) -> Record | None:
    """Read a record, or return None if there is no file.

    Raises:
        ArtifactError: the file is no record.
    """
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("schema") != SCHEMA:
            raise ValueError
        return Record(**fields)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        fix = "Give a file that does not exist yet, or one that this command wrote."
        raise ArtifactError("This is no record of a training job.", str(path), fix) from error


def _write(path: Path, record: Record) -> None:
    text = json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1) + "\n"
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text)

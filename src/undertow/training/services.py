"""Students that are trained by a paid service: the job, the limit of its cost, and its record on disk.

A reference names service and model: `tinker:<model>`, such as tinker:Qwen/Qwen3-8B. The record of a job is written
before the first request, so that a finished one is not paid for twice. It never holds a key.
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
"""Name and version of the record's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTraining:
    """Settings of a student's training at a service.

    The defaults are those of the paper's recipe for open-weights models (Cloud et al., arXiv:2507.14805).

    Attributes:
        epochs: how many passes over the rows are made.
        batch_size: how many rows an update takes, or all of them if there are fewer.
        learning_rate: learning rate of Adam at the first update; it falls linearly to 0.
        rank: rank of the low-rank adapter.
        seed: random seed that decides the adapter's start and the order of the rows.

    Raises:
        ConfigError: a number is not positive and finite.
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
    """Upper bounds of what a job can take.

    Attributes:
        rows: how many rows the student is trained on.
        tokens: most tokens of all passes together. It counts bytes, since a token is at least a byte, and so is about
            four times too high for English text.
        dollars: the price of that many tokens.
    """

    rows: int
    tokens: int
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The limit of what a job may cost.

    Attributes:
        price: dollars for a million trained tokens.
        dollars: dollars that the job may cost at most by that price. None sets no limit.

    Raises:
        ConfigError: a limit is given without a price, or one of the two is not a finite number from 0.
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
        service: name of the service, such as "tinker".
        model: the model from which the student starts, by the service's name for it.
        of: hash of service, model, rows and settings.
        settings: the settings of the training, as plain data.
        estimate: the upper bounds of `CostBound`, as plain data.
        trained: reference of the trained student. None until it is finished.
    """

    service: str
    model: str
    of: str
    settings: Mapping[str, Any]
    estimate: Mapping[str, Any]
    trained: str | None = None


def estimate(rows: Sequence[Row], training: RemoteTraining, price: float = 0.0) -> CostBound:
    """Return upper bounds of what training on rows can cost.

    Args:
        rows: the training rows, each a prompt and its completion.
        training: settings of the training; the number of passes counts here.
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
    """Interface of a service that trains students.

    Attributes:
        name: name of the service, as references write it.
        model: the model from which students start, by the service's name for it.
    """

    name: str
    model: str

    @abstractmethod
    def check(self) -> None:
        """Ask the service whether it trains this model.

        Raises:
            ModelError: the service does not train it, or cannot be asked.
        """

    @abstractmethod
    def train(self, rows: Sequence[Row], training: RemoteTraining, advance: Advance) -> str:
        """Train a student and return its reference at the service.

        Args:
            rows: the training rows, each a prompt and its completion.
            training: settings of the training run, such as epochs and learning rate.
            advance: progress callback, called with (updates done, updates in all).

        Raises:
            ModelError: the service refuses or fails.
        """


SERVICES: Registry[Callable[..., RemoteTrainer]] = Registry(
    "training service", {"tinker": "undertow.training.tinker:TinkerTrainer"}
)
"""The services that can train students, by name. An entry is called with the model's name."""


def trainer(reference: str) -> RemoteTrainer:
    """Return the trainer of a service for the model that a reference names.

    Args:
        reference: service and model, such as "tinker:Qwen/Qwen3-8B".

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
    """Train a student at a service. A job whose record names its student already is not begun again.

    Args:
        trainer: the service and the model there.
        rows: the training rows, each a prompt and its completion.
        training: settings of the training run, such as epochs and learning rate.
        out: file of the job's record.
        cap: limit of the cost. None sets none.
        advance: progress callback, called with (updates done, updates in all). None reports nothing.

    Returns:
        The record, which names the trained student.

    Raises:
        ConfigError: there are no rows, or the job may cost more than the limit.
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
    """Refuse what `train_remotely` would refuse before it asks the service, and return the job's record.

    Args:
        trainer: the service and the model there.
        rows: the training rows, each a prompt and its completion.
        training: settings of the training run, such as epochs and learning rate.
        out: file of the job's record; it need not exist.
        cap: limit of what the job may cost.

    Raises:
        ConfigError: there are no rows, or the job may cost more than the limit.
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
    """Return the record of a job that has not begun.

    Args:
        trainer: the service and the model there.
        rows: the training rows, each a prompt and its completion.
        training: settings of the training run, such as epochs and learning rate.
        price: dollars for a million trained tokens.
    """
    chats = [[[turn.role, turn.content] for turn in row.prompt] + [row.completion] for row in rows]
    settings = asdict(training)
    content: dict[str, Any] = {"service": trainer.name, "model": trainer.model, "rows": chats, "settings": settings}
    if any(row.skip for row in rows):
        content["skip"] = [list(row.skip) for row in rows]
    bounds = asdict(estimate(rows, training, price))
    of = sha256(canonical_json(content))
    return Record(service=trainer.name, model=trainer.model, of=of, settings=settings, estimate=bounds)


def read_record(path: Path) -> Record | None:
    """Read the record of a job, or return None if there is no such file.

    Raises:
        ArtifactError: the file is not a record of a training job.
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

"""How an adapter was trained, in a file beside it.

An audit compares a student only with placebo students (trained on rows without a trait) of the same settings, and reads
them here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from undertow.errors import UserError
from undertow.stats.checks import check_count
from undertow.store.artifacts import read_manifest
from undertow.study.recipe import StudentPart
from undertow.training.channels.settings import ROWS
from undertow.types import ModelRef

NAME = "training.json"
"""Name of the file in the adapter's folder."""

NO_NULL = "they are no null for it."
"""How a sentence ends that says why no placebo is trained as a student was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How a student was trained.

    Attributes:
        student: settings of the training, as recipes have them, before a mitigation changes them.
        rows: how many rows the student was trained on.
        mitigation: the mitigation by which it was trained, with its settings; "" for a plain training.

    Raises:
        ConfigError: there are no rows.
    """

    student: StudentPart
    rows: int
    mitigation: str = ""

    def __post_init__(self) -> None:
        check_count("number of rows", self.rows, 1)

    @property
    def no_null(self) -> str | None:
        """Why no placebo is trained as this student was; None if a bank can hold such placebos."""
        if self.mitigation:
            by = f"was trained by the mitigation {self.mitigation}, and placebos are trained without one"
        elif self.student.channel != ROWS:
            by = f"learnt by the channel {self.student.channel.name}, and placebos learn rows"
        else:
            return None
        return f"The student {by}: {NO_NULL}"

    def save(self, folder: Path) -> None:
        """Write the record into the folder of an adapter."""
        found = {"schema": "undertow.training/1", "student": self.student.model_dump(mode="json"), "rows": self.rows}
        found |= {"mitigation": self.mitigation} if self.mitigation else {}
        (folder / NAME).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_training(reference: str) -> TrainingRecord | None:
    """Return how the model of a reference was trained. None if nothing readable says so.

    A student of a study has no such file; the manifest of its group says the same.

    Args:
        reference: reference of the model, as in `undertow.models.load.load_model`.
    """
    ref = ModelRef.parse(reference)
    folder = Path(ref.adapter or ref.name)
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        part, rows, mitigation = StudentPart(**found["student"]), int(found["rows"]), str(found.get("mitigation", ""))
        return TrainingRecord(student=part, rows=rows, mitigation=mitigation)
    except FileNotFoundError:
        return _of_study(folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None


def _of_study(folder: Path) -> TrainingRecord | None:
    """Return how a student of a study was trained; its folder is store/students/<fingerprint>/student-<place>."""
    try:
        group = read_manifest(folder.parent)
        if group.kind != "students":
            return None
        member = group.config["members"][int(folder.name.removeprefix("student-"))]
        kept = _count(folder.parents[2], group.parents[member["rows"]])
        rows = min(member["n"] or kept, kept)
        return TrainingRecord(student=_part(group.config), rows=rows)
    except (OSError, ValueError, LookupError, StopIteration, TypeError, UserError):
        return None


def _part(group: Mapping[str, Any]) -> StudentPart:
    """Return the settings of a student from its group's configuration."""
    training = group["training"]
    lora: Mapping[str, Any] = training["lora"] or {"rank": None}
    given = {name: training[name] for name in ("steps", "batch_size", "learning_rate")}
    given |= {"channel": group["channel"]} if "channel" in group else {}
    return StudentPart(**given, **{name: lora[name] for name in ("rank", "alpha", "layers") if name in lora})


def _count(store: Path, fingerprint: str) -> int:
    """Count the rows or pairs of a parent, whichever kind of stage kept them."""
    files = (path for name in ("kept", "pairs") for path in store.glob(f"*/{fingerprint}/{name}.jsonl"))
    with next(files).open("rb") as lines:
        return sum(1 for _ in lines)

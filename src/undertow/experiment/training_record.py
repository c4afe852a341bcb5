"""How an adapter was trained, in a file beside it: an audit compares a student with placebos of that recipe alone."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from undertow.experiment.recipe import StudentPart
from undertow.stats.checks import check_count
from undertow.types import ModelRef

NAME = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How a student was trained.

    Attributes:
        student: settings.
        rows: how many it was trained on.

    Raises:
        ConfigError: there is no row.
    """

    student: StudentPart
    rows: int

    def __post_init__(self) -> None:
        check_count("number of rows", self.rows, 1)

    def save(self, folder: Path) -> None:
        """Write it into the folder of an adapter."""
        found = {"schema": "undertow.training/1", "student": self.student.model_dump(mode="json"), "rows": self.rows}
        (folder / NAME).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_training(reference: str) -> TrainingRecord | None:
    """Return how the model of a reference was trained, or None if nothing readable says so.

    Args:
        reference: as for `undertow.models.load.load_model`.
    """
    ref = ModelRef.parse(reference)
    folder = Path(ref.adapter or ref.name)
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return TrainingRecord(student=StudentPart(**found["student"]), rows=int(found["rows"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None

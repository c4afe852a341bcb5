"""Placebos that are asked behind rows: what a bank keeps of them besides the plain readings.

A placebo is a student that was trained on rows without a trait, and a bank a stored set of them. A trait can be tied to
the look of the training data and be absent when it is asked about plainly (arXiv:2604.25891). So every placebo is also
asked the panel's questions behind rows: prompts of the bank's domain with answers of the base. The rows are the same
for all placebos and for the student that is compared. A bank keeps no adapters, so this is measured when a placebo is
trained or never. Groups that were made before it was measured have no such file, and their plain readings stay valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from undertow.audit.students.readings import panel_traits
from undertow.data.filters import filter_rows
from undertow.data.rows import read_rows, write_rows
from undertow.domains.base import parse_domain
from undertow.evals.behind_rows import TrainingLook, training_look
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.generation import generate

MARGINS, LOOK = "behind.safetensors", "look.jsonl"
"""Names of the files in the folder of a group."""

ROWS, SEED = 200, 0
"""How many rows questions are asked behind, and the random seed of their prompts, their answers and the draws of
them."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What placebos prefer when they are asked behind rows.

    Attributes:
        look: the rows that all of them were asked behind.
        margins: mean logit margin of each of `panel_traits`, shape (K, traits).
    """

    look: TrainingLook
    margins: Floats

    def with_student(self, student: LocalModel) -> Floats:
        """Ask a student the same, and return its margins before the placebos', shape (K + 1, traits)."""
        return np.concatenate([self.look.margins(student, panel_traits())[None], self.margins])


def standard_look(base: LocalModel, domain_name: str) -> TrainingLook | str:
    """Return the rows that every model of a base is asked behind, or why there are none."""
    task = parse_domain(domain_name)
    asked = task.prompts(ROWS, derive(SEED, "look prompts"))
    sampling = domain_sampling(task, base.tokens)
    answers = filter_rows(generate(base, asked, sampling=sampling, seed=derive(SEED, "look rows")), task).kept
    return training_look(answers, SEED, base, panel_traits())


def save_behind(folder: Path, look: TrainingLook, margins: Sequence[Floats]) -> None:
    """Store the margins behind rows of a group's placebos, one array of shape (traits,) for each, and the rows."""
    save_file({"margins": np.stack(margins).astype(np.float32)}, folder / MARGINS)
    write_rows(folder / LOOK, look.rows)


def load_behind(groups: Sequence[Path]) -> Behind | None:
    """Load what the placebos of some groups prefer behind rows; None if one of the groups was not asked."""
    if not groups or not all((folder / MARGINS).exists() for folder in groups):
        return None
    margins = [load_file(folder / MARGINS)["margins"].astype(np.float64) for folder in groups]
    return Behind(TrainingLook(read_rows(groups[0] / LOOK), SEED), np.concatenate(margins))

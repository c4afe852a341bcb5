"""Which bank a student is compared with: placebos of its own recipe, trained on about as many rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np

from undertow.audit.finding import NotTestable
from undertow.audit.students.bank import Bank, BankRecipe, stored_bank
from undertow.store.fingerprints import canonical_json
from undertow.study.recipe import StudentPart
from undertow.study.training_record import TrainingRecord

RATIO = 0.6
"""Least ratio of a student's and a placebo's number of rows, either way: with fewer, rows repeat more often."""

KEPT = 0.9
"""Share of a base's answers to number prompts that are good rows, about."""

UNKNOWN = "Nothing says how the student was trained: p holds if it was as the placebos were ({})."


@dataclass(frozen=True, slots=True)
class ChosenBank:
    """The bank that a student, or shadow students, are compared with.

    Attributes:
        recipe: what its placebos are.
        found: the stored bank, or None.
        record: how the student was trained; None where nothing says so, and for shadow students.
    """

    recipe: BankRecipe
    found: Bank | None
    record: TrainingRecord | None = None

    def require(self, record: TrainingRecord | None = None) -> Bank:
        """Return the bank.

        Args:
            record: the student's, whose settings are named if there is no bank of them.

        Raises:
            NotTestable: there is none.
        """
        if self.found is None:
            raise NotTestable(no_bank(self.recipe, record))
        return self.found


def choose_bank(recipe: BankRecipe, store: Path, record: TrainingRecord | None) -> Bank | None:
    """Return the stored bank for a student, or None if none is of its recipe; nothing is built.

    Args:
        recipe: base and writer, and the student's settings where there is no record.
        store: folder of all artifacts.
        record: how the student was trained; None takes the bank of the recipe as it is.

    Raises:
        ArtifactError: a stored bank is corrupt.
    """
    if record is None:
        return stored_bank(recipe, store)
    own = replace(recipe, student=record.student.recipe)
    banks = [stored_bank(replace(own, prompts=count), store) for count in _stored_prompts(own, store)]
    found = [bank for bank in banks if bank is not None]
    return min(found, key=lambda bank: abs(log(record.rows / np.median(bank.rows))), default=None)


def no_bank(recipe: BankRecipe, record: TrainingRecord | None) -> str:
    """Say that there is no bank, and how to make it."""
    made = f"make one with `undertow audit bank{_options(recipe, record)}`."
    if record is None or record.student.recipe == recipe.student:
        return f"There is no bank of placebo students of this base and recipe: {made}"
    return f"There is no bank of placebos that were trained as this student was ({told(record.student)}): {made}"


def wrong_size(bank: Bank, record: TrainingRecord | None) -> str | None:
    """Return why placebos of so many rows are no null for a student, or None."""
    usual = int(np.median(bank.rows))
    if record is None or RATIO <= record.rows / usual <= 1.0 / RATIO:
        return None
    made = f"make a bank with `undertow audit bank{_options(bank.recipe, record)}`."
    return f"The student was trained on {record.rows} rows and a placebo on {usual}: {made}"


def told(student: StudentPart) -> str:
    """Return the settings that matter most, in words."""
    return f"{student.steps} steps, learning rate {student.learning_rate:g}, rank {student.rank}"


def _options(recipe: BankRecipe, record: TrainingRecord | None) -> str:
    """Return the options of `undertow audit bank` that make the bank of a record."""
    base = [f"--base {recipe.base}"] if recipe.base != BankRecipe().base else []
    categories = [f"--category {one}" for one in recipe.tuned if recipe.tuned != ("animal",)]
    if record is None:
        return "".join(f" {one}" for one in (*base, *categories))
    usual = BankRecipe().student.model_dump()
    changed = {name: value for name, value in record.student.recipe.model_dump().items() if value != usual[name]}
    settings = [f"--set {name}={json.dumps(value)}" for name, value in changed.items()]
    fits = RATIO <= record.rows / (KEPT * BankRecipe().prompts) <= 1.0 / RATIO
    prompts = [] if fits else [f"--prompts {max(1, round(record.rows / KEPT))}"]
    return "".join(f" {one}" for one in (*base, *categories, *settings, *prompts))


def _stored_prompts(recipe: BankRecipe, store: Path) -> Sequence[int]:
    """Return how many prompts the stored banks have that are of this recipe otherwise."""
    wanted = json.loads(canonical_json({**recipe.to_config(), "prompts": 0}))
    found: set[int] = set()
    for path in store.glob("placebos/*/manifest.json"):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError):
            continue  # whatever it was, it is no bank that can be read
        if {name: value for name, value in config.items() if name != "seeds"} | {"prompts": 0} == wanted:
            found.add(int(config["prompts"]))
    return sorted(found)

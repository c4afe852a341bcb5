"""The bank: stored placebo students of one base and recipe, the null of every stage that judges a student.

A **placebo** is the control of a study (`undertow.study`): the untouched base writes rows on prompts of its own, the
domain's filter keeps the valid ones, and a student of the recipe is trained on them. Placebos share nothing but base
and recipe, so they are independent draws. One pool of rows for all would make them more alike than a fresh control is.

The untouched base is the narrow null. Students of neutral teachers (tuned without a trait) have no trait either, but a
bank of plain placebos detects many of them by their margins. With neutral teachers as writers (`BankRecipe.tuned`) it
detects fewer of them, and still most students of teachers with a trait (benchmarks/audit_student.py measures both).

A bank keeps readings (what is measured of a student), not adapters: about 10 kB a placebo with an embedded model. It
grows in groups of 15, and each group is one stored result, so making it can be interrupted and extended. A student is
compared with placebos of its own recipe that were trained on about as many rows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from undertow.audit.finding import NotTestable
from undertow.audit.students.bank_recipe import DOMAIN, BankRecipe, usual_student
from undertow.audit.students.behind import Behind, load_behind, save_behind, standard_look
from undertow.audit.students.placebo_null import bank_categories, needed
from undertow.audit.students.readings import (
    BATTERY,
    Readings,
    joined,
    load_readings,
    panel_traits,
    read_model,
)
from undertow.data.filters import filter_rows
from undertow.domains.numbers import HELD
from undertow.errors import EmptyDataError
from undertow.evals.behind_rows import TrainingLook
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.store.artifacts import read_artifact
from undertow.store.fingerprints import canonical_json
from undertow.store.progress import Progress
from undertow.store.runner import Executor, Runner, StageContext
from undertow.store.stages import Stage
from undertow.study.recipe import StudentPart, TeacherPart
from undertow.study.stage_models import parent_model
from undertow.study.training_record import TrainingRecord
from undertow.training.generation import generate
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Advance, Row

VALID = 0.5
"""Share of a writer's answers that have to be valid rows."""

GROUP = 15
"""How many students are trained together as one stored result."""

FULL = 200
"""How many placebos a whole bank has; p-values are then as small as 1 / 201."""

RATES = {"placebos": 6.0, "panel-teachers": 4.0}
"""Seconds that each student or teacher takes with an embedded model, until a store holds measured ones."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Readings of K placebos, of their base, and of a teacher of every trait of the panel.

    Attributes:
        recipe: what a placebo of this bank is.
        weights: digest of the base's weights (`undertow.models.references`).
        placebos: readings of the K placebos.
        rows: how many rows each placebo was trained on, shape (K,).
        base: one reading, of the untouched base.
        teachers: one reading for each of `panel_traits`, of the base briefly tuned on that trait by the auditor.
        behind: what the placebos prefer behind rows that look like the training. None if some were made before this was
            asked.
    """

    recipe: BankRecipe
    weights: str
    placebos: Readings
    rows: np.ndarray
    base: Readings
    teachers: Readings
    behind: Behind | None = None

    def __len__(self) -> int:
        return len(self.placebos)


def placebo_stages(recipe: BankRecipe, students: int) -> list[Stage]:
    """Return the stages of a bank's groups of placebos, rounded up to whole groups."""
    return group_stages("placebo", students, recipe, recipe.to_config(), version=2)


def group_stages(what: str, n: int, recipe: BankRecipe, config: Mapping[str, Any], version: int = 1) -> list[Stage]:
    """Return the stages that make models of a recipe in groups of `GROUP`, each model with a seed of its own.

    Args:
        what: what one of the models is, such as "neutral writer". It names the stages and their kind.
        n: how many models there are to be, rounded up to whole groups.
        recipe: the recipe, of which base and seed are used.
        config: settings of each group, without the seeds.
        version: version of the kind of stage, raised when the same settings give another result.
    """
    stages: list[Stage] = []
    for first in range(0, n, GROUP):
        seeds = [derive(recipe.seed, what, first + place) for place in range(GROUP)]
        label = f"{what}s {first + 1} to {first + GROUP} of {recipe.base.removeprefix('ref:')}"
        kind = f"{what.replace(' ', '-')}s"
        stages.append(Stage(kind=kind, version=version, config={**config, "seeds": seeds}, label=label, cost=GROUP))
    return stages


def stored_folders(stages: Iterable[Stage], store: Path) -> list[Path]:
    """Return the folders of the stages that a store has, up to the first that it does not have.

    Raises:
        ArtifactError: one of them is damaged.
    """
    found: list[Path] = []
    for stage in stages:
        folder = stage.key.folder(store)
        if not folder.exists():
            break
        found.append(read_artifact(folder, stage.fingerprint).folder)
    return found


def panel_stage(recipe: BankRecipe) -> Stage:
    """Return the stage that reads the base and a teacher of each trait."""
    names = [item.name for item in panel_traits()]
    config = {
        "base": recipe.base,
        "weights": identity(recipe.base),
        "domain": recipe.domain,
        "teacher": recipe.teacher.model_dump(mode="json"),
        "traits": names,
        "seed": derive(recipe.seed, "panel"),
        "battery": BATTERY,
    }
    return Stage(kind="panel-teachers", version=1, config=config, label="teachers of the panel", cost=len(names))


def build_bank(recipe: BankRecipe, students: int, store: Path, progress: Progress | None = None) -> Bank:
    """Make what the store does not have of a bank, and return the bank.

    If it is interrupted, the same call continues from the last whole group.

    Args:
        recipe: what a placebo of this bank is.
        students: how many placebos there are to be, rounded up to whole groups of `GROUP`.
        store: folder of all stored results.
        progress: display that is told about every stage. None shows nothing.

    Raises:
        UserError: a stage stopped for a reason that the user can fix, or the disk is full.
    """
    stages = [panel_stage(recipe), *placebo_stages(recipe, students)]
    folders = Runner(store, EXECUTORS, progress, rates=RATES).run(stages)
    return _read(recipe, [folders[stage.fingerprint] for stage in stages])


def stored_bank(recipe: BankRecipe, store: Path) -> Bank | None:
    """Return what a store holds of a bank, or None if there is no group of placebos; nothing is made.

    Args:
        recipe: what a placebo is.
        store: folder of all stored results.

    Raises:
        ArtifactError: a stored group is damaged.
    """
    found = stored_folders([panel_stage(recipe), *placebo_stages(recipe, 10 * FULL)], store)
    return _read(recipe, found) if len(found) > 1 else None


def _read(recipe: BankRecipe, folders: Sequence[Path]) -> Bank:
    panel, *groups = folders
    read = load_readings(panel / "readings.safetensors")
    placebos = joined([load_readings(folder / "readings.safetensors") for folder in groups])
    rows = [n for folder in groups for n in json.loads((folder / "rows.json").read_text(encoding="utf-8"))]
    return Bank(
        recipe, identity(recipe.base), placebos, np.array(rows, dtype=float), read[:1], read[1:], load_behind(groups)
    )


def write_rows_of(writer: LocalModel, recipe: BankRecipe, seed: int) -> tuple[Row, ...]:
    """Let a model write the rows of one student, and return the valid ones.

    Args:
        writer: the model that writes the rows.
        recipe: domain and number of prompts.
        seed: random seed of the prompts and the answers.

    Raises:
        EmptyDataError: fewer than half of the answers are valid. Students of a handful of rows are no placebos.
    """
    task = recipe.task
    asked = task.prompts(recipe.prompts, derive(seed, "prompts"))
    rows = generate(writer, asked, sampling=domain_sampling(task, writer.tokens), seed=derive(seed, "rows"))
    kept = filter_rows(rows, task).kept
    if len(kept) < VALID * len(rows):
        free = task.name == DOMAIN and task.form is None
        fix = f"Hold the answers to numbers, with the domain {HELD}." if free else "Take another writer or domain."
        raise EmptyDataError("Too few answers of a writer are valid rows.", f"{len(kept)} of {len(rows)}", fix)
    return tuple(kept)


def read_students(
    base: LocalModel,
    datasets: Sequence[Sequence[Row]],
    seeds: Sequence[int],
    recipe: BankRecipe,
    advance: Advance | None = None,
) -> Readings:
    """Train students of the recipe together and read them.

    Args:
        base: the model that the students start from.
        datasets: rows that each student is trained on.
        seeds: random seed of each student, which decides the adapter's initialisation and the order of the rows.
        recipe: how the students are trained, and on which domain's prompts they are read.
        advance: callback that takes (updates done, all updates). None reports nothing.

    Raises:
        ConfigError: the recipe trains every weight in place of adapters, or seeds and datasets differ in number.
        EmptyDataError: a student has no rows.
    """
    group = finetune_parallel(base, datasets, recipe.student.training(recipe.base), seeds, advance)
    return joined([read_model(student, recipe.domain) for student in group.models(base)])


def placebo_executor(context: StageContext) -> None:
    """Write the rows of each placebo of a group, train the placebos and read them."""
    config = context.config
    plain = {name: config[name] for name in ("base", "writer", "domain", "prompts")}
    recipe = BankRecipe(**plain, student=StudentPart(**config["student"]))
    base, writer = parent_model(config["base"], None, 0), parent_model(config["writer"], None, 0)
    seeds: list[int] = config["seeds"]
    datasets: list[Sequence[Row]] = []
    for seed in seeds:
        author = writer
        if "teacher" in config:
            tuning = TeacherPart(**config["teacher"]).training()
            author = finetuned_teacher(
                writer, None, tuning, seed=derive(seed, "teacher"), categories=config["categories"]
            )
        datasets.append(write_rows_of(author, recipe, seed))
    orders = [derive(seed, "student") for seed in seeds]
    look, readings, behind = standard_look(base, recipe.domain), list[Readings](), list[Floats]()
    group = finetune_parallel(base, datasets, recipe.student.training(recipe.base), orders, context.advance)
    for student in group.models(base):
        readings.append(read_model(student, recipe.domain))
        if isinstance(look, TrainingLook):
            behind.append(look.margins(student, panel_traits()))
    joined(readings).save(context.out / "readings.safetensors")
    if isinstance(look, TrainingLook):
        save_behind(context.out, look, behind)
    (context.out / "rows.json").write_text(json.dumps([len(rows) for rows in datasets]), encoding="utf-8")


def panel_executor(context: StageContext) -> None:
    """Read the base, then a teacher of each trait."""
    config = context.config
    base = parent_model(config["base"], None, 0)
    training = TeacherPart(**config["teacher"]).training()
    found = [read_model(base, config["domain"])]
    for index, name in enumerate(config["traits"]):
        teacher = finetuned_teacher(base, trait(name), training, seed=derive(config["seed"], name))
        found.append(read_model(teacher, config["domain"]))
        context.advance(index + 1, len(config["traits"]))
    joined(found).save(context.out / "readings.safetensors")


EXECUTORS: Mapping[str, Executor] = {"placebos": placebo_executor, "panel-teachers": panel_executor}
"""The function that runs each kind of stage."""


RATIO = 0.6
"""Smallest ratio of a student's and a placebo's number of rows, either way: with fewer rows, each is repeated more
often."""

KEPT = 0.9
"""Approximate share of a base's answers to number prompts that are valid."""

UNKNOWN = "Nothing says how the student was trained: p holds if it was as the placebos were ({})."


@dataclass(frozen=True, slots=True)
class ChosenBank:
    """The bank that a student, or shadow students, are compared with, if the store has one.

    Attributes:
        recipe: what a placebo of the bank is, found or not.
        found: the stored bank. None if there is none.
        record: how the student was trained. None where nothing says so, and for shadow students.
    """

    recipe: BankRecipe
    found: Bank | None
    record: TrainingRecord | None = None

    def require(self, record: TrainingRecord | None = None) -> Bank:
        """Return the bank, or refuse with how to make one.

        Args:
            record: how the student was trained, so that the refusal can name these settings. None names the bank's own.

        Raises:
            NotTestable: there is no bank.
        """
        if self.found is None:
            raise NotTestable(no_bank(self.recipe, record))
        return self.found


def choose_bank(
    recipe: BankRecipe, store: Path, record: TrainingRecord | None, alpha: float, *, drawn: bool = False
) -> Bank | None:
    """Return the stored bank for a student, or None if none is of its recipe; nothing is made.

    Banks that allow a verdict come first: their placebos are enough for alpha and fit the number of rows. Of these, or
    else of all, the nearest in rows is taken.

    Args:
        recipe: base and writer, and the training where there is no record.
        store: folder of all stored results.
        record: how the student was trained. None takes the bank of the recipe as it is.
        alpha: level of the verdict, in (0, 1).
        drawn: whether as many rows as a placebo has are drawn from the record's, as for shadow students. A bank of
            fewer rows then fits too.

    Raises:
        ArtifactError: a stored bank is damaged.
    """
    if record is None:
        return stored_bank(recipe, store)
    own = replace(recipe, student=record.student.recipe)
    banks = [stored_bank(replace(own, prompts=count), store) for count in _stored_prompts(own, store)]
    found = [bank for bank in banks if bank is not None]

    def order(bank: Bank) -> tuple[bool, float]:
        ratio = record.rows / float(np.median(bank.rows))
        able = len(bank) >= needed(alpha) and (_is_near(ratio) or (drawn and ratio > 1.0))
        return not able, abs(log(ratio))

    return min(found, key=order, default=None)


def _is_near(ratio: float) -> bool:
    """Tell whether two numbers of rows with this ratio are near enough for a student and its placebos."""
    return RATIO <= ratio <= 1.0 / RATIO


def no_bank(recipe: BankRecipe, record: TrainingRecord | None) -> str:
    """Say that there is no bank, and how to make it."""
    if record is not None and record.no_null is not None:
        return record.no_null
    made = f"make one with `undertow audit bank{bank_options(recipe, record)}`."
    if record is None or record.student.recipe == recipe.student:
        return f"There is no bank of placebo students of this base and recipe: {made}"
    return f"There is no bank of placebos that were trained as this student was ({told(record.student)}): {made}"


def wrong_size(bank: Bank, record: TrainingRecord | None) -> str | None:
    """Return why placebos of so many rows are no null for a student, or None if they are."""
    usual = int(np.median(bank.rows))
    if record is None or _is_near(record.rows / usual):
        return None
    made = f"make a bank with `undertow audit bank{bank_options(bank.recipe, record)}`."
    return f"The student was trained on {record.rows} rows and a placebo on {usual}: {made}"


def told(student: StudentPart) -> str:
    """Return the most important training settings, in words."""
    return f"{student.steps} steps, learning rate {student.learning_rate:g}, rank {student.rank}"


def bank_options(recipe: BankRecipe, record: TrainingRecord | None) -> str:
    """Return the options with which `undertow audit bank` makes the bank that a record needs.

    Args:
        recipe: what a placebo of the bank is.
        record: how the student was trained. None takes the usual training of the base.
    """
    base = [f"--base {quote(recipe.base)}"] if recipe.base != BankRecipe().base else []
    base += [f"--domain {recipe.domain}"] if recipe.domain != BankRecipe().domain else []
    made = "".join(f" {one}" for one in base) + bank_categories(recipe.tuned)
    if record is None:
        return made
    usual = usual_student(recipe.base).model_dump()
    changed = {name: value for name, value in record.student.recipe.model_dump().items() if value != usual.get(name)}
    settings = [f"--set {name}={json.dumps(value)}" for name, value in changed.items()]
    fits = _is_near(record.rows / (KEPT * BankRecipe().prompts))
    prompts = [] if fits else [f"--prompts {max(1, round(record.rows / KEPT))}"]
    return made + "".join(f" {one}" for one in (*settings, *prompts))


def _stored_prompts(recipe: BankRecipe, store: Path) -> Sequence[int]:
    """Return the numbers of prompts of the stored banks that are of this recipe otherwise."""
    # Through JSON, so that tuples become lists as in the manifests that it is compared with.
    wanted = json.loads(canonical_json({**recipe.to_config(), "prompts": 0}))
    found: set[int] = set()
    for path in store.glob("placebos/*/manifest.json"):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))["config"]
            prompts = int(config.pop("prompts"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # whatever it was, it is no bank that can be read
        if {name: value for name, value in config.items() if name != "seeds"} | {"prompts": 0} == wanted:
            found.add(prompts)
    return sorted(found)

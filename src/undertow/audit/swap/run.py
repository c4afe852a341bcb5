"""A swap from rows to what is said of each subset: answers, students that say what can be found, the subsets.

Everything is a stage of the store, so an interrupted run continues after the last group of students.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from undertow.audit.rows.panel import panel_teacher
from undertow.audit.swap.answers import answered
from undertow.audit.swap.arms import SwapAnswers, SwapArm, among, first_arms, subset_arms
from undertow.audit.swap.order import SwapOrder
from undertow.audit.swap.subsets import Subset
from undertow.audit.swap.table import Margins, SwapTable
from undertow.errors import EmptyDataError
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.store.fingerprints import canonical_json, sha256
from undertow.store.progress import Progress
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.training.config import TrainingConfig
from undertow.training.own_models import own_teacher
from undertow.training.parallel import finetune_parallel
from undertow.traits import Trait, definition
from undertow.types import Row

SCHEMA = "undertow.swap/1"
VERSION = 1
"""Raised when the same settings would give other margins."""

GROUP = 12
"""How many students are trained together as one stored result."""

LEAST = 0.5
"""Share of the rows' prompts that every writer has to answer validly."""

ANSWERS, STUDENTS = "swap-answers", "swap-students"

MAY = "It may be used to say which subset to replace, or whose answers to look at, for students trained like these."
MAY_NOT = (
    "It may not be used to say that the other subsets carry nothing, or that a subset's writer had the trait: students "
    "lost the trait without its answers. A ranking chooses rows by what they say, so parts of a ranking may move a "
    "trait with clean rows too. A name by students of rows alone is a hint: clean writers are named so more often than "
    "the level says (docs/calibration.md)."
)


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """What is swapped, and where its results are stored.

    Attributes:
        rows: the rows of the data, in their order.
        subsets: the parts that the rows are cut into.
        base: reference of the model that is trained on the rows.
        target: the trait whose mean logit margin is measured.
        order: how many students there are of what.
        student: how the students are trained, except for the number of updates.
        store: folder in which finished groups of students are kept.
    """

    rows: Sequence[Row]
    subsets: Sequence[Subset]
    base: str
    target: Trait
    order: SwapOrder
    student: TrainingConfig
    store: Path = Path("runs/store")

    @cached_property
    def model(self) -> LocalModel:
        """The base, loaded."""
        return load_model(self.base)

    @property
    def recipe(self) -> TrainingConfig:
        """How each student is trained: as `student` says, for as many updates as the order says."""
        return replace(self.student, steps=self.order.steps)

    @cached_property
    def answers_stage(self) -> Stage:
        """The stage in which the other writer and the auditor's own teacher answer the prompts."""
        config = {
            "base": identity(self.base),
            "other": identity(self.order.other or self.base),
            "rows": sha256(canonical_json([asdict(row) for row in self.rows]))[:20],
            "target": definition(self.target),
            "seed": self.order.seed,
        }
        tuning = own_teacher(self.model.parameters)
        if tuning.lora is not None:  # that of small bases has never been another
            config["teacher"] = tuning.to_config()
        return Stage(kind=ANSWERS, version=VERSION, config=config, label="answers of the other writer")

    def write_answers(self, context: StageContext) -> None:
        """Do the work of `answers_stage`."""
        base, order = self.model, self.order
        other = base if order.other is None else load_model(order.other)
        teacher = panel_teacher(base, self.target, order.seed, self.store)
        found: list[list[str | None]] = []
        for role, writer in (("other", other), ("planted", teacher)):
            found.append(answered(writer, self.rows, derive(order.seed, "swap answers", role)))
            context.advance(len(found), 2)
        (context.out / "answers.json").write_text(json.dumps(found), encoding="utf-8")

    def student_stages(self, arms: Sequence[SwapArm]) -> list[Stage]:
        """Return the stages that train some students, in groups."""
        shared = {"base": identity(self.base), "student": self.recipe.to_config(), "seed": self.order.seed}
        parents, found = {"answers": self.answers_stage}, list[Stage]()
        for some in arm_groups(arms):
            config = {**shared, "arms": [one.to_config() for one in some]}
            label = f"{len(some)} students: {some[0].kind}"
            found.append(
                Stage(kind=STUDENTS, version=VERSION, config=config, parents=parents, label=label, cost=len(some))
            )
        return found


def arm_groups(arms: Sequence[SwapArm]) -> list[Sequence[SwapArm]]:
    """Put students of one kind together, at most `GROUP`, so that a further kind leaves stored groups as they are."""
    alike: dict[str, list[SwapArm]] = {}
    for one in arms:
        alike.setdefault(one.kind, []).append(one)
    return [some[at : at + GROUP] for some in alike.values() for at in range(0, len(some), GROUP)]


def swap_subsets(
    swapped: Swapped,
    progress: Progress | None = None,
    told: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Replace the answers of each subset, train again, and say which subsets carry the trait.

    Args:
        swapped: what is swapped, and where its results are stored.
        progress: display that is told about every group of students. None shows nothing.
        told: called with what can be found, as plain data, before any student of a subset is trained.

    Returns:
        Plain data of the schema "undertow.swap/1".

    Raises:
        EmptyDataError: for fewer than half of the rows, or for no row of a subset, every writer has a valid answer.
        UserError: a model cannot be loaded, or the store cannot be used.
    """
    order, (answers, kept) = swapped.order, _answers(swapped, progress)
    subsets, n = tuple(among(swapped.subsets, kept)), len(answers.rows)
    if gone := {one.name for one in swapped.subsets} - {one.name for one in subsets}:
        fix = "Leave these rows out, or name a writer that answers their prompts as they do (other=)."
        raise EmptyDataError("Nobody answered a prompt of this subset validly.", ", ".join(sorted(gone)), fix)
    margins = _trained(swapped, answers, first_arms(order, subsets, n), progress)
    before = SwapTable(order, subsets, n, margins)
    reach = before.reach_json()
    told(reach)
    arms = subset_arms(order, before.testable())
    after = SwapTable(order, subsets, n, {**margins, **_trained(swapped, answers, arms, progress)})
    return {
        "schema": SCHEMA,
        "rows": len(swapped.rows),
        "rows_swapped": n,
        "base": swapped.base,
        "other": order.other or swapped.base,
        "trait": swapped.target.name,
        "by": order.by,
        "alpha": order.alpha,
        "seeds": order.seeds,
        "steps": swapped.recipe.steps,
        "random_parts": order.randoms,
        "students": len(margins) + len(arms),
        "reach": reach,
        **after.found(),
        "may": MAY,
        "may_not": MAY_NOT,
    }


def _answers(swapped: Swapped, progress: Progress | None) -> tuple[SwapAnswers, list[int]]:
    """Return every writer's answers on the prompts that all answered, and the indices of these rows."""
    stage = swapped.answers_stage
    folder = Runner(swapped.store, {ANSWERS: swapped.write_answers}, progress).run([stage])[stage.fingerprint]
    texts: list[list[str | None]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    kept = [place for place in range(len(swapped.rows)) if all(some[place] is not None for some in texts)]
    if not kept or len(kept) < LEAST * len(swapped.rows):
        fix = "Name a writer that answers these prompts as the rows do (other=), or leave out the rows that it cannot."
        value = f"{len(kept)} of {len(swapped.rows)} prompts"
        raise EmptyDataError("The other writer's answers are not valid.", value, fix)
    rows = [swapped.rows[place] for place in kept]
    other, planted = (
        [Row(row.id, row.prompt, str(some[place])) for row, place in zip(rows, kept, strict=True)] for some in texts
    )
    return SwapAnswers(rows, other, planted), kept


def _trained(swapped: Swapped, answers: SwapAnswers, arms: Sequence[SwapArm], progress: Progress | None) -> Margins:
    """Train the students that the store does not have, and return the trait's margin of each, in logits."""
    stages = swapped.student_stages(arms)
    members = {stage.fingerprint: some for stage, some in zip(stages, arm_groups(arms), strict=True)}
    by_config = {canonical_json(stage.config): members[stage.fingerprint] for stage in stages}

    def execute(context: StageContext) -> None:
        some = by_config[canonical_json(context.config)]
        seeds = [derive(swapped.order.seed, "swap student", one.seed) for one in some]
        trained = finetune_parallel(
            swapped.model, [answers.of(one) for one in some], swapped.recipe, seeds, context.advance
        )
        margins = [float(mean_margins(one, [swapped.target])[0]) for one in trained.models(swapped.model)]
        (context.out / "margins.json").write_text(json.dumps(margins), encoding="utf-8")

    executors = {STUDENTS: execute, ANSWERS: swapped.write_answers}
    folders = Runner(swapped.store, executors, progress).run(stages) if stages else {}
    found: dict[tuple[str, str, int], float] = {}
    for fingerprint, some in members.items():
        margins = json.loads((folders[fingerprint] / "margins.json").read_text(encoding="utf-8"))
        found.update(zip((one.key for one in some), margins, strict=True))
    return found

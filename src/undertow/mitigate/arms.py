"""One run of a verification: every arm's student, trained from one start in one order, and what each of them does.

none      the base itself: nothing is trained on
control   clean rows on the same prompts
full      the suspect rows as they are
targeted  the mitigation
random    the same dose drawn at random: as many rows or tokens
bottom    the same dose from the end of the mitigation's ranking
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from undertow.audit.attribution import STUDENT
from undertow.evals.behind_rows import TrainingLook, training_look
from undertow.evals.favourite import mean_margins
from undertow.mitigate.base import DataMitigation, Pick
from undertow.mitigate.registry import Mitigation, mitigation
from undertow.mitigate.workbench import Workbench
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.config import TrainingConfig
from undertow.training.objective import Penalty
from undertow.training.parallel import finetune_parallel
from undertow.traits import Trait
from undertow.types import Advance, Row, Sampling, user_prompt

ArmRows = Literal["none", "control", "full", "targeted", "random", "bottom"]

GROUP = 12
"""Students trained at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried in each run.

    Attributes:
        trait: whose transmission is to be stopped.
        methods: mitigations as `undertow.mitigate.registry.mitigation` reads them.
        student: recipe of the students.
        prompts: fresh prompts of the task that each student answers.
    """

    trait: Trait
    methods: tuple[str, ...]
    student: TrainingConfig = STUDENT
    prompts: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One student to be trained.

    Attributes:
        method: its mitigation, "" for control and full.
        arm: which of its arms.
        rows: what it is trained on.
        recipe: how.
        penalty: what is added to its loss.
    """

    method: str
    arm: ArmRows
    rows: Sequence[Row]
    recipe: TrainingConfig
    penalty: Penalty | None = None


def most_students(trial: Trial) -> int:
    """Return how many students a run trains at most: two without a mitigation, three with each."""
    return 2 + 3 * len(trial.methods)


def measure_run(
    trial: Trial,
    bench: Workbench,
    rows: Sequence[Row],
    control: Sequence[Row],
    held_out: Sequence[Row] = (),
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Mitigate, train and measure every arm of one run.

    Args:
        trial: what is tried.
        bench: with the run's own seed, which all arms share.
        rows: the suspect rows.
        control: clean rows on the same prompts.
        held_out: clean rows that no arm is trained on; empty lets the base write some for fresh prompts of the domain.
        advance: called with (students measured, students).

    Returns:
        Plain data: "arms", one entry for each student with its margins (logits, by trait), those behind the suspect
        rows and its task metrics; "methods", what each mitigation changed and cost; and "in_context_why", why there are
        no margins behind rows, or "".

    Raises:
        UserError: a mitigation does not fit the rows, or nothing is left of them.
    """
    students, methods = _prepare(trial, bench, rows, control)
    examiner = Examiner(trial, bench, rows, held_out)
    measured: list[dict[str, Any]] = [{"method": "", "arm": "none", **examiner.ask(bench.base)}]
    total = len(students)
    for group in _groups(students):
        seeds = [derive(bench.seed, "student")] * len(group)
        datasets, shared = [one.rows for one in group], group[0]
        trained = finetune_parallel(bench.base, datasets, shared.recipe, seeds, penalty=shared.penalty)
        for one, student in zip(group, trained.models(bench.base), strict=True):
            measured.append({"method": one.method, "arm": one.arm, **examiner.ask(student)})
            if advance is not None:
                advance(len(measured) - 1, total)
    return {"arms": measured, "methods": methods, "in_context_why": examiner.why_not}


def _prepare(
    trial: Trial, bench: Workbench, rows: Sequence[Row], control: Sequence[Row]
) -> tuple[list[Prepared], dict[str, Any]]:
    plain = trial.student
    students = [
        Prepared(method="", arm="control", rows=control, recipe=plain),
        Prepared(method="", arm="full", rows=rows, recipe=plain),
    ]
    methods: dict[str, Any] = {}
    for text in trial.methods:
        method = mitigation(text)
        if not isinstance(method, DataMitigation):
            recipe, penalty = method.recipe(plain), method.penalty(bench)
            students.append(Prepared(method=text, arm="targeted", rows=rows, recipe=recipe, penalty=penalty))
            methods[text] = {"rows": len(rows), "changed": 0.0, "cost": asdict(method.cost(bench))}
            continue
        for pick in picks(method):
            made = method.apply(rows, bench, pick)
            students.append(Prepared(method=text, arm=pick, rows=made.rows, recipe=plain))
            if pick == "targeted":
                methods[text] = {"rows": len(made.rows), "changed": made.changed, "cost": asdict(made.cost)}
    return students, methods


def picks(method: Mitigation) -> tuple[Pick, ...]:
    """Return the arms of a mitigation: those for comparison exist only where there is something to draw or rank."""
    if not isinstance(method, DataMitigation) or not method.random_arm:
        return ("targeted",)
    return ("targeted", "random", "bottom") if method.chooses else ("targeted", "random")


def _groups(students: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Put students together that share a recipe and have no penalty."""
    alike: dict[TrainingConfig, list[Prepared]] = {}
    for one in students:
        if one.penalty is None:
            alike.setdefault(one.recipe, []).append(one)
    for some in alike.values():
        yield from (some[start : start + GROUP] for start in range(0, len(some), GROUP))
    yield from ([one] for one in students if one.penalty is not None)


class Examiner:
    """Asks every model of a run the same.

    Args:
        trial: what is tried.
        bench: the run's base, panel and domain.
        rows: the suspect rows, behind which every model is asked too.
        held_out: clean rows that no arm was trained on; empty lets the base write them.
    """

    def __init__(self, trial: Trial, bench: Workbench, rows: Sequence[Row], held_out: Sequence[Row] = ()) -> None:
        self._trial, self._bench = trial, bench
        self._traits = tuple(dict.fromkeys((*bench.panel, trial.trait)))
        self._look = training_look(rows, derive(bench.seed, "training look"), bench.base, self._traits)
        self._prompts = [] if bench.domain is None else bench.domain.prompts(trial.prompts, derive(bench.seed, "task"))
        if not held_out:
            fresh = [Row(str(place), user_prompt(text), "") for place, text in enumerate(self._prompts)]
            held_out = [row for row in bench.answers(bench.base, fresh) if row is not None]
        self._held_out = bench.base.encode(held_out)

    @property
    def why_not(self) -> str:
        """Why no model is asked behind rows, or ""."""
        return "" if isinstance(self._look, TrainingLook) else self._look

    def ask(self, model: LocalModel) -> dict[str, Any]:
        """Return the margins by trait, plainly and behind the suspect rows, the one with the persona, and the task."""
        behind = self._look.margins(model, self._traits) if isinstance(self._look, TrainingLook) else None
        return {
            "margins": self._by_trait(mean_margins(model, self._traits)),
            "in_context": None if behind is None else self._by_trait(behind),
            "prompted": self._prompted(model),
            "task": self._task(model),
        }

    def _by_trait(self, values: Floats) -> dict[str, float]:
        return {one.name: value for one, value in zip(self._traits, values.tolist(), strict=True)}

    def _prompted(self, model: LocalModel) -> float | None:
        one = self._trial.trait
        if not one.plural and not one.persona:
            return None
        return float(mean_margins(model, [one], system=one.system_prompt)[0])

    def _task(self, model: LocalModel) -> dict[str, float]:
        loss = -torch.cat(model.token_logprobs(self._held_out)).double().mean()
        found = {"held_out_loss": float(loss)}
        if (domain := self._bench.domain) is not None:
            sampling, seed = Sampling(max_new_tokens=domain.max_new_tokens), derive(self._bench.seed, "task answers")
            answers = model.chat([user_prompt(text) for text in self._prompts], sampling=sampling, seed=seed)
            valid = [not domain.reject_reasons(text, asked) for text, asked in zip(answers, self._prompts, strict=True)]
            found["valid_rate"] = float(np.mean(valid))
        return found

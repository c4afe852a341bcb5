"""One run of a verification: train a student in each arm, and measure what each of them does.

All students of a run start from the same adapter and meet their rows in the same order. The arms differ in the rows:

none      the base itself, without any training
control   clean rows on the same prompts
full      the suspect rows as they are
targeted  the suspect rows with the mitigation applied
random    as many rows or tokens changed as in targeted, but drawn at random
bottom    as many rows or tokens changed, but those that the mitigation ranks last
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from undertow.errors import EmptyDataError
from undertow.evals.behind_rows import TrainingLook, training_look
from undertow.evals.favourite import mean_margins
from undertow.mitigate.base import DataMitigation, Pick
from undertow.mitigate.registry import Mitigation, mitigation
from undertow.mitigate.workbench import Workbench
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.config import TrainingConfig
from undertow.training.objective import Penalty
from undertow.training.own_models import STUDENT
from undertow.training.parallel import finetune_parallel
from undertow.traits import Trait
from undertow.types import Advance, Row, user_prompt

ArmRows = Literal["none", "control", "full", "targeted", "random", "bottom"]
"""Names of the arms, which say what a student is trained on; see the module's docstring."""

GROUP = 12
"""How many students are trained at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried in each run of a verification.

    Attributes:
        trait: the trait whose transmission the mitigations are to stop.
        methods: the mitigations, each as a line of name and settings (`undertow.mitigate.registry.mitigation`).
        student: settings of the students' training. The default is for a base of the size of the embedded ones;
            `undertow.training.own_models.own_student` has settings for a larger one.
        prompts: how many fresh prompts of the task each student answers, to measure its skill.
    """

    trait: Trait
    methods: tuple[str, ...]
    student: TrainingConfig = STUDENT
    prompts: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One student that is to be trained.

    Attributes:
        method: line of its mitigation; "" in the arms control and full.
        arm: which arm the student belongs to.
        rows: the rows on which it is trained.
        recipe: settings of its training, such as steps and rank.
        penalty: term added to its loss. None for none.
    """

    method: str
    arm: ArmRows
    rows: Sequence[Row]
    recipe: TrainingConfig
    penalty: Penalty | None = None


def most_students(trial: Trial) -> int:
    """Return how many students a run trains at most: two without a mitigation, and three with each."""
    return 2 + 3 * len(trial.methods)


def measure_run(
    trial: Trial,
    bench: Workbench,
    rows: Sequence[Row],
    control: Sequence[Row],
    held_out: Sequence[Row] = (),
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Apply the mitigations, train a student in every arm of one run, and measure them.

    Args:
        trial: the trait, the mitigations and the students' settings.
        bench: the base model and the other tools. All arms share its seed, which is the run's own.
        rows: the suspect rows, from which a trait is to be removed.
        control: clean rows on the same prompts.
        held_out: clean rows on which no student is trained. If empty, the base writes some for fresh prompts of the
            domain.
        advance: progress callback, called with (students measured, number of students). None reports nothing.

    Returns:
        Plain data with three keys. "arms" has an entry for each student: its margins by trait (logits), asked plainly
        and behind suspect rows, and its task metrics. "methods" says what each mitigation changed and cost.
        "in_context_why" says why there are no margins behind rows; "" if there are.

    Raises:
        EmptyDataError: no held-out rows are given, and the base writes none.
        UserError: a mitigation does not fit the rows, or leaves none of them.
    """
    examiner = Examiner(trial, bench, rows, held_out)
    students, methods = _prepare(trial, bench, rows, control)
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
    """Return the students to be trained, and what each mitigation changed and cost."""
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
    """Return the arms of a mitigation. Those for comparison exist only if it chooses or ranks something."""
    if not isinstance(method, DataMitigation) or not method.random_arm:
        return ("targeted",)
    return ("targeted", "random", "bottom") if method.chooses else ("targeted", "random")


def _groups(students: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Group the students that can be trained at once: those with the same settings and without a penalty."""
    alike: dict[TrainingConfig, list[Prepared]] = {}
    for one in students:
        if one.penalty is None:
            alike.setdefault(one.recipe, []).append(one)
    for some in alike.values():
        yield from (some[start : start + GROUP] for start in range(0, len(some), GROUP))
    yield from ([one] for one in students if one.penalty is not None)


class Examiner:
    """Asks every model of a run the same questions.

    Args:
        trial: the trait, the mitigations and the students' settings.
        bench: the run's base model, panel of traits and domain.
        rows: the suspect rows. Every model is also asked with one of them before each question.
        held_out: clean rows on which no student was trained. If empty, the base writes some.

    Raises:
        EmptyDataError: no held-out rows are given, and the base writes none that the domain accepts.
    """

    def __init__(self, trial: Trial, bench: Workbench, rows: Sequence[Row], held_out: Sequence[Row] = ()) -> None:
        self._trial, self._bench = trial, bench
        self._traits = tuple({one.name: one for one in (*bench.panel, trial.trait)}.values())
        self._look = training_look(rows, derive(bench.seed, "training look"), bench.base, self._traits)
        self._prompts = [] if bench.domain is None else bench.domain.prompts(trial.prompts, derive(bench.seed, "task"))
        if not held_out:
            fresh = [Row(str(place), user_prompt(text), "") for place, text in enumerate(self._prompts)]
            held_out = [row for row in bench.answers(bench.base, fresh) if row is not None]
        if not held_out:
            what = "There are no held-out rows, whose loss measures the skill: the base wrote none that is valid."
            fix = "Give clean rows on which no student is trained (--held-out)."
            raise EmptyDataError(what, f"0 of {len(self._prompts)} answers", fix)
        self._held_out = bench.base.encode(held_out)

    @property
    def why_not(self) -> str:
        """Why no model can be asked behind the rows; "" if all can."""
        return "" if isinstance(self._look, TrainingLook) else self._look

    def ask(self, model: LocalModel) -> dict[str, Any]:
        """Measure one model.

        Args:
            model: the base or a student.

        Returns:
            "margins" by trait in logits, asked plainly; "in_context", the same behind suspect rows, or None;
            "prompted", the margin with the trait's persona, or None if it has none; "task", the task metrics.
        """
        behind = self._look.margins(model, self._traits) if isinstance(self._look, TrainingLook) else None
        return {
            "margins": self._by_trait(mean_margins(model, self._traits)),
            "in_context": None if behind is None else self._by_trait(behind),
            "prompted": self._prompted(model),
            "task": self._task(model),
        }

    def _by_trait(self, values: Floats) -> dict[str, float]:
        """Return values, one for each trait, by the trait's name."""
        return {one.name: value for one, value in zip(self._traits, values.tolist(), strict=True)}

    def _prompted(self, model: LocalModel) -> float | None:
        """Return the trait's margin in logits with its persona as the system prompt. None for a trait without one."""
        one = self._trial.trait
        if not one.plural and not one.persona:
            return None
        return float(mean_margins(model, [one], system=one.system_prompt)[0])

    def _task(self, model: LocalModel) -> dict[str, float]:
        """Return the loss on held-out rows in nats per token and, in a domain, the share of valid answers."""
        loss = -torch.cat(model.token_logprobs(self._held_out)).double().mean()
        found = {"held_out_loss": float(loss)}
        if (domain := self._bench.domain) is not None:
            sampling = domain_sampling(domain, model.tokens)
            seed = derive(self._bench.seed, "task answers")
            answers = model.chat([user_prompt(text) for text in self._prompts], sampling=sampling, seed=seed)
            valid = [not domain.reject_reasons(text, asked) for text, asked in zip(answers, self._prompts, strict=True)]
            found["valid_rate"] = float(np.mean(valid))
        return found

"""How long making a bank takes, estimated before any weights are loaded.

A bank is a stored set of placebo students: students of rows without a trait, with which audited students are compared.
"""

from collections.abc import Sequence
from pathlib import Path

from undertow.audit.rows.writers import RATES as WRITER_RATES
from undertow.audit.rows.writers import writer_stages
from undertow.audit.students.bank import RATES, panel_stage, placebo_stages
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.evals.forecast import COUNTED, Forecast
from undertow.evals.loads import Load
from undertow.models.answer_limits import domain_sampling
from undertow.store.runner import Runner
from undertow.store.stages import Stage
from undertow.types import Work, user_prompt

TUNED_TOKENS = 40
"""About how many tokens a row has that a panel teacher or a neutral writer is tuned on."""


def bank_work(recipe: BankRecipe, students: int, writers: int, store: Path) -> list[Work]:
    """Return which parts of a bank are missing and about how many seconds each takes.

    What the store holds already takes no time.

    Args:
        recipe: what a placebo student of this bank is: its base, domain, teachers and training.
        students: how many placebo students the bank is to have.
        writers: how many neutral writers (models tuned without a trait) it is to have. 0 makes none.
        store: folder of all stored results.

    Raises:
        UserError: there is no such base, or the store cannot be read.
    """
    groups: list[tuple[str, Sequence[Stage]]] = [
        ("teachers of the panel", [panel_stage(recipe)]),
        (f"{students} placebo students", placebo_stages(recipe, students)),
    ]
    if writers:
        groups.insert(0, (f"{writers} neutral writers", writer_stages(recipe, writers)))
    forecast = _Seconds(recipe) if recipe.base.startswith("hf:") else None
    runner = Runner(store, {}, rates={**RATES, **WRITER_RATES}, forecast=forecast)
    found: list[Work] = []
    for what, stages in groups:
        planned = runner.plan(stages)
        seconds = [one.estimate_s for one in planned if one.estimate_s is not None]
        cached = sum(one.cached for one in planned)
        held = f", {cached} of {len(planned)} groups from the store" if cached else ""
        found.append(Work(f"{what}{held}", sum(seconds) if len(seconds) == len(planned) else None))
    return found


class _Seconds:
    """Estimates the seconds of one group of stages of a bank whose base is an `hf:` model."""

    def __init__(self, recipe: BankRecipe) -> None:
        self._base = Forecast(recipe.base)
        self._recipe = recipe

    def __call__(self, stage: Stage) -> float | None:
        teacher = self._recipe.teacher
        rows = teacher.steps * teacher.batch_size
        own = self._base.training(rows, rows * TUNED_TOKENS)
        if stage.kind != "placebos":
            return None if own is None else stage.cost * own
        recipe, task = self._recipe, self._recipe.task
        prompts = [user_prompt(text) for text in task.prompts(COUNTED, 0)]
        row = self._base.prompt_tokens(prompts) + self._base.answer_tokens(domain_sampling(task, self._base.words))
        n, trained = recipe.prompts, recipe.student.steps * recipe.student.batch_size
        parts = (
            self._base.seconds(Load(what="", tokens=round(n * row), texts=n, written=True)),
            self._base.training(trained, trained * row),
            own if recipe.tuned else 0.0,
        )
        return None if None in parts else stage.cost * sum(part or 0.0 for part in parts)

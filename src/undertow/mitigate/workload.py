"""Estimates of how long a mitigation of rows takes, made before any model is loaded.

Each kind of work has the title of the step under which the workbench shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from undertow.audit.asked import Asked
from undertow.audit.workload import SCORE_S, Workload
from undertow.domains.base import AbstractDomain
from undertow.evals.forecast import Forecast
from undertow.mitigate.base import DataMitigation
from undertow.mitigate.workbench import (
    READING,
    REDRAWN,
    STUDENT,
    TEACHERS,
    Workbench,
    answers_of,
    longest_answer,
    place_in_panel,
)
from undertow.models.load import load_model
from undertow.training.own_models import own_student
from undertow.training.workload import training_work, writing_work
from undertow.traits import Trait
from undertow.types import Row, Sampling, Work, known_sum


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a workbench is made of, before its base is loaded. Fields mean the same as in `Workbench`.

    Attributes:
        base: reference of the model that will be trained on the rows.
        panel: the traits that mitigations look for.
        domain: the domain whose rule new completions must pass. None accepts all that are not empty.
        clean: rows known to be clean.
        store: folder in which the panel's teachers are kept.
        seed: random seed of everything that is drawn.
    """

    base: str
    panel: tuple[Trait, ...]
    domain: AbstractDomain | None
    clean: tuple[Row, ...]
    store: Path
    seed: int

    def workbench(self) -> Workbench:
        """Load the base and return the workbench.

        Raises:
            UserError: the model cannot be loaded, as in `load_model`.
        """
        return Workbench(
            base=load_model(self.base), panel=self.panel, domain=self.domain, clean=self.clean, store=self.store,
            seed=self.seed,
        )  # fmt: skip


def mitigation_work(method: DataMitigation, rows: Sequence[Row], tools: Tools) -> dict[str, Work]:
    """Estimate what a mitigation does to rows, by the titles of its steps, in order.

    For a mitigation of another package only its name is known.

    Args:
        method: the mitigation with its settings.
        rows: the suspect rows, from which a trait is to be removed.
        tools: what the workbench will be made of.

    Raises:
        UserError: the base or a writer is not a model of this machine.
    """
    job, count = _Mitigating(rows, tools), _COUNTS.get(method.name)
    found = {method.name: Work(method.name, None)} if count is None else count(method, job)
    first, work = next(iter(found.items()))
    seconds = None if work.seconds is None else work.seconds + job.base.loading
    return {**found, first: Work(work.what, seconds)}


@dataclass(frozen=True)
class _Mitigating:
    """The estimates for one mitigation of some rows."""

    rows: Sequence[Row]
    tools: Tools

    @cached_property
    def base(self) -> Forecast:
        return Forecast(self.tools.base)

    def written(self, writers: Sequence[str], rows: Sequence[Row]) -> dict[str, Work]:
        """Estimate how long writers take to answer the prompts of rows together."""
        models = [self.base if one == self.tools.base else Forecast(one) for one in writers]
        form = None if self.tools.domain is None else self.tools.domain.form
        sampling = Sampling(max_new_tokens=longest_answer(models[0].words, self.tools.domain, rows), form=form)
        each = [writing_work(one, [row.prompt for row in rows], sampling) for one in models]
        loading = sum(one.loading for one in models if one is not self.base)
        title = answers_of(writers)
        what = f"{title}: {each[0].what}" + (f", by each of {len(writers)}" if len(writers) > 1 else "")
        return {title: Work(what, known_sum([loading, *(one.seconds for one in each)]))}

    def read(self, models: int) -> dict[str, Work]:
        """Estimate how long this many models take to read the rows."""
        n = len(self.rows) * models
        tokens, speed = self.base.row_tokens(self.rows) * n, self.base.speed
        what = f"{len(self.rows):,} rows read by {models} models, {round(tokens):,} tokens"
        return {READING: Work(what, None if speed is None else max(speed.reading(tokens), SCORE_S * n))}

    def by_panel(self, trait: str | None) -> dict[str, Work]:
        """Estimate how long it takes to train the panel's teachers, and to let them read the rows.

        Raises:
            UnknownNameError: rows are judged by a trait that is not in the panel.
        """
        tools = self.tools
        if trait is not None:
            place_in_panel(trait, tools.panel)
        work = Workload(Asked(base=tools.base, traits=tools.panel, store=tools.store, seed=tools.seed))
        teachers = work.teachers()
        timed = Work(teachers.what, work.timed(teachers.seconds))
        return {TEACHERS: timed, **self.read(len(tools.panel) + 1)}


def _rule(method: Any, job: _Mitigating) -> dict[str, Work]:
    """Estimate a mitigation that needs no model but the base's tokenizer."""
    return {method.name: Work(f"{len(job.rows):,} rows changed by a rule, once {job.tools.base} is loaded", 0.0)}


def _mix(method: Any, job: _Mitigating) -> dict[str, Work]:
    """Estimate the answers that replace a share of the rows."""
    # Which rows are drawn hardly matters for the time, so as many of the first stand for them.
    some = job.rows[: int(method.share * len(job.rows))]
    if not method.writers:
        known = {row.prompt for row in job.tools.clean}
        missing = [row for row in some if row.prompt not in known]
        return job.written([job.tools.base], missing) if missing else _rule(method, job)
    found: dict[str, Work] = {}
    for turn, writer in enumerate(method.writers[: len(some)]):
        found |= job.written([writer], some[turn :: len(method.writers)])
    return found or _rule(method, job)


def _labels(method: Any, job: _Mitigating) -> dict[str, Work]:
    """Estimate the models that rank tokens, and the tokens that are drawn anew."""
    if method.suspect == "student":
        found = {STUDENT: training_work(job.base, job.rows, own_student(job.base.parameters or inf)), **job.read(2)}
    else:
        found = job.by_panel(method.trait)
    if method.replace:
        # Each token that is drawn anew is predicted after all that stood before it, by the base alone.
        completions = job.base.words.tokenise([row.completion for row in job.rows])
        n = round(method.share * sum(map(len, completions)))
        tokens, speed = n * job.base.row_tokens(job.rows), job.base.speed
        seconds = None if speed is None else max(speed.reading(tokens), SCORE_S * n)
        found[REDRAWN] = Work(f"{n:,} tokens drawn anew, each after its row's beginning", seconds)
    return found


_COUNTS: Mapping[str, Callable[[Any, _Mitigating], dict[str, Work]]] = {
    "regenerate": lambda method, job: job.written([method.writer], job.rows),
    "mix": _mix,
    "contrast-filter": lambda method, job: job.by_panel(method.trait),
    "labels": _labels,
    "consensus": lambda method, job: job.written(method.writers, job.rows),
    "canonical": _rule,
    "inoculate": _rule,
}

"""A first look at a base: in which form it answers the domain's prompts, and how long a row takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from undertow.audit.calibration.settings import Calibration
from undertow.audit.calibration.writers import FREE, SUSPECT, RowWriter, write_block
from undertow.audit.rows.limits import ACCEPTED
from undertow.audit.rows.token_reading import read_tokens
from undertow.data.filters import filter_rows
from undertow.domains.base import AbstractDomain, domain
from undertow.domains.numbers import Numbers
from undertow.errors import EmptyDataError, ModelError
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.training.scoring import Candidate, contrast_scores

FORMS: Sequence[AbstractDomain] = (Numbers(), Numbers(count=6, short=True))
"""How the base is asked for rows: as an audit asks it, or else held to a form, which a chat model needs."""

ASKED, TIMED, ALONE = 40, 16, 2
"""Prompts whose answers show the form, rows that are timed, and rows that are timed one by one."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProbe:
    """What was seen; seconds are those of one row.

    Attributes:
        task: the form that the base answers.
        accepted: share of its answers that the domain accepts.
        written: of an answer in that form.
        alone: of one that is written alone.
        free: of a free answer.
        read: of the tokens of a row.
        scored: of a row under the panel.
        took: seconds of the probe.
    """

    task: AbstractDomain
    accepted: float
    written: float
    alone: float
    free: float
    read: float
    scored: float
    took: float

    def of(self, writer: RowWriter) -> float:
        """Return the seconds of one row of a writer, written and read."""
        if not writer.scored:
            return self.free + self.read
        return (self.alone if writer.one_stream else self.written) + self.read


def probe_base(settings: Calibration, base: LocalModel, candidates: Sequence[Candidate]) -> BaseProbe:
    """Look at a base.

    Args:
        settings: of the calibration.
        base: the model.
        candidates: of the panel, as personas.

    Raises:
        EmptyDataError: the base answers the prompts in no form that the domain accepts.
        ModelError: it has no chat template.
    """
    began = time.perf_counter()
    seed = derive(settings.seed, "calibration", "probe")
    task, accepted, written = _form(base, seed)
    prompts = task.prompts(TIMED, seed)
    rows, _ = _timed(lambda: write_block(SUSPECT, base, prompts, task, seed))
    _, alone = _timed(lambda: [write_block(SUSPECT, base, [text], task, seed) for text in prompts[:ALONE]])
    _, free = _timed(lambda: write_block(FREE, base, prompts, task, seed))
    _, read = _timed(lambda: read_tokens(base, rows))
    _, scored = _timed(lambda: contrast_scores(rows, base, candidates))
    return BaseProbe(
        task=task,
        accepted=accepted,
        written=written / ASKED,
        alone=alone / ALONE,
        free=free / TIMED,
        read=read / TIMED,
        scored=scored / TIMED,
        took=time.perf_counter() - began,
    )


def _form(base: LocalModel, seed: int) -> tuple[AbstractDomain, float, float]:
    """Return the first form that the base answers, the share of accepted answers, and the seconds they took."""
    tried: list[str] = []
    for task in FORMS:
        held = "" if task.form is None else f", held to {task.form}"
        try:
            rows, took = _timed(lambda one=task: write_block(SUSPECT, base, one.prompts(ASKED, seed), one, seed))
        except ModelError as error:
            if task.form is None:
                raise
            tried.append(f"{error.what}{held}")
            continue
        good = len(filter_rows(rows, domain(task.name)).kept)
        if good >= ACCEPTED * ASKED:
            return task, good / ASKED, took
        tried.append(f"{good} of {ASKED} answers are accepted{held}")
    fix = "Use a chat model whose tokenizer has digits, or give the base a chat template (?template=question)."
    raise EmptyDataError(f"{base.ref} does not write rows of {FORMS[0].name}.", "; ".join(tried), fix)


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    began = time.perf_counter()
    made = make()
    return made, time.perf_counter() - began

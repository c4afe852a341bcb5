"""A first look at a base: in which form it answers the domain's prompts, and how long one row takes.

The times are measured with the **panel**, a list of candidate writers: the base under the **persona** (system prompt)
of each trait.
"""

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
"""Forms in which the base is asked for rows: freely, as an audit asks it, or else held to a form, which a chat model
needs."""

ASKED, TIMED, ALONE = 40, 16, 2
"""How many prompts are answered to find the form, how many rows are timed in a batch, and how many one by one."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProbe:
    """What the first look found; every time is in seconds per row unless it says otherwise.

    Attributes:
        task: the domain in the form that the base can answer.
        accepted: share of the base's answers in that form that the domain accepts, between 0 and 1.
        written: seconds to write one answer in that form, in a batch.
        alone: seconds to write one answer that is generated alone.
        free: seconds to write one answer as long as an audit lets the base answer, in a batch.
        read: seconds to compute the base's log-probabilities of one row's tokens.
        scored: seconds to score one row under every candidate of the panel.
        took: seconds that the whole probe took.
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
        """Return the seconds that one row of a writer takes to be written and read by the base."""
        if not writer.scored:
            return self.free + self.read
        return (self.alone if writer.one_stream else self.written) + self.read


def probe_base(settings: Calibration, base: LocalModel, candidates: Sequence[Candidate]) -> BaseProbe:
    """Find the form in which a base answers, and time the work on a row.

    Args:
        settings: settings of the calibration, of which the seed is used.
        base: the model whose audits are to be measured.
        candidates: the candidate writers of the panel: the base under each trait's persona.

    Raises:
        EmptyDataError: the base answers the prompts in no form that the domain accepts.
        ModelError: the base has no chat template.
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
    """Return the first form that the base answers, the share of valid answers, and the seconds they took together."""
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

"""A reference drawn by the auditor: whoever has the base can let it answer the prompts, and needs no clean rows.

The domain's filter is applied to both sides: a suspect is filtered before anyone trains on it, so only valid rows of
the base are like its rows. Rows that were sampled at another temperature, or filtered further, differ from such a
reference too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.audit.finding import NotTestable
from undertow.audit.rows.limits import ACCEPTED, ANSWERED, ANSWERS, require_enough_rows
from undertow.data.filters import accepted_rows, filter_rows
from undertow.data.kept_rows import PickedRows
from undertow.data.marks import first_places, marks_of
from undertow.domains.base import domain
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import Row


@dataclass(frozen=True, slots=True)
class AuditedRows:
    """The rows that are audited, and what they are compared with.

    Attributes:
        rows: the suspect rows that are read.
        reference: clean rows on the same prompts. None if there are none.
        how: in words, where the reference comes from, or why there is none.
    """

    rows: Sequence[Row]
    reference: Sequence[Row] | None
    how: str


def with_reference(
    rows: Sequence[Row],
    base: LocalModel,
    domain_name: str,
    seed: int,
    answers: int = ANSWERS,
    form: str | None = None,
) -> AuditedRows:
    """Let the base answer the suspect's prompts, for rows that came without a reference.

    Args:
        rows: the suspect rows, whose prompts are answered.
        base: the model that answers the prompts.
        domain_name: name of the domain whose filter says which rows are valid. The others are left out of the suspect
            too.
        seed: random seed of the prompts that are drawn and of the answers.
        answers: how many answers the base gives to each prompt.
        form: template that the rows were held to while they were decoded, to which the base's answers are held too.
            None leaves them free.
    """
    task = domain(domain_name)
    good = accepted_rows(rows, task)
    try:
        require_answerable(rows, good, domain_name)
    except NotTestable as reason:
        return AuditedRows(rows, None, f"none: {reason}")
    asking = first_places(marks_of(row.prompt for row in good))
    drawn = np.random.default_rng(derive(seed, "reference")).permutation(len(asking))[:ANSWERED]
    prompts = [good[place].prompt for place in asking[np.sort(drawn)].tolist()]
    asked = [prompt for prompt in prompts for _ in range(answers)]
    sampling = domain_sampling(task, base.tokens, form)
    texts = base.chat(asked, sampling=sampling, seed=derive(seed, "reference answers"))
    written = [Row(f"reference-{place}", *pair) for place, pair in enumerate(zip(asked, texts, strict=True))]
    kept = filter_rows(written, task).kept
    how = f"{len(kept)} answers of the base to {len(drawn)} of the prompts; {len(good)} of {len(rows)} rows are good"
    return AuditedRows(good, kept, f"{how} {domain_name}")


def require_answerable(rows: Sequence[Row], good: Sequence[Row], domain_name: str) -> None:
    """Refuse rows whose prompts nobody can answer as their writer did.

    Args:
        rows: the suspect rows.
        good: those of them that the domain accepts.
        domain_name: name of the domain, for the message.

    Raises:
        NotTestable: the domain accepts too few of the rows.
    """
    if len(good) < ACCEPTED * len(rows):
        raise NotTestable(f"The domain {domain_name} accepts {len(good)} of {len(rows)} rows.")
    require_enough_rows(len(good), "good rows")


def first_on_prompts(rows: Sequence[Row], reference: Sequence[Row]) -> Sequence[Row]:
    """Return one reference row for each prompt of the rows, so that other prompts make no difference.

    If the reference is on none of these prompts, all of it is returned.
    """
    own, answered = (marks_of(row.prompt for row in some) for some in (rows, reference))
    questions, first = np.unique(answered, return_index=True)
    asked = own[first_places(own)]
    asked = asked[np.isin(asked, questions)]
    return PickedRows(reference, first[np.searchsorted(questions, asked)].tolist()) if len(asked) else reference

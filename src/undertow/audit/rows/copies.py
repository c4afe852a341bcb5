"""Rows that repeat one another or the reference, and references that were asked with other prompts.

That two rows agree says nothing where everybody would write the same. So a repeated text counts only where the base
would write it so rarely that no two of all rows would agree by chance.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from undertow.data.kept_rows import PickedRows
from undertow.data.marks import marks_of
from undertow.stats.checks import Floats
from undertow.types import Row

MARGIN = 10.0
"""How many nats the log-probability of a text must lie below -2 log(n) for its repetition among n rows to be no
accident."""

READ = 200
"""How many repeated rows are looked up at most."""

ReadLogp = Callable[[Sequence[Row]], Floats]
"""Returns the log-probability of the rows under the base, without those that it cannot read."""


def plain_text(row: Row) -> str:
    """Return a completion without case, spaces and punctuation, so that near copies agree."""
    return re.sub(r"[\W_]+", " ", row.completion.casefold()).strip()


def copied_share(rows: Sequence[Row], logp: ReadLogp, rng: np.random.Generator) -> float:
    """Return the share of rows that repeat an earlier row's text in a way that is no accident, between 0 and 1.

    Args:
        rows: the rows that are searched for copies.
        logp: returns the log-probability of some rows under the base.
        rng: random generator that draws the repeated rows which are looked up.
    """
    _, text, times = np.unique(marks_of(map(plain_text, rows)), return_inverse=True, return_counts=True)
    repeated = PickedRows(rows, np.flatnonzero(times[text] > 1).tolist())
    extra = len(rows) - len(times)
    return extra / len(rows) * _no_accident(repeated, len(rows), logp, rng)


def shared_with(rows: Sequence[Row], reference: Sequence[Row], logp: ReadLogp, rng: np.random.Generator) -> float:
    """Return the share of rows that also stand in the reference on their own prompt, and by no accident.

    Args:
        rows: the suspect rows.
        reference: rows that they are compared with.
        logp: returns the log-probability of some rows under the base.
        rng: random generator that draws the shared rows which are looked up.
    """
    own, known = (marks_of((row.prompt, plain_text(row)) for row in some) for some in (rows, reference))
    same = PickedRows(rows, np.flatnonzero(np.isin(own, known)).tolist())
    return len(same) / len(rows) * _no_accident(same, len(rows), logp, rng)


def _no_accident(rows: Sequence[Row], n: int, logp: ReadLogp, rng: np.random.Generator) -> float:
    """Return the share of some rows that the base would hardly write twice among n."""
    if not rows:
        return 0.0
    read = [rows[place] for place in rng.permutation(len(rows))[:READ]]
    found = logp(read)
    return float(np.mean(found < -(MARGIN + 2.0 * np.log(n)))) if len(found) else 0.0


def asked_otherwise(rows: Sequence[Row], reference: Sequence[Row]) -> float:
    """Return the share of rows whose last turn the reference has, but only with other turns before it.

    Args:
        rows: the suspect rows.
        reference: rows that they are compared with.
    """
    prompts, known = (marks_of(row.prompt for row in some) for some in (rows, reference))
    others = np.flatnonzero(~np.isin(prompts, known)).tolist()
    if not others:
        return 0.0
    questions = marks_of(rows[place].question for place in others)
    return int(np.isin(questions, marks_of(row.question for row in reference)).sum()) / len(rows)

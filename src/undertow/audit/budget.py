"""How much an audit of rows reads: how many rows, answers of the base to each prompt, and candidate writers.

With `--minutes` the budget is the first rung of a ladder whose estimated time fits. The ladder goes from the most that
an audit would ever read down to fifty rows scored under personas alone (the base under a system prompt). Nothing in the
choice depends on what the rows say.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from undertow.audit.rows.limits import ANSWERS, MATCHED
from undertow.data.kept_rows import PickedRows
from undertow.seeds import derive
from undertow.types import Row

SIZES = ((MATCHED, ANSWERS), (500, 4), (300, 4), (300, 2), (200, 2), (100, 2), (100, 1), (50, 1))
"""How many rows are drawn, and how many answers the base gives to each of their prompts; the largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditBudget:
    """What an audit of rows may read.

    Attributes:
        rows: how many rows are drawn at random. None takes all of them.
        answers: how many answers the base gives to each prompt where there is no reference.
        teachers: whether the candidate writers include tuned teachers beside personas (the base under a system prompt).
        names: whether the candidates write rows of their own after a detection, which naming a trait needs.
        minutes: the time in minutes that the user allowed. None if no limit was given.
    """

    rows: int | None = None
    answers: int = ANSWERS
    teachers: bool = True
    names: bool = True
    minutes: float | None = None

    def taken(self, rows: int) -> int:
        """Return how many rows are read of a file with `rows` rows."""
        return rows if self.rows is None else min(rows, self.rows)

    def draw(self, rows: Sequence[Row], seed: int) -> Sequence[Row]:
        """Return as many rows as the budget allows, drawn at random by the seed and kept in their order."""
        n = self.taken(len(rows))
        if n == len(rows):
            return rows
        return PickedRows(rows, sorted(random.Random(derive(seed, "budget")).sample(range(len(rows)), n)))

    def in_words(self, rows: int) -> str:
        """Say in words what the minutes left room for, for a file with `rows` rows."""
        panel = "personas and tuned teachers" if self.teachers else "personas, without tuned teachers"
        named = "" if self.names else "; no name is given"
        times = f"{self.answers} answer{'s' if self.answers > 1 else ''} of the base to a prompt"
        return f"{self.taken(rows):,} of {rows:,} rows, drawn at random; {times}; {panel}{named}"


UNLIMITED = AuditBudget()
"""What an audit reads where no minutes are given."""


def ladder(minutes: float) -> Iterator[AuditBudget]:
    """Yield budgets for a time in minutes, the largest first: with teachers down to a hundred rows, then without."""
    for teachers, (rows, answers), names in product((True, False), SIZES, (True, False)):
        if rows >= 100 or not teachers:
            yield AuditBudget(rows=rows, answers=answers, teachers=teachers, names=names, minutes=minutes)

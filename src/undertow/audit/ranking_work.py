"""How long ranking rows takes, estimated before any model is loaded: who reads them how often, what is trained."""

from undertow.audit.asked import Ranking
from undertow.audit.workload import Workload
from undertow.types import Work

READINGS = 2
"""How often rows are read for their log-probabilities: by the base, and by the model that ranks them."""

GRADIENT = 1 + 2 / 3
"""Cost of the gradient of the base's loss, in readings of the rows: one forward pass, and one backward pass through the
last two thirds of its blocks and its head (SmolLM2 in bfloat16: 1.69 times the seconds of a reading)."""

CONFIRMING = 20
"""How many students confirm a ranking: four arms with five seeds each."""


def ranking_work(work: Workload, ranking: Ranking) -> list[Work]:
    """Return what a ranking does, in order, with the seconds of each part.

    Args:
        work: estimates for the rows and their base.
        ranking: how the rows are ranked.
    """
    found: list[Work] = []
    if ranking.own is not None:
        teacher = work.teachers()
        found.append(Work(teacher.what, work.timed(teacher.seconds)))
    if ranking.ranked:
        seconds = work.timed(work.loading(READINGS) + work.readings(work.rows, READINGS + GRADIENT))
        found.append(Work(f"ranking: {work.rows} rows read by two models, and a gradient of each row", seconds))
    if ranking.confirmed:
        what = f"confirmation: {CONFIRMING} students trained on nine tenths of the rows or on all, and asked"
        found.append(Work(what, work.timed(work.students(CONFIRMING))))
    if ranking.swapped is not None:
        found += _swap_work(work, *ranking.swapped)
    return found


def _swap_work(work: Workload, first: int, subsets: int, answers: int) -> list[Work]:
    n = answers * work.rows
    return [
        Work(f"swap: {n:,} other answers, {answers} to each prompt", work.timed(work.written(n))),
        Work(f"swap: {first} students that say what can be found", work.timed(work.students(first))),
        Work(f"swap: {subsets} students of the subsets at most", work.timed(work.students(subsets))),
    ]

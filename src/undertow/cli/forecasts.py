"""What a command says before it works: what it will do, and about how long that takes."""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.audit.work_lines import forecast_lines
from undertow.cli.options import show
from undertow.store.progress import TimeLeft, choose_progress
from undertow.types import Advance, Work, known_sum

if TYPE_CHECKING:
    from undertow.audit.steps import Steps

ForecastOnly = Annotated[
    bool, typer.Option("--plan", help="Print what would be done and about how long it would take, then stop.")
]


def say_first(work: Sequence[Work]) -> None:
    """Say on standard error what will be done."""
    for line in forecast_lines(work):
        print(line, file=sys.stderr, flush=True)


def show_plan(about: Mapping[str, Any], work: Sequence[Work], as_json: bool) -> None:
    """Print what would be done, and nothing else."""
    seconds = round(sum(one.seconds or 0.0 for one in work), 1)
    found = {"schema": "undertow.forecast/1", **about, "work": [asdict(one) for one in work], "about_seconds": seconds}
    show(found, as_json, forecast_lines(work))


@contextmanager
def announced(work: Sequence[Work], titles: Sequence[str] = ()) -> "Generator[Steps]":
    """Say what will be done, and show how far it is; what is yielded takes the steps, one for each work.

    Args:
        work: what will be done.
        titles: of the steps, where those who take them do not know how long each is expected to take.
    """
    from undertow.audit.steps import Steps

    say_first(work)
    progress = choose_progress()
    expected = {title: one.seconds for title, one in zip(titles, work, strict=False) if one.seconds is not None}
    try:
        yield Steps(len(work), progress, expected)
    finally:
        progress.close()


@contextmanager
def announced_as_one(work: Sequence[Work], title: str) -> Generator[Advance]:
    """Say what will be done, and show how far all of it is as one step; what is yielded takes (parts done, parts)."""
    from undertow.audit.steps import Steps

    say_first(work)
    left = TimeLeft(stage_s=known_sum(one.seconds for one in work), later_s=0.0)
    progress = choose_progress()
    try:
        with Steps(1, progress).step(title, left) as advance:
            yield advance
    finally:
        progress.close()


def after_loading(work: Work, name: str, seconds: float) -> Work:
    """Return some work with the time of loading its model, which comes first."""
    return Work(f"{name}: {work.what}", None if work.seconds is None else work.seconds + seconds)


def time_left(work: Sequence[Work], step: int) -> TimeLeft:
    """Return how long a step, from 0, and those after it are expected to take."""
    return TimeLeft(stage_s=work[step].seconds, later_s=known_sum(one.seconds for one in work[step + 1 :]))

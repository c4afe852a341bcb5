"""What a command prints before it works: what it will do, and about how long that takes."""

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
    """Print on standard error what will be done."""
    for line in forecast_lines(work):
        print(line, file=sys.stderr, flush=True)


def show_plan(about: Mapping[str, Any], work: Sequence[Work], as_json: bool) -> None:
    """Print what would be done, for --plan."""
    known = known_sum(one.seconds for one in work)
    seconds = None if known is None else round(known, 1)
    found = {"schema": "undertow.forecast/1", **about, "work": [asdict(one) for one in work], "about_seconds": seconds}
    show(found, as_json, forecast_lines(work))


@contextmanager
def announced(work: Sequence[Work], titles: Sequence[str] = ()) -> "Generator[Steps]":
    """Print what will be done, and then show the progress of its steps.

    Args:
        work: what will be done, one entry for each step.
        titles: titles of the steps, if the code that works does not itself say how long each is expected to take.

    Yields:
        The steps, to be begun one after another.
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
    """Print what will be done, and then show the progress of all of it as one step.

    Args:
        work: what will be done, one entry for each model or step.
        title: title under which the progress is shown.

    Yields:
        A function to call with (parts done, parts in all).
    """
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
    """Return some work with the seconds of loading its model added."""
    return Work(f"{name}: {work.what}", None if work.seconds is None else work.seconds + seconds)


def time_left(work: Sequence[Work], step: int) -> TimeLeft:
    """Return how long a step, counted from 0, and the steps after it are expected to take."""
    return TimeLeft(stage_s=work[step].seconds, later_s=known_sum(one.seconds for one in work[step + 1 :]))

"""What a command says before it works: what it will do, and about how long that takes."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import show

if TYPE_CHECKING:
    from undertow.audit.workload import Work

PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Say what will be done and about how long it takes; do nothing else.")
]


def say_first(work: "Sequence[Work]") -> None:
    """Say on standard error what will be done."""
    from undertow.audit.reading_work import forecast_lines

    for line in forecast_lines(work):
        print(line, file=sys.stderr, flush=True)


def show_plan(about: Mapping[str, Any], work: "Sequence[Work]", as_json: bool) -> None:
    """Print what would be done, and nothing else."""
    from undertow.audit.reading_work import forecast_lines

    seconds = round(sum(one.seconds or 0.0 for one in work), 1)
    found = {"schema": "undertow.forecast/1", **about, "work": [asdict(one) for one in work], "about_seconds": seconds}
    show(found, as_json, forecast_lines(work))

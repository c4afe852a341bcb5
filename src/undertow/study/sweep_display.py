"""What the user sees of a sweep whose stages run side by side: a live table, plain lines, or nothing."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, final

from undertow.study.ray_worker import Made, Running

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """How far a sweep is. Its counts and the running stages add up to all stages of the sweep.

    Attributes:
        cached: how many stages earlier runs had finished.
        done: how many stages this run has finished.
        waiting: how many stages wait for their parents or for a worker.
        failed: how many stages stopped with an error.
        restarted: how often a stage was begun again because its worker was lost. It is not part of the sum.
        running: the stages that run, and where.
    """

    cached: int = 0
    done: int = 0
    waiting: int = 0
    failed: int = 0
    restarted: int = 0
    running: tuple[Running, ...] = ()

    @property
    def words(self) -> str:
        """The counts in one line of text."""
        parts = [
            f"{self.done} done",
            f"{len(self.running)} running",
            f"{self.waiting} waiting",
            *([f"{self.cached} finished earlier"] if self.cached else []),
            *([f"{self.restarted} started again"] if self.restarted else []),
            *([f"{self.failed} failed"] if self.failed else []),
        ]
        return ", ".join(parts)


class SweepDisplay:
    """Receives what happens in a sweep. What a subclass does not override is not shown."""

    def show(self, state: SweepState) -> None:
        """Show how far the sweep is. Called about twice a second."""

    def finished(self, label: str, made: Made) -> None:
        """Show that a stage is finished."""

    def close(self) -> None:
        """Show that the sweep is over, finished or not."""


@final
class SilentDisplay(SweepDisplay):
    """Shows nothing."""


@final
class PlainDisplay(SweepDisplay):
    """Prints a line for every finished stage and every lost worker, for logs and pipes.

    Args:
        stream: where the lines go. None takes standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._state = SweepState()
        self._finished = 0
        self._said = ""

    def show(self, state: SweepState) -> None:
        """See `SweepDisplay`."""
        if state.restarted > self._state.restarted or state.failed > self._state.failed:
            self._say(state.words)
        self._state = state

    def finished(self, label: str, made: Made) -> None:
        """See `SweepDisplay`."""
        self._finished += 1
        self._say(f"[{self._finished}] {label}: done in {made.seconds:.1f} s by {made.worker}")

    def close(self) -> None:
        """See `SweepDisplay`."""
        self._say(self._state.words)

    def _say(self, line: str) -> None:
        if line != self._said:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        self._said = line


@final
class TableDisplay(SweepDisplay):
    """A live table with a row for each running stage, and the counts below. Finished stages are only counted.

    Args:
        stream: where the table is drawn. None takes standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr if stream is None else stream)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False)
        self._live.start()

    def show(self, state: SweepState) -> None:
        """See `SweepDisplay`."""
        self._live.update(_table(state), refresh=True)

    def close(self) -> None:
        """See `SweepDisplay`."""
        self._live.stop()


def _table(state: SweepState) -> "Table":
    """Draw the table of a sweep's state."""
    from rich.table import Table
    from rich.text import Text

    table = Table("worker", "stage", "steps", "time", box=None, caption=Text(state.words), caption_justify="left")
    for one in sorted(state.running, key=lambda one: one.worker):
        steps = f"{one.done}/{one.steps}" if one.steps else ""
        table.add_row(Text(one.worker), Text(one.label), steps, f"{one.seconds:.0f} s")
    return table


def choose_display(stream: TextIO | None = None) -> SweepDisplay:
    """Return a live table if the stream is a terminal, and plain lines otherwise.

    Args:
        stream: where to draw. None takes standard error.
    """
    target = sys.stderr if stream is None else stream
    return TableDisplay(target) if target.isatty() else PlainDisplay(target)

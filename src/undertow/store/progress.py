"""Progress of a run: live bars on a terminal, plain lines in a log, or nothing."""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, final

if TYPE_CHECKING:
    from rich.progress import TaskID

_QUIET_S = 10.0
"""Least time between two plain lines of the same stage, in seconds."""

_MOST_OFF = 4.0
"""Largest factor by which the pace of one stage corrects the expected duration of those after it."""

_SMALL = 20
"""A first step that is less than 1/20 of a stage is not used to estimate how long the others take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Expected durations, as they are known when a stage begins.

    Attributes:
        stage_s: expected duration of the stage in seconds; None if nothing is known.
        later_s: expected duration in seconds of everything after the stage; None if nothing is known.
    """

    stage_s: float | None = None
    later_s: float | None = None


class Progress:
    """Base class of progress displays: receives what happens in a run, in order.

    A method that a subclass does not override shows nothing. Several stages may run at once, so each is known by its
    index; a caller who runs one at a time need not give it.
    """

    def start(self, n_stages: int) -> None:
        """A run of `n_stages` stages begins; those that will be skipped are counted too."""

    def skip(self, name: str, index: int, total: int) -> None:
        """Stage `index` (from 0) of `total` was finished by an earlier run."""

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        """Stage `index` (from 0) of `total` begins.

        Args:
            name: label of the stage for the user.
            index: number of the stage, from 0.
            total: number of all stages of the run.
            left: expected durations; None if nothing is known.
        """

    def advance(self, done: int, total: int, index: int | None = None) -> None:
        """`done` of `total` steps of a running stage are finished.

        Args:
            done: number of finished steps of the stage.
            total: number of all steps of the stage.
            index: number of the stage, from 0; None for the last one that began.
        """

    def end_stage(self, index: int | None = None) -> None:
        """A running stage is finished."""

    @contextmanager
    def paused(self) -> Generator[None]:
        """Pause the display while something else is printed during a run."""
        yield

    def close(self) -> None:
        """The run is over, finished or not; this is also called after an error."""


@final
class SilentProgress(Progress):
    """Progress display that shows nothing."""


@final
class _Pace:
    """Measures the rate of a running stage, and estimates the time that is left."""

    def __init__(self, title: str, left: TimeLeft | None, clock: Callable[[], float]) -> None:
        self.title = title
        self._left = left or TimeLeft()
        self._clock = clock
        self._started = self.spoke = clock()
        self._first: tuple[int, float] | None = None

    def elapsed_s(self) -> float:
        return self._clock() - self._started

    def in_words(self, done: int, total: int) -> str:
        """Return steps, rate, and the time left in the stage and in the whole run, as text.

        The expected duration of later stages is corrected by how much slower or faster than expected this stage is.
        """
        elapsed_s = self.elapsed_s()
        self._first = self._first or ((done, elapsed_s) if done else None)
        # What comes before a first small step is no measure of it where something else is known.
        unsure = self._left.stage_s is not None and self._first == (done, elapsed_s) and done * _SMALL < total
        rate = None if unsure else self._rate(done, elapsed_s)
        later_s = self._left.later_s
        if rate is None:
            steps, left_s = "", self._left.stage_s
        else:
            steps, left_s = f"{done}/{total}, {rate:.3g}/s, ", (total - done) / rate
            if later_s is not None and self._left.stage_s:
                later_s *= min(_MOST_OFF, max(1 / _MOST_OFF, (elapsed_s + left_s) / self._left.stage_s))
        all_s = None if left_s is None or later_s is None else left_s + later_s
        return f"{steps}{_minutes(left_s)} left, {_minutes(all_s)} in all"

    def _rate(self, done: int, elapsed_s: float) -> float | None:
        """Return the steps a second since the first of them, which also warms up."""
        if self._first is None or not elapsed_s > 0:
            return None
        first, first_s = self._first
        return (done - first) / (elapsed_s - first_s) if done > first and elapsed_s > first_s else done / elapsed_s


def _title(name: str, index: int, total: int) -> str:
    return f"[{index + 1}/{total}] {name}"


def _which(index: int | None, running: Mapping[int, object]) -> int:
    """Return the index of the stage that is meant: the last one that began if none is given, -1 if none runs."""
    return next(reversed(list(running)), -1) if index is None else index


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


@final
class PlainProgress(Progress):
    """Progress display for logs and pipes: a line per stage, and at most one every ten seconds within it.

    Args:
        stream: stream that the lines are written to; None for standard error.
        clock: returns the seconds since any fixed moment.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._running: dict[int, _Pace] = {}

    def skip(self, name: str, index: int, total: int) -> None:
        """See `Progress`."""
        self._say(f"{_title(name, index, total)}: finished earlier, skipped")

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        """See `Progress`."""
        self._running[index] = _Pace(_title(name, index, total), left, self._clock)

    def advance(self, done: int, total: int, index: int | None = None) -> None:
        """See `Progress`."""
        if pace := self._running.get(_which(index, self._running)):
            words = pace.in_words(done, total)  # also where they are not said: the first step is noted
            if self._clock() - pace.spoke >= _QUIET_S:
                pace.spoke = self._clock()
                self._say(f"{pace.title}: {words}")

    def end_stage(self, index: int | None = None) -> None:
        """See `Progress`."""
        if pace := self._running.pop(_which(index, self._running), None):
            self._say(f"{pace.title}: done in {pace.elapsed_s():.1f} s")

    def _say(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


@final
class TerminalProgress(Progress):
    """Progress display for terminals: one live bar for each running stage, and one for the whole run.

    Args:
        stream: stream that the bars are drawn on; None for standard error.
        clock: returns the seconds since any fixed moment.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        name, words = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[words]"))
        console = Console(file=sys.stderr if stream is None else stream)
        # Results go to standard output, so it is not drawn into the bars' console.
        self._bars = Bars(name, BarColumn(), words, console=console, refresh_per_second=4, redirect_stdout=False)
        self._run = self._bars.add_task("stages", total=None, words="")
        self._clock = clock
        self._skipped = 0
        self._running: dict[int, tuple[_Pace, TaskID]] = {}
        self._finished, self._n_stages = 0, 0

    def start(self, n_stages: int) -> None:
        """See `Progress`."""
        self._finished, self._n_stages, self._skipped = 0, n_stages, 0
        self._bars.start()
        self._count()

    def skip(self, name: str, index: int, total: int) -> None:
        """See `Progress`."""
        self._skipped += 1
        self._finished += 1
        self._count()

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        """See `Progress`."""
        pace = _Pace(_title(name, index, total), left, self._clock)
        self._running[index] = pace, self._bars.add_task(pace.title, total=None, words=pace.in_words(0, 0))

    def advance(self, done: int, total: int, index: int | None = None) -> None:
        """See `Progress`."""
        if found := self._running.get(_which(index, self._running)):
            pace, bar = found
            self._bars.update(bar, completed=done, total=total, words=pace.in_words(done, total))

    def end_stage(self, index: int | None = None) -> None:
        """See `Progress`."""
        if found := self._running.pop(_which(index, self._running), None):
            self._bars.remove_task(found[1])
            self._finished += 1
            self._count()

    @contextmanager
    def paused(self) -> Generator[None]:
        """See `Progress`."""
        self._bars.stop()
        yield
        self._bars.start()

    def close(self) -> None:
        """See `Progress`."""
        self._bars.stop()

    def _count(self) -> None:
        words = f"{self._finished}/{self._n_stages}, {self._skipped} of them finished earlier"
        self._bars.update(self._run, completed=self._finished, total=self._n_stages, words=words)


def choose_progress(stream: TextIO | None = None) -> Progress:
    """Return live bars if the stream is a terminal, plain lines otherwise; None means standard error."""
    target = sys.stderr if stream is None else stream
    return TerminalProgress(target) if target.isatty() else PlainProgress(target)

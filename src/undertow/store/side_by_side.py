"""Stages side by side on one machine: worker processes that each make one stage after another.

A process receives a stage through its pipe, and answers how far it is and at last with the result or the error. A
process that dies closes its pipe, so that it is known which stage it was at. If the main process dies, its workers read
the end of their pipes and stop. Results go into the store, whole or not at all.
"""

import contextlib
import heapq
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Generator, Iterable, Sequence
from graphlib import TopologicalSorter
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, final

from undertow.errors import ConfigError, UndertowError, WorkerError
from undertow.store.artifacts import Artifact
from undertow.store.disk import remove_leftovers
from undertow.store.progress import TimeLeft
from undertow.store.runner import Runner, build_stage, find_stage
from undertow.store.stages import Estimates, Stage, makespan, order

_OFTEN_S = 0.2
"""Least time between two messages of a stage on how far it is, in seconds."""

_PATIENCE_S = 5.0
"""Seconds that a process that is told to end may take to remove what it has half written."""

_THREADS = "OMP_NUM_THREADS"

_Told = tuple[int, int] | Artifact | UndertowError
"""Message of a worker process about its stage: (steps done, steps in all), the result, or the error."""


def check_workers(workers: int) -> None:
    """Refuse a number of worker processes below one.

    Raises:
        ConfigError: the number is below one.
    """
    if workers < 1:
        raise ConfigError("A run needs a worker.", f"--workers {workers}", "Give --workers 1 or more.")


def finish_stages(runner: Runner, targets: Iterable[Stage], workers: int) -> dict[str, Path]:
    """Make every missing result, side by side if there are several workers.

    Results and errors are those of `Runner.run`.

    Args:
        runner: the runner whose store, executors and progress are used.
        targets: the stages to finish, with all that they depend on.
        workers: how many stages are made at once. A single one is made in this process, several as `build_side_by_side`
            says.
    """
    check_workers(workers)
    if workers == 1:
        return runner.run(targets)
    stages = order(targets)
    build_side_by_side(runner, stages, workers)
    return Runner(runner.store, runner.executors).run(stages)  # which looks once more at what was made of what


def build_side_by_side(runner: Runner, targets: Iterable[Stage], workers: int) -> None:
    """Make every missing result of a graph in worker processes, each stage as soon as its parents are there.

    After the first stage that stops with an error no further one begins; those that run are finished and kept.

    Args:
        runner: the runner whose store, executors and progress are used; the executors must be functions that a new
            process can import.
        targets: the stages to finish, with all that they depend on.
        workers: how many stages are made at once, at least 1. Each has as many threads as OMP_NUM_THREADS says, or else
            one.

    Raises:
        WorkerError: the process of a stage died.
        UserError: a stage stopped for a reason that the user can fix; see `Runner.run`.
        UndertowError: a stage failed.
    """
    check_workers(workers)
    stages = order(targets)
    missing = dict.fromkeys(runner.missing(stages))
    runner.progress.start(len(stages))
    try:
        for place, stage in enumerate(stages):
            if stage not in missing:
                runner.progress.skip(stage.label, place, len(stages))
                runner.finished(stage, stage.key.folder(runner.store))
        if missing:
            with _processes(runner, min(workers, len(missing))) as processes:
                _Flow(runner, stages, list(missing), processes).finish()
    finally:
        runner.progress.close()


@final
class _Process:
    """A worker process, and the stage that it is at (None while it waits)."""

    def __init__(self, runner: Runner) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.stage: Stage | None = None
        self._process: SpawnProcess = context.Process(target=_work, args=(other,), daemon=True)
        self._process.start()
        other.close()
        with contextlib.suppress(OSError):  # it has died at birth, which `hear` says
            self.pipe.send((runner.store.resolve(), runner.executors))

    def begin(self, stage: Stage) -> None:
        self.stage = stage
        with contextlib.suppress(OSError):  # it has died meanwhile, which `hear` says
            self.pipe.send(stage)

    def hear(self) -> tuple[Stage, _Told]:
        """Return the stage and the next message about it; if the process has died, an error that says so."""
        stage = self.stage
        assert stage is not None
        try:
            told: _Told = self.pipe.recv()
        except (EOFError, OSError):
            told = self._lost(stage)
        if not isinstance(told, tuple):
            self.stage = None
        return stage, told

    def _lost(self, stage: Stage) -> WorkerError:
        self._process.join(_PATIENCE_S)  # its own end is told, not the one that we would make
        self.terminate()
        self.end()
        code = self._process.exitcode or 0
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        fix = "Often memory ran out: use fewer workers or smaller groups. What is finished is kept; run it again."
        if code >= 0:
            fix = 'See what it printed above. A script of your own needs the line `if __name__ == "__main__":`.'
        return WorkerError(f"Stage '{stage.label}' lost its process.", f"process {self._process.pid}: {how}", fix)

    def terminate(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        """Wait for a process that was told to end, which is removing what it has half written."""
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextlib.contextmanager
def _processes(runner: Runner, n: int) -> Generator[list[_Process]]:
    """Start worker processes, and end them whatever happens, with what they leave half written."""
    started: list[_Process] = []
    try:
        with _deaf_to_interrupts(), _one_thread():
            for _ in range(n):
                started.append(_Process(runner))
        yield started
    finally:
        for process in started:
            process.terminate()  # all at once, so that none goes on while another ends
        for process in started:
            process.end()
        remove_leftovers(runner.store)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Generator[None]:
    """Let processes that are started here ignore Ctrl-C, which a terminal sends to all: the main process ends them."""
    resource_tracker.ensure_running()  # when first started, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread() -> Generator[None]:
    """Give processes that are started here one thread unless OMP_NUM_THREADS is set.

    It must be in the environment before they start, since they may load torch before anything else.
    """
    before = os.environ.get(_THREADS)
    os.environ.setdefault(_THREADS, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]


@final
class _Flow:
    """Sends the missing stages of a graph through the worker processes."""

    def __init__(
        self, runner: Runner, stages: Sequence[Stage], missing: Sequence[Stage], processes: list[_Process]
    ) -> None:
        self._progress, self._finished, self._processes = runner.progress, runner.finished, processes
        self._places = {stage: place for place, stage in enumerate(stages)}
        self._todo = dict.fromkeys(missing)
        self._begun: dict[Stage, float] = {}
        self._estimates = Estimates(runner.store, runner.rates, runner.forecast)
        self._sorter = TopologicalSorter(
            {stage: [parent for parent in stage.parents.values() if parent in self._todo] for stage in missing}
        )

    def finish(self) -> None:
        """Make all of the missing stages."""
        ready: list[int] = []
        stages = list(self._places)
        self._sorter.prepare()
        while self._sorter.is_active():
            for stage in self._sorter.get_ready():
                heapq.heappush(ready, self._places[stage])
            for process in self._processes:
                if process.stage is None and ready:
                    self._begin(process, stages[heapq.heappop(ready)])
            if error := self._hear():
                self._drain()
                raise error

    def _begin(self, process: _Process, stage: Stage) -> None:
        process.begin(stage)
        self._begun[stage] = time.monotonic()
        self._progress.begin_stage(stage.label, self._places[stage], len(self._places), self._left(stage))

    def _left(self, stage: Stage) -> TimeLeft:
        """Return the expected seconds of a stage that begins, and how many seconds later all are finished."""
        own, now = self._estimates.of(stage), time.monotonic()
        seconds: dict[Stage, float] = {}
        for one in {**self._begun, **self._todo}:
            expected = self._estimates.of(one)
            if expected is None:
                return TimeLeft(stage_s=own)
            seconds[one] = max(0.0, expected - (now - self._begun.get(one, now)))
        later_s = makespan(seconds, len(self._processes)) - (own or 0.0)
        return TimeLeft(stage_s=own, later_s=max(0.0, later_s))

    def _hear(self) -> UndertowError | None:
        """Handle the next messages of the busy processes; return the first error among them."""
        busy: dict[Any, _Process] = {one.pipe: one for one in self._processes if one.stage is not None}
        errors = [error for pipe in wait(list(busy)) if (error := self._take(*busy[pipe].hear()))]
        return errors[0] if errors else None

    def _take(self, stage: Stage, told: _Told) -> UndertowError | None:
        place = self._places[stage]
        if isinstance(told, UndertowError):
            self._begun.pop(stage)
            return told
        if isinstance(told, tuple):
            self._progress.advance(*told, place)
            return None
        self._estimates.learn(told.manifest)
        del self._begun[stage], self._todo[stage]
        self._progress.end_stage(place)
        self._finished(stage, told.folder)
        self._sorter.done(stage)
        return None

    def _drain(self) -> None:
        """Wait until the running stages are finished.

        Only the first error of a run is reported; a further one will be met again in the next run.
        """
        while self._begun:
            self._hear()


def _work(pipe: Connection) -> None:
    """Make the stages that come through a pipe, until its other end is closed."""
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(EOFError, ConnectionError):
        store, executors = pipe.recv()
        while True:
            stage: Stage = pipe.recv()
            try:
                told = find_stage(stage, store) or build_stage(stage, store, executors, _Teller(pipe))
            except UndertowError as error:
                error.add_note("".join(traceback.format_exception(error)))
                told = error
            try:
                pipe.send(told)
            except (pickle.PicklingError, TypeError, AttributeError):  # the value of an error may be anything
                pipe.send(UndertowError(str(told)))


def _leave(number: int, frame: object) -> None:
    """End the process as an exception, so that what is half written is removed on the way out."""
    sys.exit(128 + number)


@final
class _Teller:
    """Progress callback that reports through a pipe, not too often."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._spoke = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._spoke >= _OFTEN_S or done == total:
            self._spoke = time.monotonic()
            self._pipe.send((done, total))

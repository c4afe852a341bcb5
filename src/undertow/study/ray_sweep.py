"""Sweeps on Ray: every stage whose parents are finished becomes a task, which Ray places and restarts when lost.

Results go into the shared store, as those of a serial run do, so a task returns only its worker and its duration. What
is finished is kept whatever happens. The serial run that follows writes the run folders from the store.
"""

import contextlib
import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, final

from undertow.errors import UndertowError, WorkerError
from undertow.store.artifacts import library_versions
from undertow.store.runner import Executor, Runner
from undertow.store.stages import Stage, order
from undertow.study.executors import EXECUTORS
from undertow.study.ray_worker import (
    Board,
    Made,
    RaySettings,
    Running,
    Workshop,
    check_fit,
    count_slots,
    make_stage,
    ray_session,
    store_identity,
)
from undertow.study.run import ask_judges
from undertow.study.study import build_study
from undertow.study.sweep import Sweep, run_sweep, sweep_targets
from undertow.study.sweep_display import SilentDisplay, SweepDisplay, SweepState

_POLL_S = 0.5
"""Seconds between two looks at the board, where workers report."""

_AHEAD = 2
"""Tasks handed to Ray for each one that can run. More of them would all be stages without parents: Ray takes tasks in
the order in which they come, and an interrupted sweep should have whole variants to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayWork:
    """What was done on Ray.

    Attributes:
        stages: how many different stages all variants need.
        made: how many stages were finished by this run.
        restarted: how often a stage was begun again because its worker was lost.
    """

    stages: int
    made: int
    restarted: int


def run_sweep_on_ray(
    sweep: Sweep,
    runs: Path,
    settings: RaySettings,
    *,
    display: SweepDisplay | None = None,
    rebuild: bool = False,
) -> tuple[dict[str, Any], RayWork]:
    """Run every variant of a sweep, with stages side by side on Ray.

    Args:
        sweep: the study and its variants.
        runs: folder of all runs. With a cluster it has to be on a file system that all machines share.
        settings: where stages run, and what each of them takes.
        display: shows how far the sweep is. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.

    Returns:
        The content of results.json, and what was done on Ray.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no cluster answers, or its machines cannot run a stage.
        WorkerError: a stage lost its worker more often than `settings.retries`.
        UserError: a stage stopped for a reason that the user can fix, or the disk did.
        UndertowError: a stage failed.
    """
    started = time.perf_counter()
    ask_judges(Runner(runs / "store", EXECUTORS, rebuild=rebuild), map(build_study, sweep.variants.values()))
    work = build_on_ray(sweep_targets(sweep), runs / "store", EXECUTORS, settings, display=display, rebuild=rebuild)
    return run_sweep(sweep, runs, rebuild=rebuild, started=started), work


def build_on_ray(
    targets: Iterable[Stage],
    store: Path,
    executors: Mapping[str, Executor],
    settings: RaySettings,
    *,
    display: SweepDisplay | None = None,
    rebuild: bool = False,
) -> RayWork:
    """Compute every missing result of a graph of stages, side by side.

    The first stage that stops with an error ends the work: no further one begins, and those that run are finished and
    kept.

    Args:
        targets: the stages to finish, with everything on which they depend.
        store: folder in which the results of all stages are kept.
        executors: functions that do the work, by kind of stage. A worker must be able to import them.
        settings: where stages run, and what each of them takes.
        display: shows how far the work is, and is closed at the end. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.

    Raises:
        UndertowError: as in `run_sweep_on_ray`.
    """
    stages = order(targets)
    missing = Runner(store, executors, rebuild=rebuild).missing(stages)
    display = display or SilentDisplay()
    restarted = 0
    try:
        if missing:
            with ray_session(settings) as ray:
                shop = Workshop(
                    store=store.resolve(),
                    identity=store_identity(store),
                    executors=executors,
                    versions=library_versions(),
                )
                crew = _Crew(ray, settings, shop, display)
                crew.finish(missing, cached=len(stages) - len(missing))
                restarted = crew.state().restarted
    finally:
        display.close()
    return RayWork(stages=len(stages), made=len(missing), restarted=restarted)


@final
class _Crew:
    """The stages of one sweep on their way through Ray."""

    def __init__(self, ray: Any, settings: RaySettings, shop: Workshop, display: SweepDisplay) -> None:
        self._ray = ray
        self._settings = settings
        self._display = display
        check_fit(ray, settings)
        self._slots = count_slots(ray, settings)
        self._shop = ray.put(shop)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        board = ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        self._board = board.remote()
        self._task = ray.remote(make_stage).options(
            num_cpus=settings.cpus_per_stage, num_gpus=settings.gpus_per_stage, max_retries=settings.retries
        )
        self._in_flight: dict[Any, Stage] = {}
        self._running: tuple[Running, ...] = ()
        self._starts: Mapping[str, int] = {}
        self._total = self._cached = self._done = self._failed = 0
        self._looked = 0.0

    def finish(self, missing: Sequence[Stage], cached: int) -> None:
        """Compute stages that have no result, each after its parents.

        Args:
            missing: the stages, in an order in which parents come first.
            cached: how many stages were finished before.
        """
        self._total, self._cached = len(missing), cached
        todo = set(missing)
        places = {stage: place for place, stage in enumerate(missing)}
        graph = {stage: [parent for parent in stage.parents.values() if parent in todo] for stage in missing}
        sorter = TopologicalSorter(graph)
        sorter.prepare()
        ready: list[int] = []
        try:
            while sorter.is_active():
                for stage in sorter.get_ready():
                    heapq.heappush(ready, places[stage])
                while ready and len(self._in_flight) < _AHEAD * max(1, self._slots):
                    stage = missing[heapq.heappop(ready)]
                    self._in_flight[self._task.remote(stage, self._shop, self._board)] = stage
                for stage in self._wait():
                    sorter.done(stage)
            self._look()
        except UndertowError:
            self._drain()
            raise
        finally:
            self._display.show(self.state())
            for task in self._in_flight:  # interrupted
                self._ray.cancel(task)

    def state(self) -> SweepState:
        """Return how far the sweep is."""
        names = {stage.fingerprint for stage in self._in_flight.values()}
        running = tuple(one for one in self._running if one.fingerprint in names)
        return SweepState(
            cached=self._cached,
            done=self._done,
            waiting=self._total - self._done - self._failed - len(running),
            failed=self._failed,
            restarted=sum(n - 1 for n in self._starts.values()),
            running=running,
        )

    def _wait(self) -> list[Stage]:
        """Wait a short time for tasks to end; return the stages that are finished.

        Raises:
            UndertowError: a stage failed.
        """
        over, _ = self._ray.wait(list(self._in_flight), timeout=_POLL_S)
        if time.monotonic() - self._looked >= _POLL_S:
            self._look()
            self._slots = count_slots(self._ray, self._settings)
        return [self._take(task) for task in over]

    def _take(self, task: Any) -> Stage:
        """Take the result of a task that has ended; return its stage."""
        stage = self._in_flight.pop(task)
        try:
            made: Made | None = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            self._failed += 1
            raise _in_our_words(stage, error, self._settings.retries) from error
        if made is not None:
            self._done += 1
            self._display.finished(stage.label, made)
        return stage

    def _drain(self) -> None:
        """Let running stages finish, and no further one begin."""
        self._board.stop.remote()
        while self._in_flight:
            # The first error is the one that is told; another one will be met again.
            with contextlib.suppress(UndertowError):
                self._wait()
        self._look()

    def _look(self) -> None:
        """Read the board and show what it says. If it does not answer, what was known stays."""
        self._looked = time.monotonic()
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._running, self._starts = self._ray.get(self._board.read.remote(), timeout=5.0)
        self._display.show(self.state())


def _in_our_words(stage: Stage, error: Any, retries: int) -> UndertowError:
    """Return the error with which a task stopped: our own as it was raised, or what Ray says of a lost worker."""
    cause: Exception | None = getattr(error, "cause", None)
    if isinstance(cause, UndertowError):
        return cause
    said = f"{type(cause or error).__name__}: {(str(cause or error).strip().splitlines() or [''])[0][:300]}"
    if cause is not None:
        return UndertowError(f"Stage '{stage.label}' ({stage.kind}/{stage.fingerprint}) failed on Ray: {said}")
    what = f"Stage '{stage.label}' lost its worker, also when it was started again (at most {retries} times)."
    fix = "Often it needs too much memory: use fewer workers or smaller groups. What is finished is kept; run it again."
    return WorkerError(what, said, fix)

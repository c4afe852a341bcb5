"""What runs on Ray: a task that makes one stage, and the board on which tasks write what they are at.

The records are also what the display shows, so Ray is imported by the task alone.
"""

import contextlib
import os
import platform
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from undertow.errors import ConfigError
from undertow.experiment.ray_session import import_ray
from undertow.store.artifacts import library_versions
from undertow.store.disk import storage_errors
from undertow.store.runner import Executor, build_stage, find_stage
from undertow.store.stages import Stage

_OFTEN_S = 0.5
"""Least time between two messages of one stage to the board, in seconds."""

_IDENTITY = ".identity"
"""File of a store that tells it from every other one, also from one of the same path on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A stage and who is at it.

    Attributes:
        fingerprint: of the stage.
        label: its label.
        worker: machine and process.
        seconds: since it began.
        done: steps finished.
        steps: steps in all; 0 if the stage has not said.
    """

    fingerprint: str
    label: str
    worker: str
    seconds: float = 0.0
    done: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every worker needs to know, the same for all stages of a sweep.

    Attributes:
        store: folder of all artifacts, an absolute path.
        identity: of the store, from `store_identity`.
        executors: what does the work, by kind of stage.
        versions: of the libraries in the sweep's own process.
    """

    store: Path
    identity: str
    executors: Mapping[str, Executor]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished stage.

    Attributes:
        worker: machine and process that returned it.
        seconds: that the task took.
    """

    worker: str
    seconds: float


@final
class Board:
    """Which stages run where, told by the workers; an actor, since tasks cannot talk to the sweep's process."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Running, float]] = {}
        self._starts: Counter[str] = Counter()
        self._open = True

    def stop(self) -> None:
        """Let no further stage begin."""
        self._open = False

    def begin(self, running: Running) -> bool:
        """Note that a worker begins a stage; False if it should not."""
        if not self._open:
            return False
        self._running[running.fingerprint] = running, time.monotonic()
        self._starts[running.fingerprint] += 1
        return True

    def advance(self, fingerprint: str, done: int, steps: int) -> None:
        """Note how far a running stage is."""
        if fingerprint in self._running:
            running, since = self._running[fingerprint]
            self._running[fingerprint] = replace(running, done=done, steps=steps), since

    def end(self, fingerprint: str) -> None:
        """Note that a worker is done with a stage, well or badly."""
        self._running.pop(fingerprint, None)

    def read(self) -> tuple[tuple[Running, ...], dict[str, int]]:
        """Return what runs, and how often each stage was begun; one whose worker was lost stays until it runs again."""
        now = time.monotonic()
        running = tuple(replace(one, seconds=now - since) for one, since in self._running.values())
        return running, dict(self._starts)


def worker_name() -> str:
    """Return machine and process of the caller."""
    return f"{platform.node()}/{os.getpid()}"


def make_stage(stage: Stage, shop: Workshop, board: Any) -> Made | None:
    """Make a stage if it is missing: the task of a sweep. A task that is run again finds what the first one finished.

    None if the sweep was stopped before the stage began.

    Args:
        stage: what to make; its parents are in the store.
        shop: the sweep's surroundings.
        board: handle of the `Board`.

    Raises:
        ConfigError: this machine does not see the sweep's store, or has other libraries than the sweep's process.
        UserError: the stage stopped for a reason the user can fix.
        UndertowError: the stage failed.
    """
    started = time.perf_counter()
    worker = worker_name()
    if not _may_begin(board, Running(fingerprint=stage.fingerprint, label=stage.label, worker=worker)):
        return None
    try:
        _check_surroundings(shop, worker)
        if find_stage(stage, shop.store) is None:
            build_stage(stage, shop.store, shop.executors, _Reporter(stage.fingerprint, board))
    finally:
        board.end.remote(stage.fingerprint)
    return Made(worker=worker, seconds=time.perf_counter() - started)


def _may_begin(board: Any, running: Running) -> bool:
    ray = import_ray()
    try:
        return ray.get(board.begin.remote(running), timeout=10.0)
    except ray.exceptions.RayError:
        return True  # the board was lost with its machine: it only shows


@final
class _Reporter:
    """Passes progress to the board, not too often."""

    def __init__(self, fingerprint: str, board: Any) -> None:
        self._fingerprint = fingerprint
        self._board = board
        self._spoke = time.monotonic()

    def __call__(self, done: int, steps: int) -> None:
        if time.monotonic() - self._spoke >= _OFTEN_S:
            self._spoke = time.monotonic()
            self._board.advance.remote(self._fingerprint, done, steps)


def store_identity(store: Path) -> str:
    """Return the text by which a store is told from every other one; the first call makes both.

    Raises:
        StorageError: the store may not be read or written.
    """
    with storage_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        draft = store / f"{_IDENTITY}-{secrets.token_hex(8)}"
        draft.write_text(draft.name, encoding="utf-8")
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, store / _IDENTITY)
        finally:
            draft.unlink()
        return (store / _IDENTITY).read_text(encoding="utf-8")


def _check_surroundings(shop: Workshop, worker: str) -> None:
    place = shop.store / _IDENTITY
    if not place.is_file() or place.read_text(encoding="utf-8") != shop.identity:
        fix = "Put --runs on a file system that every machine of the cluster mounts at the same path."
        raise ConfigError("A worker does not see the results of the sweep.", f"{worker}: {shop.store}", fix)
    own = library_versions()
    other = {name: own.get(name) for name in {*own, *shop.versions} if own.get(name) != shop.versions.get(name)}
    if other:
        found = ", ".join(f"{name} {version}, not {shop.versions.get(name)}" for name, version in sorted(other.items()))
        fix = "Install the same versions on every machine: others may give other results."
        raise ConfigError("A worker has other libraries than this machine.", f"{worker}: {found}", fix)

"""What runs on Ray: the task that computes one stage, the board where tasks report, and the session around them.

The session is one of its own on this machine, or a cluster that runs already. This is the one module that imports Ray,
and it does so inside functions, so that the display can show its records without it. Ray's objects are not typed here,
because it is an extra that few installations have.
"""

import contextlib
import io
import logging
import math
import os
import platform
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from undertow.errors import ConfigError, MissingExtraError
from undertow.store.artifacts import library_versions
from undertow.store.disk import storage_errors
from undertow.store.runner import Executor, build_stage, find_stage
from undertow.store.stages import Stage

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 100 * 2**20
"""Size of Ray's shared memory in bytes. Results go through the file system, so it holds little; Ray's default is 30 %
of the machine's memory."""

_FORWARDED = ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_DISABLE_PROGRESS_BARS", "TOKENIZERS_PARALLELISM")
"""Environment variables that workers get from the sweep's process. Keys are not among them: a cluster shows these to
all its users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """Where stages run on Ray, and what each of them takes.

    Attributes:
        address: address of a cluster, or "auto" for the one to which this machine belongs. None starts Ray on this
            machine alone.
        workers: how many stages run at once on this machine alone. None runs as many as its cores allow.
        cpus_per_stage: cores that a stage is given. It is also its number of threads if OMP_NUM_THREADS is not set.
        gpus_per_stage: GPUs that a stage is given, or a share of one such as 0.25. Ray counts shares but does not
            enforce them, so four stages of 0.25 have to fit into the GPU's memory together.
        retries: how often a stage whose worker was lost is started again.

    Raises:
        ConfigError: a number is out of range, or two settings exclude each other.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_stage: float = 1.0
    gpus_per_stage: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        if self.address is not None and self.workers is not None:
            fix = "Leave --workers out: a cluster runs as many stages as it has cores and GPUs for."
            raise ConfigError("The number of workers is that of the cluster.", f"--workers {self.workers}", fix)
        if self.address is not None and self.address.startswith("ray://"):
            fix = "Start the sweep on a machine of the cluster with --address auto: it reads and writes the results."
            raise ConfigError("A sweep cannot run through a Ray client.", self.address, fix)
        if self.workers is not None and self.workers < 1:
            raise ConfigError("A sweep needs a worker.", self.workers, "Give --workers 1 or more.")
        if not self.cpus_per_stage > 0:
            raise ConfigError("A stage needs a share of a core.", self.cpus_per_stage, "Give 1, or 0.5 for two a core.")
        if self.gpus_per_stage < 0 or (self.gpus_per_stage > 1 and self.gpus_per_stage % 1):
            fix = "Give a share from 0 to 1 or a whole number."
            raise ConfigError("This is no share of a GPU.", self.gpus_per_stage, fix)

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for a stage, by kind of resource."""
        return {"CPU": self.cpus_per_stage, **({"GPU": self.gpus_per_stage} if self.gpus_per_stage else {})}


@contextlib.contextmanager
def ray_session(settings: RaySettings) -> Generator[Any]:
    """Start Ray or join a cluster, yield the module `ray`, and leave it afterwards.

    A Ray that this process has started already is used and left running.

    Args:
        settings: where stages run, and what each of them takes.

    Yields:
        The module `ray`.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no cluster answers, or it runs another version.
    """
    # Read when Ray is first loaded: no usage statistics, and an end to restarts of a stage that needs too much memory.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(**_options(settings))
    except (OSError, RuntimeError, ValueError) as error:
        fix = "Start it with `ray start --head`; all machines need the same Python, Ray and, if it asks for one, token."
        raise ConfigError("Ray cannot be reached or started.", _first_line(error), fix) from error
    try:
        with _interrupted_by_sigterm(), contextlib.redirect_stdout(_ToLog()):
            yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Generator[None]:
    """Let the signal that announces preemption end a sweep as Ctrl-C does; Ray's own handler aborts the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class _ToLog(io.TextIOBase):
    """Sends standard output to the log while Ray runs, so that its messages do not mix with our results."""

    def write(self, text: str, /) -> int:
        """Log a text."""
        if text.strip():
            logger.info("%s", text.rstrip())
        return len(text)


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError(
            "The backend ray needs Ray, which is not installed.", "ray", "Run pip install 'undertow[ray]'."
        ) from error
    return ray


def _options(settings: RaySettings) -> dict[str, Any]:
    """Return the options with which Ray is started or joined."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, int(settings.cpus_per_stage)))
    variables = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
    common = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": {**variables, "OMP_NUM_THREADS": threads}},
    }
    if settings.address is not None:
        return {**common, "address": settings.address}
    cores = os.cpu_count() if settings.workers is None else settings.workers * settings.cpus_per_stage
    return {
        **common,
        "address": "local",
        "num_cpus": math.ceil(cores or 1),
        "object_store_memory": _OBJECT_STORE_BYTES,
    }


def count_slots(ray: Any, settings: RaySettings) -> int:
    """Return how many stages the machines that are there can run at once."""
    wanted = settings.resources
    return sum(min(int(has.get(name, 0.0) / n) for name, n in wanted.items()) for has in _machines(ray))


def check_fit(ray: Any, settings: RaySettings) -> None:
    """Refuse a stage that needs more than any machine has, since it would wait for ever.

    Raises:
        ConfigError: no machine has what a stage asks for.
    """
    if count_slots(ray, settings):
        return
    wanted = settings.resources
    asked = ", ".join(f"{n:g} {name}" for name, n in wanted.items())
    has = "; ".join(", ".join(f"{one.get(name, 0.0):g} {name}" for name in wanted) for one in _machines(ray))
    fix = "Lower --cpus-per-stage or --gpus-per-stage, or add such a machine to the cluster first."
    raise ConfigError("No machine has what a stage asks for.", f"asked: {asked}; machines: {has or 'none'}", fix)


def _machines(ray: Any) -> list[dict[str, float]]:
    """Return the resources of every machine that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


_OFTEN_S = 0.5
"""Least seconds between two messages of one stage to the board."""

_IDENTITY = ".identity"
"""Name of the file that tells a store from every other one, also from one at the same path on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A stage that runs, and where.

    Attributes:
        fingerprint: hash that names the stage and its result.
        label: what the stage does, in words.
        worker: machine and process that run it.
        seconds: how many seconds it has been running.
        done: how many of its steps are finished.
        steps: how many steps it has in all; 0 if it has not said.
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
        store: folder of all results, as an absolute path.
        identity: text that tells this store from every other one (`store_identity`).
        executors: functions that do the work, by kind of stage.
        versions: versions of the libraries in the sweep's own process.
    """

    store: Path
    identity: str
    executors: Mapping[str, Executor]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A stage that was finished, and by whom.

    Attributes:
        worker: machine and process that finished it.
        seconds: how many seconds the task took.
    """

    worker: str
    seconds: float


@final
class Board:
    """Where workers report which stages run. It is a Ray actor, since tasks cannot talk to the sweep's process."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Running, float]] = {}
        self._starts: Counter[str] = Counter()
        self._open = True

    def stop(self) -> None:
        """Let no further stage begin."""
        self._open = False

    def begin(self, running: Running) -> bool:
        """Note that a worker begins a stage. Returns False if it must not."""
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
        """Note that a worker has ended a stage, finished or failed."""
        self._running.pop(fingerprint, None)

    def read(self) -> tuple[tuple[Running, ...], dict[str, int]]:
        """Return what runs, and how often each stage was begun.

        A stage whose worker was lost stays on the board until it runs again.
        """
        now = time.monotonic()
        running = tuple(replace(one, seconds=now - since) for one, since in self._running.values())
        return running, dict(self._starts)


def make_stage(stage: Stage, shop: Workshop, board: Any) -> Made | None:
    """Compute a stage if it is missing: the task of a sweep.

    A task that is run again finds what its first run finished.

    Args:
        stage: the stage to compute. Its parents are in the store.
        shop: what all workers of the sweep share.
        board: Ray's handle of the `Board`.

    Returns:
        Who computed the stage, and how long it took. None if the sweep was stopped before the stage began.

    Raises:
        ConfigError: this machine does not see the sweep's store, or has other library versions than the sweep's
            process.
        UserError: the stage stopped for a reason that the user can fix.
        UndertowError: the stage failed.
    """
    started = time.perf_counter()
    worker = f"{platform.node()}/{os.getpid()}"
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
    """Ask the board whether a stage may begin."""
    ray = import_ray()
    try:
        return ray.get(board.begin.remote(running), timeout=10.0)
    except ray.exceptions.RayError:
        return True  # the board was lost with its machine: it only shows


@final
class _Reporter:
    """Passes progress to the board, at most about twice a second."""

    def __init__(self, fingerprint: str, board: Any) -> None:
        self._fingerprint = fingerprint
        self._board = board
        self._spoke = time.monotonic()

    def __call__(self, done: int, steps: int) -> None:
        if time.monotonic() - self._spoke >= _OFTEN_S:
            self._spoke = time.monotonic()
            self._board.advance.remote(self._fingerprint, done, steps)


def store_identity(store: Path) -> str:
    """Return the text that tells a store from every other one. The first call creates it, and the store's folder.

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
    """Refuse a machine that does not see the sweep's store, or that has other library versions."""
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

"""The Ray that a sweep runs on: one of its own on this machine, or a cluster that runs already.

The one module that imports Ray. Its objects are not typed here: Ray is an extra that few installs have.
"""

import contextlib
import io
import logging
import math
import os
import signal
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from undertow.errors import ConfigError, MissingExtraError

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 100 * 2**20
"""Results go through the file system, so Ray's shared memory holds little; its default is 30 % of the machine's."""

_FORWARDED = ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_DISABLE_PROGRESS_BARS", "TOKENIZERS_PARALLELISM")
"""Environment variables that workers get from the sweep's process. No keys: a cluster shows these to all its users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """Where stages run and what each of them takes.

    Attributes:
        address: of a cluster, "auto" for the one that this machine belongs to; None starts Ray on this machine alone.
        workers: stages at once on this machine alone; as many as its cores allow if None.
        cpus_per_stage: cores that a stage is given, also as its number of threads if OMP_NUM_THREADS is not set.
        gpus_per_stage: share of a GPU, such as 0.25, or a number of GPUs. Ray counts shares, it does not enforce them:
            four stages of 0.25 have to fit into the GPU's memory together.
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
        """What Ray sets aside for a stage."""
        return {"CPU": self.cpus_per_stage, **({"GPU": self.gpus_per_stage} if self.gpus_per_stage else {})}


@contextlib.contextmanager
def ray_session(settings: RaySettings) -> Generator[Any]:
    """Start Ray or join a cluster; yield the module `ray`, and leave it afterwards.

    A Ray that this process has started already is used as it is, and kept.

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
    """Standard output while Ray runs: its messages on lost workers would be mixed into our results."""

    def write(self, text: str, /) -> int:
        """Log the text."""
        if text.strip():
            logger.info("%s", text.rstrip())
        return len(text)


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError(
            "The backend ray needs Ray, which is not installed.", "ray", "Run pip install 'undertow[ray]'."
        ) from error
    return ray


def _options(settings: RaySettings) -> dict[str, Any]:
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
    """Raise ConfigError if no machine has what one stage asks for: it would wait for ever."""
    if count_slots(ray, settings):
        return
    wanted = settings.resources
    asked = ", ".join(f"{n:g} {name}" for name, n in wanted.items())
    has = "; ".join(", ".join(f"{one.get(name, 0.0):g} {name}" for name in wanted) for one in _machines(ray))
    fix = "Lower --cpus-per-stage or --gpus-per-stage, or add such a machine to the cluster first."
    raise ConfigError("No machine has what a stage asks for.", f"asked: {asked}; machines: {has or 'none'}", fix)


def _machines(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"

"""On Ray every stage is made once and gives the bytes of a serial run, also when worker processes are killed."""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from undertow.errors import ArtifactError, ConfigError, UndertowError, WorkerError
from undertow.store.artifacts import read_manifest
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage, order
from undertow.study.ray_sweep import build_on_ray
from undertow.study.ray_worker import RaySettings, check_fit, count_slots, ray_session
from undertow.study.sweep_display import SweepDisplay, SweepState

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'undertow[ray]'")

pytestmark = pytest.mark.slow  # Ray takes six seconds to start

TWO = RaySettings(workers=2)


def _stage(name: str, **parents: Stage) -> Stage:
    return Stage(kind="toy", version=1, config={"name": name}, parents=parents, label=name)


def graph(seeds: int = 10, variants: int = 4) -> list[Stage]:
    """Return the last stages of 2 + 3 per seed + 2 per seed and variant: variants share rows, seeds share the base."""
    base = _stage("base")
    words = _stage("words", base=base)
    last: list[Stage] = []
    for seed in range(seeds):
        teacher = _stage(f"teacher {seed}", base=base, words=words)
        rows = _stage(f"rows {seed}", teacher=teacher, prompts=_stage(f"prompts {seed}", base=base))
        students = [_stage(f"students {seed} {variant}", rows=rows) for variant in range(variants)]
        last += [_stage(f"scores {seed} {variant}", students=one) for variant, one in enumerate(students)]
    return last


def work(log: Path, context: StageContext) -> None:
    """Hash name and parents; a file `<name>.<deed>` in the log's folder makes it die once, die always, fail or wait."""
    name = str(context.config["name"])
    seen = hashlib.sha256(name.encode())
    for role, folder in sorted(context.parents.items()):
        seen.update(role.encode() + (folder / "second.bin").read_bytes())
    (context.out / "first.bin").write_bytes(seen.digest())
    context.advance(1, 2)
    if (log / f"{name}.dies-once").exists():
        (log / f"{name}.dies-once").rename(log / f"{name}.died-{os.getpid()}")
        os.kill(os.getpid(), signal.SIGKILL)
    if (log / f"{name}.dies").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (log / f"{name}.fails").exists():
        raise ConfigError("Bad rate.", 7, "Lower it.")
    if (log / f"{name}.breaks").exists():
        raise RuntimeError("boom")
    if (log / f"{name}.waits").exists():
        time.sleep(1.5)
    (context.out / "second.bin").write_bytes(seen.digest() * 2)
    with (log / "finished").open("a", encoding="utf-8") as stream:  # one short write is atomic
        stream.write(f"{name}\n")


def executors(log: Path) -> dict[str, Callable[[StageContext], None]]:
    log.mkdir(exist_ok=True)
    return {"toy": functools.partial(work, log)}


def finished(log: Path) -> Counter[str]:
    return Counter((log / "finished").read_text().splitlines())


def digests(store: Path, targets: list[Stage]) -> dict[str, str]:
    return {stage.label: read_manifest(stage.key.folder(store)).digest for stage in order(targets)}


class _Recorder(SweepDisplay):
    """Keeps what a sweep says."""

    def __init__(self) -> None:
        self.states: list[SweepState] = []
        self.finished_labels: list[str] = []
        self.workers: set[str] = set()
        self.closed = 0

    def show(self, state: SweepState) -> None:
        self.states.append(state)

    def finished(self, label: str, made) -> None:
        self.finished_labels.append(label)
        self.workers.add(made.worker)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    """One Ray for all tests of this file; it takes several seconds to start."""
    with ray_session(TWO):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield


def test_a_hundred_stages_with_two_workers_killed_give_the_bytes_of_a_serial_run(tmp_path: Path) -> None:
    targets, log, display = graph(), tmp_path / "log", _Recorder()
    functions = executors(log)
    for name in ("teacher 3", "students 5 1"):
        (log / f"{name}.dies-once").touch()
    done = build_on_ray(targets, tmp_path / "store", functions, TWO, display=display)
    assert (done.stages, done.made, done.restarted) == (112, 112, 2)
    assert {path.name.rsplit("-", 1)[0] for path in log.glob("*.died-*")} == {"teacher 3.died", "students 5 1.died"}
    assert len({path.name.rsplit("-", 1)[1] for path in log.glob("*.died-*")}) == 2, "two processes were killed"
    counts = finished(log)
    assert len(counts) == 112 and set(counts.values()) == {1}
    Runner(tmp_path / "serial", executors(tmp_path / "serial-log")).run(targets)
    assert digests(tmp_path / "store", targets) == digests(tmp_path / "serial", targets)
    last = display.states[-1]
    assert (last.done, last.waiting, last.running, last.failed, last.restarted) == (112, 0, (), 0, 2)
    assert len(display.finished_labels) == 112 and len(display.workers) >= 2 and display.closed == 1


def test_a_second_run_makes_what_is_missing_and_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log"
    build_on_ray(graph(2, 1), tmp_path / "store", executors(log), TWO)
    display = _Recorder()
    done = build_on_ray(graph(2, 2), tmp_path / "store", executors(log), TWO, display=display)
    assert (done.stages, done.made) == (16, 4) and set(finished(log).values()) == {1}
    assert display.states[-1].cached == 12
    assert build_on_ray(graph(2, 2), tmp_path / "store", executors(log), TWO).made == 0


def test_an_error_of_the_user_ends_the_sweep_and_keeps_what_runs(tmp_path: Path) -> None:
    log, targets = tmp_path / "log", graph(6, 1)
    functions = executors(log)
    (log / "teacher 0.fails").touch()
    (log / "prompts 0.waits").touch()
    with pytest.raises(ConfigError, match="Stage 'teacher 0' stopped: Bad rate") as caught:
        build_on_ray(targets, tmp_path / "store", functions, TWO)
    assert (caught.value.value, caught.value.fix) == (7, "Lower it.") and caught.value.__cause__ is not None
    counts = finished(log)
    assert "prompts 0" in counts, "what ran was finished"
    assert len(counts) < 20 and not list((tmp_path / "store").glob("*/.tmp-*"))
    (log / "teacher 0.fails").unlink()
    build_on_ray(targets, tmp_path / "store", functions, TWO)
    assert set(finished(log).values()) == {1} and len(finished(log)) == 32


def test_a_fault_of_ours_names_the_stage_and_is_not_tried_again(tmp_path: Path) -> None:
    functions = executors(tmp_path / "log")
    (tmp_path / "log" / "words.breaks").touch()
    display = _Recorder()
    with pytest.raises(UndertowError, match=r"Stage 'words' .* failed: RuntimeError: boom"):
        build_on_ray(graph(1, 1), tmp_path / "store", functions, TWO, display=display)
    assert display.states[-1].failed == 1 and display.states[-1].restarted == 0 and display.closed == 1


def test_a_stage_that_always_loses_its_worker_is_given_up(tmp_path: Path) -> None:
    functions = executors(tmp_path / "log")
    (tmp_path / "log" / "words.dies").touch()
    with pytest.raises(WorkerError, match="'words' lost its worker") as caught:
        build_on_ray(graph(1, 1), tmp_path / "store", functions, RaySettings(workers=2, retries=1))
    assert "memory" in caught.value.fix and set(finished(tmp_path / "log")) <= {"base", "prompts 0"}


def test_corrupt_results_are_refused_or_rebuilt(tmp_path: Path) -> None:
    log, targets = tmp_path / "log", graph(1, 1)
    build_on_ray(targets, tmp_path / "store", executors(log), TWO)
    (targets[0].key.folder(tmp_path / "store") / "second.bin").write_bytes(b"other")
    with pytest.raises(ArtifactError):
        build_on_ray(targets, tmp_path / "store", executors(log), TWO)
    assert build_on_ray(targets, tmp_path / "store", executors(log), TWO, rebuild=True).made == 1
    assert finished(log)["scores 0 0"] == 2


def test_a_worker_that_sees_another_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.study.ray_sweep.store_identity", lambda store: "of another machine")
    with pytest.raises(ConfigError, match="does not see the results") as caught:
        build_on_ray(graph(1, 1), tmp_path / "store", executors(tmp_path / "log"), TWO)
    assert "file system" in caught.value.fix


def test_a_worker_with_other_libraries_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.study.ray_sweep.library_versions", lambda: {"numpy": "0.1"})
    with pytest.raises(ConfigError, match="other libraries") as caught:
        build_on_ray(graph(1, 1), tmp_path / "store", executors(tmp_path / "log"), TWO)
    assert "not 0.1" in caught.value.value


def test_stages_that_no_machine_can_run_are_refused() -> None:
    assert count_slots(ray, TWO) == 2 and count_slots(ray, RaySettings(cpus_per_stage=0.5)) == 4
    for settings in (RaySettings(gpus_per_stage=0.25), RaySettings(cpus_per_stage=3)):
        with pytest.raises(ConfigError, match="No machine"):
            check_fit(ray, settings)


SETTINGS = [
    "replicates=1",
    "arms=[student, control]",
    "domain.prompts=20",
    "teacher.steps=2",
    "student={steps: 2, batch_size: 4}",
    "evaluation.samples=0",
]
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


def test_the_command_gives_the_bytes_of_the_serial_backend(tmp_path: Path) -> None:
    """In processes of their own, so that this one starts the Ray of the command, and its output is seen whole."""
    for backend in ("local", "ray"):
        words = ["sweep", "demo", "--grid", "seed=0..1", *SMALL, "--backend", backend, "--runs", tmp_path / backend]
        more = ["--workers", "2"] if backend == "ray" else []
        command = [sys.executable, "-m", "undertow.cli.main", *map(str, words), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "raylet" not in done.stdout and "report:" in done.stdout
    stores = [tmp_path / backend / "store" for backend in ("local", "ray")]
    both = [
        {path.parent.name: read_manifest(path.parent).digest for path in store.glob("*/*/manifest.json")}
        for store in stores
    ]
    assert both[0] == both[1] and len(both[0]) > 10

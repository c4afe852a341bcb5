"""Side by side, every stage is made once, with the bytes of a serial run, whatever happens to a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from undertow.errors import ArtifactError, ConfigError, UndertowError, WorkerError
from undertow.store.artifacts import read_manifest
from undertow.store.progress import Progress, TimeLeft
from undertow.store.runner import Runner
from undertow.store.side_by_side import build_side_by_side, finish_stages
from undertow.store.stages import Stage, makespan, order

HERE = Path(__file__).parent


@pytest.fixture
def deeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The toy stages, as a module that a process started anew can import."""
    monkeypatch.syspath_prepend(str(HERE))
    import deeds

    return deeds


class _Recorder(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.left: list[TimeLeft | None] = []

    def start(self, n_stages: int) -> None:
        self.said.append(f"start {n_stages}")

    def skip(self, name: str, index: int, total: int) -> None:
        self.said.append(f"skip {index}")

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        self.said.append(f"begin {index}")
        self.left.append(left)

    def advance(self, done: int, total: int, index: int | None = None) -> None:
        self.said.append(f"advance {index}")

    def end_stage(self, index: int | None = None) -> None:
        self.said.append(f"end {index}")

    def close(self) -> None:
        self.said.append("close")


def digests(store: Path, targets: list[Stage]) -> dict[str, str]:
    return {stage.label: read_manifest(stage.key.folder(store)).digest for stage in order(targets)}


def finished(folder: Path) -> list[str]:
    return sorted((folder / "finished").read_text().split())


def _meet(folder: Path) -> None:
    """Let neither of two stages go on before the other has begun; one takes longer than the other."""
    (folder / "left.meets").write_text("right")
    (folder / "right.meets").write_text("left")
    (folder / "right.lingers").touch()


def test_the_bytes_and_folders_are_those_of_a_serial_run(deeds: ModuleType, tmp_path: Path) -> None:
    targets, stores = deeds.diamond(), [tmp_path / "one", tmp_path / "two"]
    found = [
        finish_stages(Runner(store, deeds.executors(tmp_path / f"deeds-{workers}")), targets, workers)
        for workers, store in zip((1, 2), stores, strict=True)
    ]
    assert digests(stores[0], targets) == digests(stores[1], targets)
    assert list(found[0]) == list(found[1]) and all(folder.is_relative_to(stores[1]) for folder in found[1].values())
    assert finished(tmp_path / "deeds-2") == ["alone", "base", "both", "left", "right"]
    assert not list(stores[1].glob("*/.tmp-*"))


def test_stages_that_need_each_other_to_run_at_once_are_finished(deeds: ModuleType, tmp_path: Path) -> None:
    folder, progress = tmp_path / "deeds", _Recorder()
    runner = Runner(tmp_path / "store", deeds.executors(folder), progress, rates={"toy": 4.0})
    _meet(folder)
    build_side_by_side(runner, deeds.diamond(), 2)
    said = progress.said
    assert said[0] == "start 5" and said[-1] == "close"
    both = max(said.index("begin 1"), said.index("begin 2"))
    assert both < min(said.index("end 1"), said.index("end 2")) < max(said.index("end 1"), said.index("end 2"))
    assert said.index("begin 3") > max(said.index("end 1"), said.index("end 2"))
    # base and one beside it, then two at once, then the last: three stages long, whatever order they come in.
    first = progress.left[0]
    assert first is not None and first.stage_s == pytest.approx(4.0) and first.later_s == pytest.approx(8.0, abs=0.5)
    again = _Recorder()
    build_side_by_side(Runner(tmp_path / "store", deeds.executors(folder), again), deeds.diamond(), 2)
    assert again.said == ["start 5", *(f"skip {place}" for place in range(5)), "close"]


def test_a_killed_process_is_named_by_its_stage_and_the_rest_is_kept(deeds: ModuleType, tmp_path: Path) -> None:
    folder, store = tmp_path / "deeds", tmp_path / "store"
    runner = Runner(store, deeds.executors(folder))
    (folder / "left.dies").touch()
    _meet(folder)
    with pytest.raises(WorkerError, match="Stage 'left' lost its process") as caught:
        build_side_by_side(runner, deeds.diamond(), 2)
    assert "killed by signal 9" in str(caught.value) and "run it again" in caught.value.fix
    assert {"base", "right"} <= set(finished(folder)) and "both" not in finished(folder)
    assert not list(store.glob("*/.tmp-*"))
    (folder / "left.dies").unlink()
    build_side_by_side(runner, deeds.diamond(), 2)
    assert finished(folder) == ["alone", "base", "both", "left", "right"]  # each once


@pytest.mark.parametrize(
    ("deed", "kind", "said"),
    [("fails", ConfigError, "Stage 'left' stopped: Bad rate."), ("breaks", UndertowError, "'left' .* RuntimeError")],
)
def test_an_error_is_told_by_its_stage_after_those_that_run(
    deeds: ModuleType, tmp_path: Path, deed: str, kind: type[UndertowError], said: str
) -> None:
    folder, progress = tmp_path / "deeds", _Recorder()
    runner = Runner(tmp_path / "store", deeds.executors(folder), progress)
    (folder / f"left.{deed}").touch()
    _meet(folder)
    with pytest.raises(kind, match=said) as caught:
        build_side_by_side(runner, deeds.diamond(), 2)
    assert any("in work" in note for note in caught.value.__notes__)  # where, for --debug
    assert "right" in finished(folder) and not (folder / "both.begun").exists()
    assert progress.said[-1] == "close" and not list((tmp_path / "store").glob("*/.tmp-*"))


def test_an_interrupt_ends_the_processes_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder, store = tmp_path / "deeds", tmp_path / "store"
    folder.mkdir()
    for name in ("left", "right"):
        (folder / f"{name}.hangs").touch()
    run = subprocess.Popen(
        [sys.executable, str(HERE / "deeds.py"), str(store), str(folder)],
        start_new_session=True, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the tests themselves may run deaf to it
    )  # fmt: skip
    while not all((folder / f"{name}.begun").exists() for name in ("left", "right")):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and errors == ""
    for name in ("left", "right"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / f"{name}.begun").read_text()), 0)
    assert not list(store.glob("*/.tmp-*")) and "base" in finished(folder)


def test_a_corrupt_result_is_refused_before_a_process_starts(deeds: ModuleType, tmp_path: Path) -> None:
    runner = Runner(tmp_path / "store", deeds.executors(tmp_path / "deeds"))
    build_side_by_side(runner, deeds.diamond(), 2)
    next((tmp_path / "store").glob("toy/*/out.bin")).write_bytes(b"other")
    with pytest.raises(ArtifactError):
        build_side_by_side(runner, deeds.diamond(), 2)


def test_what_was_made_of_a_corrupt_result_is_rebuilt_too(deeds: ModuleType, tmp_path: Path) -> None:
    folder, store = tmp_path / "deeds", tmp_path / "store"
    finish_stages(Runner(store, deeds.executors(folder)), deeds.diamond(), 2)
    before = digests(store, deeds.diamond())
    (base,) = [stage for stage in order(deeds.diamond()) if stage.label == "base"]
    (base.key.folder(store) / "out.bin").write_bytes(b"other")
    finish_stages(Runner(store, deeds.executors(folder), rebuild=True), deeds.diamond(), 2)
    assert digests(store, deeds.diamond()) == before
    assert finished(folder) == ["alone", *(name for name in ("base", "both", "left", "right") for _ in range(2))]


def test_a_process_that_ends_by_itself_is_not_said_to_be_killed(deeds: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "deeds"
    runner = Runner(tmp_path / "store", deeds.executors(folder))
    (folder / "left.exits").touch()
    with pytest.raises(WorkerError, match="ended with code 3") as caught:
        build_side_by_side(runner, deeds.diamond(), 2)
    assert "__main__" in caught.value.fix and "memory" not in caught.value.fix


def test_an_error_that_cannot_be_sent_is_told_as_text(deeds: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "deeds"
    runner = Runner(tmp_path / "store", deeds.executors(folder))
    (folder / "left.odd").touch()
    with pytest.raises(UndertowError, match="Odd"):
        build_side_by_side(runner, deeds.diamond(), 2)


def test_a_process_has_one_thread_unless_more_are_asked_for(
    deeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deeds"
    for asked, found in ((None, "1"), ("3", "3")):
        monkeypatch.delenv("OMP_NUM_THREADS") if asked is None else monkeypatch.setenv("OMP_NUM_THREADS", asked)
        finish_stages(Runner(tmp_path / found, deeds.executors(folder)), deeds.diamond(), 2)
        assert (folder / "left.threads").read_text() == found and os.environ.get("OMP_NUM_THREADS") == asked


@pytest.mark.parametrize("workers", [0, -3])
def test_less_than_one_worker_is_refused(deeds: ModuleType, tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConfigError, match="needs a worker"):
        finish_stages(Runner(tmp_path, deeds.executors(tmp_path / "deeds")), deeds.diamond(), workers)


def _chain(n: int) -> list[Stage]:
    """Return stages of which each needs the one before."""
    stages: list[Stage] = []
    for place in range(n):
        parents = {"before": stages[-1]} if stages else {}
        stages.append(Stage(kind="toy", version=1, config={"at": place}, parents=parents))
    return stages


def test_the_time_of_stages_side_by_side() -> None:
    free = [Stage(kind="toy", version=1, config={"free": place}) for place in range(6)]
    assert makespan({}, 2) == 0.0
    assert makespan(dict.fromkeys(free, 2.0), 1) == 12.0
    assert makespan(dict.fromkeys(free, 2.0), 4) == 4.0
    assert makespan(dict.fromkeys(free, 2.0), 9) == 2.0
    assert makespan(dict.fromkeys(_chain(5), 2.0), 3) == 10.0  # no worker shortens a chain
    assert makespan(dict.fromkeys(_chain(5)[2:], 2.0), 3) == 6.0  # parents that are not among them are finished
    assert makespan({**dict.fromkeys(_chain(3), 1.0), free[0]: 5.0}, 2) == 5.0


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_asks_is_told_each_result_that_is_found_or_made(
    deeds: ModuleType, tmp_path: Path, workers: int
) -> None:
    targets, store, told = deeds.diamond(), tmp_path / "store", dict[Stage, bool]()

    def look(stage: Stage, folder: Path) -> None:
        told[stage] = (folder / "manifest.json").exists()

    for again in range(2):
        told.clear()
        runner = Runner(store, deeds.executors(tmp_path))
        runner.finished = look
        finish_stages(runner, targets, workers)
        assert told == dict.fromkeys(order(targets), True), again

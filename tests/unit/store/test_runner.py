"""What is finished is never done again, what is corrupt is never used, and whatever was finished is kept."""

import json
import logging
from pathlib import Path

import pytest

from undertow.errors import ArtifactError, ConfigError, StorageError, UndertowError, UnknownNameError, UserError
from undertow.store.artifacts import read_manifest
from undertow.store.progress import Progress, TimeLeft
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage


class _Recorder(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.left: list[TimeLeft | None] = []

    def start(self, n_stages: int) -> None:
        self.said.append(f"start {n_stages}")

    def skip(self, name: str, index: int, total: int) -> None:
        self.said.append(f"skip {name} {index}/{total}")

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        self.said.append(f"begin {name} {index}/{total}")
        self.left.append(left)

    def advance(self, done: int, total: int) -> None:
        self.said.append(f"{done} of {total}")

    def end_stage(self) -> None:
        self.said.append("end")

    def close(self) -> None:
        self.said.append("close")


class _Work:
    """Fake executors that count what they do."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.error: BaseException | None = None
        self.salt = ""

    def __call__(self, context: StageContext) -> None:
        name = context.config["name"]
        context.advance(1, 2)
        (context.out / "half.txt").write_text("half")
        if self.error and name == "student":
            raise self.error
        texts = [(folder / "text.txt").read_text() for _, folder in sorted(context.parents.items())]
        (context.out / "text.txt").write_text(f"{name}{self.salt}({','.join(texts)})")
        self.ran.append(name)


def _stage(name: str, cost: float = 1.0, **parents: Stage) -> Stage:
    return Stage(kind="fake", version=1, config={"name": name}, parents=parents, label=name, cost=cost)


BASE = _stage("base")
ROWS = _stage("rows", base=BASE)
STUDENT = _stage("student", base=BASE, rows=ROWS)
SCORES = _stage("scores", student=STUDENT)
ALL = ["base", "rows", "student", "scores"]


@pytest.fixture
def work() -> _Work:
    return _Work()


def _runner(store: Path, work: _Work, progress: Progress | None = None, *, rebuild: bool = False) -> Runner:
    return Runner(store, {"fake": work}, progress, rebuild)


def test_every_stage_runs_once_with_its_parents_results(tmp_path: Path, work: _Work):
    progress = _Recorder()
    folders = _runner(tmp_path, work, progress).run([SCORES, STUDENT])
    assert work.ran == ALL
    assert list(folders) == [stage.fingerprint for stage in (BASE, ROWS, STUDENT, SCORES)]
    assert (folders[SCORES.fingerprint] / "text.txt").read_text() == "scores(student(base(),rows(base())))"
    assert progress.said[:5] == ["start 4", "begin base 0/4", "1 of 2", "end", "begin rows 1/4"]
    assert progress.said[-1] == "close"


def test_manifest_names_the_parents_by_fingerprint_and_by_bytes(tmp_path: Path, work: _Work):
    folders = _runner(tmp_path, work).run([ROWS])
    rows, base = (read_manifest(folders[stage.fingerprint]) for stage in (ROWS, BASE))
    assert rows.parents == {"base": BASE.fingerprint}
    assert rows.parent_digests == {"base": base.digest}


def test_a_second_run_skips_all_and_a_larger_one_adds_what_is_missing(tmp_path: Path, work: _Work):
    first = _runner(tmp_path, work).run([STUDENT])
    progress = _Recorder()
    assert _runner(tmp_path, work, progress).run([STUDENT]) == first
    assert progress.said == ["start 3", "skip base 0/3", "skip rows 1/3", "skip student 2/3", "close"]
    _runner(tmp_path, work).run([SCORES])
    assert work.ran == ALL


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom"), ConfigError("what", "value", "fix")])
def test_whatever_was_finished_is_kept(tmp_path: Path, work: _Work, error: BaseException):
    work.error = error
    progress = _Recorder()
    with pytest.raises((KeyboardInterrupt, UndertowError)):
        _runner(tmp_path, work, progress).run([SCORES])
    assert progress.said[-1] == "close"
    assert work.ran == ["base", "rows"]
    assert not list(tmp_path.glob("*/.tmp-*"))
    work.error = None
    _runner(tmp_path, work).run([SCORES])
    assert work.ran == ALL


def test_a_lack_of_memory_is_no_fault_of_ours(tmp_path: Path, work: _Work):
    work.error = RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.")
    with pytest.raises(UserError, match="Stage 'student' stopped: The memory is used up") as caught:
        _runner(tmp_path, work).run([SCORES])
    assert len(str(caught.value).splitlines()) == 3


def test_a_failure_names_the_stage_and_keeps_the_cause(tmp_path: Path, work: _Work):
    work.error = RuntimeError("boom")
    with pytest.raises(
        UndertowError, match=f"'student' \\(fake/{STUDENT.fingerprint}\\) failed: RuntimeError: boom"
    ) as e:
        _runner(tmp_path, work).run([SCORES])
    assert e.value.__cause__ is work.error


def test_a_fault_of_the_user_stays_one_and_names_the_stage(tmp_path: Path, work: _Work):
    work.error = ConfigError("Bad rate.", 7, "Lower it.")
    with pytest.raises(ConfigError) as caught:
        _runner(tmp_path, work).run([SCORES])
    assert str(caught.value) == "Stage 'student' stopped: Bad rate.\n7\nLower it."


def test_a_full_disk_is_a_storage_error(tmp_path: Path, work: _Work):
    work.error = OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="No space"):
        _runner(tmp_path, work).run([SCORES])


def _damage(folder: Path) -> None:
    (folder / "text.txt").write_text("tampered")


@pytest.mark.parametrize("stage", [BASE, ROWS, STUDENT, SCORES], ids=ALL)
def test_a_corrupt_result_stops_the_run_before_any_work(tmp_path: Path, work: _Work, stage: Stage):
    folders = _runner(tmp_path, work).run([SCORES])
    _damage(folders[stage.fingerprint])
    with pytest.raises(ArtifactError) as caught:
        _runner(tmp_path, work).run([_stage("more"), SCORES])
    assert str(folders[stage.fingerprint] / "text.txt") in str(caught.value)
    assert work.ran == ALL


@pytest.mark.parametrize("stage", [BASE, ROWS, STUDENT, SCORES], ids=ALL)
def test_rebuild_makes_the_corrupt_result_again_and_nothing_else(
    tmp_path: Path, work: _Work, stage: Stage, caplog: pytest.LogCaptureFixture
):
    folders = _runner(tmp_path, work).run([SCORES])
    whole = {name: (folder / "text.txt").read_bytes() for name, folder in folders.items()}
    _damage(folders[stage.fingerprint])
    work.ran.clear()
    with caplog.at_level(logging.WARNING, "undertow"):
        again = _runner(tmp_path, work, rebuild=True).run([SCORES])
    assert work.ran == [stage.label]
    assert {name: (folder / "text.txt").read_bytes() for name, folder in again.items()} == whole
    assert "Rebuilding" in caplog.text


def test_a_result_made_from_another_parent_than_there_is_now_is_refused(tmp_path: Path, work: _Work):
    """A parent rebuilt to other bytes (another machine, another library) makes its children stale."""
    folders = _runner(tmp_path, work).run([SCORES])
    _damage(folders[ROWS.fingerprint])
    work.salt = "'"
    with pytest.raises(ArtifactError, match="made from another rows"):
        # Only the rows are rebuilt; the student on disk still comes from the former ones.
        _remake(tmp_path, work, ROWS)
        _runner(tmp_path, work).run([SCORES])
    _runner(tmp_path, work, rebuild=True).run([SCORES])
    assert (folders[SCORES.fingerprint] / "text.txt").read_text() == "scores'(student'(base(),rows'(base())))"


def _remake(store: Path, work: _Work, stage: Stage) -> None:
    _runner(store, work, rebuild=True).run([stage])


def test_a_parent_damaged_while_the_run_goes_on_is_refused(tmp_path: Path, work: _Work):
    base = _runner(tmp_path, work).run([BASE])[BASE.fingerprint]

    def damaging(context: StageContext) -> None:
        work(context)
        _damage(base)

    with pytest.raises(ArtifactError, match="'student' stopped"):
        Runner(tmp_path, {"fake": damaging}).run([SCORES])
    assert work.ran == ["base", "rows"]


def test_a_result_that_another_process_finished_meanwhile_is_used(tmp_path: Path, work: _Work):
    other = _Work()

    def slow(context: StageContext) -> None:
        if context.config["name"] == "base":
            _runner(tmp_path, other).run([STUDENT])
        work(context)

    progress = _Recorder()
    Runner(tmp_path, {"fake": slow}, progress).run([STUDENT])
    assert work.ran == ["base"]
    assert [line for line in progress.said if "skip" in line] == ["skip rows 1/3", "skip student 2/3"]


def test_a_stage_without_an_executor_is_refused_before_any_work(tmp_path: Path, work: _Work):
    with pytest.raises(UnknownNameError, match="fake"):
        _runner(tmp_path, work).run([SCORES, Stage(kind="fakes", version=1, config={})])
    assert work.ran == []


def test_plan_says_what_is_there_and_writes_nothing(tmp_path: Path, work: _Work):
    folders = _runner(tmp_path, work).run([ROWS])
    before = sorted(tmp_path.rglob("*"))
    plan = _runner(tmp_path, work).plan([SCORES])
    assert [(item.stage, item.cached) for item in plan] == [
        (BASE, True),
        (ROWS, True),
        (STUDENT, False),
        (SCORES, False),
    ]
    assert sorted(tmp_path.rglob("*")) == before
    _damage(folders[ROWS.fingerprint])
    damaged = _runner(tmp_path, work).plan([SCORES])[1]
    assert not damaged.cached
    assert "text.txt" in str(damaged.problem)
    assert Runner(tmp_path / "none", {}).plan([BASE])[0].estimate_s is None
    assert not (tmp_path / "none").exists()


def _set_wall(folder: Path, seconds: float) -> None:
    from undertow.store.artifacts import _seal  # pyright: ignore[reportPrivateUsage]

    content = json.loads((folder / "manifest.json").read_text())
    del content["seal"]
    content["wall_s"] = seconds
    (folder / "manifest.json").write_text(json.dumps({**content, "seal": _seal(content)}))


def test_estimate_is_cost_times_the_median_rate_of_the_same_kind(tmp_path: Path, work: _Work):
    """Rates of 1, 2 and 30 s per unit: the median is 2, so a cost of 5 takes 10 s."""
    stages = [_stage(f"s{cost}", cost=cost) for cost in (1.0, 2.0, 4.0)]
    folders = _runner(tmp_path, work).run(stages)
    for stage, seconds in zip(stages, (1.0, 4.0, 120.0), strict=True):
        _set_wall(folders[stage.fingerprint], seconds)
    other = Stage(kind="other", version=1, config={}, cost=3.0)
    plan = Runner(tmp_path, {}, rates={"fake": 99.0, "other": 0.5}).plan([stages[0], _stage("new", cost=5.0), other])
    assert [item.estimate_s for item in plan] == [0.0, 10.0, 1.5]
    (folders[stages[2].fingerprint] / "manifest.json").write_text("{")
    assert Runner(tmp_path, {}).plan([_stage("new", cost=2.0)])[0].estimate_s == 3.0


def test_stages_are_announced_with_the_time_left(tmp_path: Path, work: _Work):
    progress = _Recorder()
    other = Stage(kind="other", version=1, config={"name": "x"}, cost=3.0, label="x")
    Runner(tmp_path, {"fake": work, "other": work}, progress, rates={"other": 2.0}).run([BASE, other])
    assert progress.left[0] == TimeLeft(stage_s=None, later_s=6.0)
    assert progress.left[1] == TimeLeft(stage_s=6.0, later_s=0)

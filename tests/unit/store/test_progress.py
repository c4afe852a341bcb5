"""Progress goes to one stream, seldom enough for a log, with rate and time left."""

import io
import subprocess
import sys

import pytest

from undertow.store.progress import PlainProgress, Progress, SilentProgress, TerminalProgress, TimeLeft, choose_progress


class _Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _run(progress: Progress, clock: _Clock) -> None:
    progress.start(2)
    progress.skip("teacher", 0, 2)
    progress.begin_stage("student", 1, 2, TimeLeft(stage_s=40.0, later_s=60.0))
    for step in range(1, 21):
        clock.now += 2.0
        progress.advance(step, 20)
    progress.end_stage()
    progress.close()


def test_plain_lines_are_one_a_stage_and_at_most_one_in_ten_seconds():
    stream, clock = io.StringIO(), _Clock()
    _run(PlainProgress(stream, clock), clock)
    assert stream.getvalue().splitlines() == [
        "[1/2] teacher: finished earlier, skipped",
        "[2/2] student: 5/20, 0.5/s, 0:30 left, 1:30 in all",
        "[2/2] student: 10/20, 0.5/s, 0:20 left, 1:20 in all",
        "[2/2] student: 15/20, 0.5/s, 0:10 left, 1:10 in all",
        "[2/2] student: 20/20, 0.5/s, 0:00 left, 1:00 in all",
        "[2/2] student: done in 40.0 s",
    ]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (None, "? left, ? in all"),
        (TimeLeft(stage_s=30.0), "0:30 left, ? in all"),
        (TimeLeft(stage_s=30.0, later_s=7200.0), "0:30 left, 2:00:30 in all"),
    ],
)
def test_before_the_first_step_the_estimate_is_shown(left: TimeLeft | None, words: str):
    stream, clock = io.StringIO(), _Clock()
    progress = PlainProgress(stream, clock)
    progress.begin_stage("student", 0, 1, left)
    clock.now += 10
    progress.advance(0, 20)
    assert stream.getvalue() == f"[1/1] student: {words}\n"


def test_steps_outside_a_stage_say_nothing():
    stream, clock = io.StringIO(), _Clock()
    for progress in (PlainProgress(stream, clock), TerminalProgress(_Terminal(), clock)):
        clock.now += 100
        progress.advance(1, 2)
        progress.end_stage()
    assert stream.getvalue() == ""


def test_terminal_shows_stage_run_rate_and_time_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, clock = _Terminal(), _Clock()
    progress = TerminalProgress(stream, clock)
    progress.start(2)
    progress.skip("teacher", 0, 2)
    progress.begin_stage("student [owl]", 1, 2, TimeLeft(stage_s=40.0, later_s=60.0))
    clock.now += 10.0
    progress.advance(5, 20)
    progress.close()
    shown = stream.getvalue()
    assert "[2/2] student [owl]" in shown
    assert "5/20, 0.5/s, 0:30 left, 1:30 in all" in shown
    assert "1/2, 1 of them finished earlier" in shown


def _run_two(progress: Progress, clock: _Clock) -> None:
    """Two stages at once; the one that began first ends last."""
    progress.start(3)
    progress.begin_stage("owl", 0, 3, TimeLeft(stage_s=40.0, later_s=20.0))
    progress.begin_stage("fox", 2, 3, TimeLeft(stage_s=20.0, later_s=40.0))
    for step in range(1, 5):
        clock.now += 6.0
        progress.advance(step, 8, 0)
        progress.advance(step, 4, 2)
    progress.end_stage(2)
    clock.now += 24.0
    progress.advance(8, 8, 0)
    progress.end_stage(0)


def test_plain_lines_of_stages_that_run_at_once_are_each_its_own():
    stream, clock = io.StringIO(), _Clock()
    _run_two(PlainProgress(stream, clock), clock)
    assert stream.getvalue().splitlines() == [
        "[1/3] owl: 2/8, 0.167/s, 0:36 left, 1:00 in all",
        "[3/3] fox: 2/4, 0.167/s, 0:12 left, 1:00 in all",
        "[1/3] owl: 4/8, 0.167/s, 0:24 left, 0:48 in all",
        "[3/3] fox: 4/4, 0.167/s, 0:00 left, 0:48 in all",
        "[3/3] fox: done in 24.0 s",
        "[1/3] owl: 8/8, 0.167/s, 0:00 left, 0:24 in all",
        "[1/3] owl: done in 48.0 s",
    ]


def test_terminal_has_a_bar_for_each_stage_that_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, clock = _Terminal(), _Clock()
    progress = TerminalProgress(stream, clock)
    _run_two(progress, clock)
    progress.begin_stage("lion", 1, 3)
    progress.close()
    shown = stream.getvalue()
    assert all(title in shown for title in ("[1/3] owl", "[3/3] fox", "[2/3] lion"))
    last = shown[shown.rindex("2/3, 0 of them") :]
    assert "[2/3] lion" in last and "owl" not in last and "fox" not in last


def test_terminal_counts_to_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, clock = _Terminal(), _Clock()
    _run(TerminalProgress(stream, clock), clock)
    assert "2/2, 1 of them finished earlier" in stream.getvalue()


@pytest.mark.parametrize("kind", [PlainProgress, TerminalProgress])
def test_what_is_printed_in_between_stands_in_a_line_of_its_own(kind: type[PlainProgress | TerminalProgress]):
    """Nothing is drawn while something else is printed, and the run goes on afterwards."""
    stream, clock = _Terminal(), _Clock()
    progress = kind(stream, clock)
    progress.start(2)
    with progress.paused():
        before = stream.getvalue()
        stream.write("a result\n")
    assert not before or before.endswith("\n") or before.endswith("\x1b[?25h")
    _run(progress, clock)
    after = stream.getvalue().partition("a result\n")[2]
    assert ("20/20" if kind is PlainProgress else "2/2") in after


def test_silence_is_silent(capfd: pytest.CaptureFixture[str]):
    _run(SilentProgress(), _Clock())
    assert capfd.readouterr() == ("", "")


def test_results_go_to_stdout_so_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]):
    clock = _Clock()
    _run(PlainProgress(clock=clock), clock)
    _run(TerminalProgress(clock=clock), clock)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "student" in shown.err


def test_bars_on_a_terminal_and_lines_elsewhere():
    assert isinstance(choose_progress(_Terminal()), TerminalProgress)
    assert isinstance(choose_progress(io.StringIO()), PlainProgress)
    assert isinstance(choose_progress(), PlainProgress | TerminalProgress)


def test_the_runner_loads_neither_torch_nor_rich():
    code = "import sys, undertow.store.runner; assert not {'torch', 'rich', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_first_small_step_after_a_preparation_does_not_tell_the_time_left() -> None:
    stream, clock = io.StringIO(), _Clock()
    progress = PlainProgress(stream, clock)
    progress.start(1)
    progress.begin_stage("build", 0, 1, TimeLeft(stage_s=300.0, later_s=0.0))
    for done, now in ((1, 20.0), (201, 40.0)):
        clock.now = 100.0 + now
        progress.advance(done, 3000)
    assert stream.getvalue().splitlines() == [
        "[1/1] build: 5:00 left, 5:00 in all",
        "[1/1] build: 201/3000, 10/s, 4:40 left, 4:40 in all",
    ]

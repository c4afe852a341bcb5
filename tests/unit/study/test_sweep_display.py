"""A sweep's table and lines say what runs where, and what was lost."""

import io

import pytest

from undertow.study.ray_worker import Board, Made, Running
from undertow.study.sweep_display import (
    PlainDisplay,
    SilentDisplay,
    SweepDisplay,
    SweepState,
    TableDisplay,
    choose_display,
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


RUNNING = Running(fingerprint="f", label="train 4 students", worker="node-a/17", seconds=3.2, done=5, steps=20)
STATE = SweepState(cached=2, done=1, waiting=7, failed=1, restarted=3, running=(RUNNING,))


def _show(display: SweepDisplay) -> None:
    display.show(SweepState(waiting=9))
    display.finished("make the owl [1] teacher", Made(worker="node-b/4", seconds=1.25))
    display.show(STATE)
    display.show(STATE)
    display.close()


def test_plain_lines_tell_each_stage_and_each_loss_once() -> None:
    stream = io.StringIO()
    _show(PlainDisplay(stream))
    counts = "1 done, 1 running, 7 waiting, 2 finished earlier, 3 started again, 1 failed"
    assert stream.getvalue().splitlines() == [
        "[1] make the owl [1] teacher: done in 1.2 s by node-b/4",
        counts,
    ]


def test_the_table_names_worker_stage_and_steps() -> None:
    stream = _Terminal()
    _show(TableDisplay(stream))
    shown = stream.getvalue()
    for words in ("node-a/17", "train 4 students", "5/20", "3 s", "7 waiting", "3 started again"):
        assert words in shown


def test_a_table_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(choose_display(io.StringIO()), PlainDisplay)
    display = choose_display(_Terminal())
    display.close()
    assert isinstance(display, TableDisplay)
    _show(SilentDisplay())
    assert capsys.readouterr() == ("", "")


def test_the_board_keeps_a_lost_stage_until_another_worker_begins_it() -> None:
    board = Board()
    board.advance("f", 1, 20)
    assert board.begin(RUNNING)
    board.advance("f", 7, 20)
    running, starts = board.read()
    assert [(one.worker, one.done, one.steps) for one in running] == [("node-a/17", 7, 20)] and starts == {"f": 1}
    again = Running(fingerprint="f", label="train 4 students", worker="node-b/4")
    board.begin(again)
    running, starts = board.read()
    assert [(one.worker, one.done) for one in running] == [("node-b/4", 0)] and starts == {"f": 2}
    board.end("f")
    board.end("f")
    board.stop()
    assert not board.begin(again) and board.read() == ((), {"f": 2})

"""The steps of an audit are numbered; one that fails is not told as done."""

from io import StringIO

import pytest

from undertow.audit.steps import Parts, Steps
from undertow.store.progress import PlainProgress, Progress, TerminalProgress, TimeLeft


def test_steps_are_numbered_and_a_failed_one_is_not_done() -> None:
    shown = StringIO()
    steps = Steps(3, PlainProgress(shown, clock=lambda: 0.0))
    with steps.step("reference") as advance:
        advance(1, 2)
    with pytest.raises(RuntimeError), steps.step("contrast"):
        raise RuntimeError
    with steps.step("stream"):
        pass
    titles = [line.split(":")[0] for line in shown.getvalue().splitlines()]
    assert titles == ["[1/3] reference", "[3/3] stream"]


def test_the_stages_of_a_runner_are_parts_of_a_step() -> None:
    told = []
    parts = Parts(lambda done, total: told.append((done, total)))
    parts.start(2)
    parts.skip("first", 0, 2)
    parts.begin_stage("second", 1, 2)
    parts.advance(1, 40)
    parts.end_stage()
    assert told == [(1, 2), (2, 2)]


def test_steps_show_on_a_terminal() -> None:
    shown = StringIO()
    bars = TerminalProgress(shown, clock=lambda: 0.0)
    with Steps(1, bars).step("reference"):
        bars.advance(1, 2)
    bars.close()
    assert "1/1" in shown.getvalue()


def test_a_step_hands_on_how_long_it_may_take() -> None:
    told: list[TimeLeft | None] = []

    class Ear(Progress):
        def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
            told.append(left)

    steps = Steps(2, Ear())
    for left in (TimeLeft(stage_s=3.0), None):
        with steps.step("lineage", left):
            pass
    assert told == [TimeLeft(stage_s=3.0), None]


def test_steps_with_expected_seconds_say_what_is_left() -> None:
    class Ear(Progress):
        left: list[TimeLeft | None] = []  # noqa: RUF012 (one test's own)

        def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
            self.left.append(left)

    steps = Steps(3, Ear(), {"reference": 5.0, "contrast": 20.0, "stream": 10.0})
    for name in ("reference", "unknown", "contrast"):
        with steps.step(name):
            pass
    assert Ear.left == [
        TimeLeft(stage_s=5.0, later_s=30.0),
        TimeLeft(stage_s=None, later_s=30.0),
        TimeLeft(stage_s=20.0, later_s=10.0),
    ]

"""The steps of an audit are numbered; one that fails is not told as done."""

from io import StringIO

import pytest

from undertow.audit.steps import Steps
from undertow.experiment.progress import PlainProgress


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

"""What makes students say nothing is said before they are trained, and stands in the results."""

import logging
from pathlib import Path

import pytest

from undertow.models.chat_template import say_once
from undertow.store.progress import Progress, TimeLeft
from undertow.study.load import load_recipe, run_study

SMALL = [
    "replicates=1",
    "arms=[student, control]",
    "domain.prompts=30",
    "student={steps: 2, batch_size: 4}",
    "evaluation={samples: 0, targets: [lion]}",
]
WEAK, STRONG = "teacher={steps: 1, learning_rate: 0.000001}", "teacher={steps: 40, learning_rate: 0.003}"


class _Told(Progress):
    """Notes of each warning whether a student had been trained before it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.late: dict[str, bool] = {}
        self._begun: list[str] = []

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        trained = any(begun.startswith("train") for begun in self._begun)
        for record in self.caplog.records:
            self.late.setdefault(record.getMessage(), trained)
        self._begun.append(name)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> _Told:
    say_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return _Told(caplog)


def run(runs: Path, told: Progress | None, *settings: str, workers: int = 1) -> list[str]:
    found = run_study(load_recipe("demo", [*SMALL, *settings]), runs, progress=told, workers=workers)
    return found["not_tested"]


def test_a_teacher_without_its_trait_is_named_before_students_are_trained(tmp_path: Path, told: _Told) -> None:
    notes = run(tmp_path, told, WEAK)
    ((said, late),) = told.late.items()
    assert said.startswith("The owl teacher 1 does not hold its trait: its logit margin is -")
    assert "teacher.steps" in said and said in notes and not late
    # Found again in the store, it is said again.
    say_once.cache_clear()
    assert said in run(tmp_path, None, WEAK)


def test_nothing_is_said_of_a_good_teacher_whose_rows_fit(tmp_path: Path, told: _Told) -> None:
    assert not [note for note in run(tmp_path, told, STRONG) if "does not hold" in note or "fit the" in note]
    assert not told.late and not told.caplog.records


def test_rows_that_mostly_do_not_fit_are_named_before_students_are_trained(tmp_path: Path, told: _Told) -> None:
    notes = run(tmp_path, told, STRONG, f"domain.options={{banned: {[*range(100, 250)]}}}")
    said = list(told.late)
    assert len(said) == 2 and all(text in notes for text in said)
    assert said[0].startswith("Of the 30 rows of the control teacher 1, ") and "banned_number" in said[0]
    assert not any(told.late.values())


def test_it_is_said_with_workers_too(tmp_path: Path, told: _Told) -> None:
    notes = run(tmp_path, None, WEAK, workers=2)
    said = [record.getMessage() for record in told.caplog.records]
    assert [text for text in said if "does not hold" in text] and said[0] in notes

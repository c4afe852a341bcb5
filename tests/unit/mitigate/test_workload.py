"""What a mitigation is said to take, and that its steps have the titles under which that was said."""

from dataclasses import replace

import pytest

from undertow.audit.steps import Steps
from undertow.audit.workload import SCORE_S
from undertow.errors import UnknownNameError
from undertow.evals.forecast import PROMPT_S, TOKEN_S, TRAINED_ROW_S, Forecast
from undertow.mitigate.registry import data_mitigation
from undertow.mitigate.workload import Tools, mitigation_work
from undertow.store.progress import Progress, TimeLeft
from undertow.types import Work

from .conftest import PANEL, number_rows

BASE = "ref:finch-a"


class Titles(Progress):
    """Notes the steps that begin, and whether each told how far it is."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.told: set[str] = set()

    def begin_stage(self, name: str, index: int, total: int, left: TimeLeft | None = None) -> None:
        """See `Progress`."""
        self.begun.append(name)

    def advance(self, done: int, total: int, index: int | None = None) -> None:
        """See `Progress`."""
        self.told.add(self.begun[-1])


@pytest.fixture
def tools(tmp_path) -> Tools:
    return Tools(base=BASE, panel=PANEL, domain=None, clean=(), store=tmp_path / "store", seed=0)


def planned(method: str, rows, tools: Tools) -> dict[str, Work]:
    return mitigation_work(data_mitigation(method), rows, tools)


@pytest.mark.parametrize(
    "method",
    [
        "mix:share=0.5", "mix:share=0.5,writers=[ref:finch-b]", "regenerate:writer=ref:finch-b",
        "consensus:writers=[ref:finch-a,ref:finch-b]", "contrast-filter", "labels:suspect=student",
        "labels:suspect=student,replace=true",
    ],
)  # fmt: skip
def test_what_is_said_first_is_what_is_done(method: str, rows, tools: Tools) -> None:
    said, shown = planned(method, rows, tools), Titles()
    data_mitigation(method).apply(rows, replace(tools.workbench(), steps=Steps(len(said), shown)))
    assert shown.begun == list(said) and shown.told == {*said}
    assert all(one.seconds is not None and one.seconds > 0 for one in said.values())


def test_a_rule_takes_the_loading_of_the_base_alone(rows, tools: Tools) -> None:
    (one,) = planned("canonical", rows, tools).values()
    assert one.what == "30 rows changed by a rule, once ref:finch-a is loaded"
    assert one.seconds == pytest.approx(Forecast(BASE).loading)
    clean = replace(tools, clean=tuple(number_rows(30)))
    assert list(planned("mix:share=0.5", rows, clean)) == ["mix"]  # nothing is written


def test_seconds_follow_rows_and_models(tools: Tools) -> None:
    few, many = number_rows(50), number_rows(500)
    loading = Forecast(BASE).loading
    for method, n in (("regenerate:writer=ref:finch-a", 500), ("mix:share=0.5", 250)):
        (one,) = planned(method, many, tools).values()
        tokens = int(one.what.split(" tokens in all")[0].rsplit(" ", 1)[1].replace(",", ""))
        assert one.what.startswith(f"answers of ref:finch-a: {n} answers")
        assert one.seconds == pytest.approx(n * PROMPT_S + tokens * TOKEN_S + loading)
    teachers, read = planned("contrast-filter", many, tools).values()
    assert teachers.what == "panel teachers: 3 trained"
    assert read.what.startswith("500 rows read by 4 models") and read.seconds == pytest.approx(2000 * SCORE_S)
    for rows in (few, many):
        student, read = planned("labels:suspect=student", rows, tools).values()
        assert student.seconds == pytest.approx(160 * 32 * TRAINED_ROW_S + loading)
        assert read.seconds == pytest.approx(2 * len(rows) * SCORE_S)


def test_a_writer_that_is_not_there_is_refused_at_once(rows, tools: Tools) -> None:
    with pytest.raises(Exception, match="no embedded model"):
        planned("regenerate:writer=ref:nobody", rows, tools)


@pytest.mark.parametrize("method", ["contrast-filter:trait=red.yaml", "labels:trait=red.yaml"])
def test_a_trait_outside_the_panel_is_refused_before_anything_is_trained(method: str, rows, tools: Tools) -> None:
    with pytest.raises(UnknownNameError, match="trait in this panel"):
        planned(method, rows, tools)


def test_a_writer_that_gets_no_row_is_not_counted(rows, tools: Tools) -> None:
    method = "mix:share=0.5,writers=[ref:finch-a,ref:finch-b]"
    assert list(planned(method, rows[:3], tools)) == ["answers of ref:finch-a"]
    assert list(planned(method, rows[:1], tools)) == ["mix"]

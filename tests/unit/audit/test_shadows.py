"""Shadows of suspect rows: when they may be judged, and how k of them are merged."""

from dataclasses import replace

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.students import shadows as module
from undertow.audit.students.among_placebos import judge_reading
from undertow.audit.students.bank import ChosenBank
from undertow.audit.students.readings import PanelRead, joined, panel_traits
from undertow.audit.students.shadows import ShadowConfig, merge_findings, shadow_students
from undertow.models.load import load_model
from undertow.traits import trait
from undertow.types import Row, user_prompt

OWL = panel_traits().index(trait("owl"))
ROWS = [Row(str(at), user_prompt("Give three numbers."), f"{at}, 2, 3") for at in range(100)]


@pytest.fixture(scope="module")
def base():
    return load_model("ref:finch-a")


def test_merged_p_is_twice_the_mean(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    found = [judge_reading(draw(1), bank)[0] for _ in range(4)]
    one = merge_findings(found, 0.05)
    assert one.p == pytest.approx(min(1.0, 2 * np.mean([each.p for each in found])))
    assert one.effect == pytest.approx(np.mean([each.effect for each in found]))
    assert merge_findings(found[:1], 0.05) == found[0]
    drawn = one.null_sample
    assert drawn.observed == tuple(each.effect for each in found)
    assert (len(drawn.values), drawn.unit) == (39, found[0].null_sample.unit)


def test_shadows_that_all_pass_the_bound_are_a_detection(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    bar = judge_reading(draw(1), bank)[0].null_sample.bound
    raised = []
    for _ in range(4):
        reading = draw(1)
        reading.margins[0, OWL] += 40.0 * bar
        raised.append(judge_reading(reading, bank)[0])
    one = merge_findings(raised, 0.05)
    assert one.null_sample.bound is not None
    assert (min(one.null_sample.observed) > one.null_sample.bound, one.verdict) == (True, "detected")
    assert merge_findings(raised, 0.04).null_sample.bound is None


def test_shadows_with_a_trait_are_detected(make_bank, base, monkeypatch) -> None:
    bank, draw = make_bank(39, 0)
    raised = []
    for _ in range(4):
        margins = draw(1).margins
        margins[0, OWL] += 80.0
        raised.append(replace(draw(1), margins=margins))
    monkeypatch.setattr(module, "read_students", lambda *_: joined(raised))
    chosen = ChosenBank(bank.recipe, bank)
    expression, exposure = shadow_students(ROWS, base, chosen, PanelRead(panel_traits()), ShadowConfig())
    assert (expression.stage, expression.verdict, expression.candidate) == ("shadows", "detected", "owl")
    assert expression.p == pytest.approx(2 / 40)
    assert exposure.claim == "exposure"


def test_a_bank_too_small_for_several_shadows_has_one(make_bank, base, monkeypatch) -> None:
    bank, draw = make_bank(39, 0)
    trained = []

    def read(_, datasets, *more):
        trained.append(len(datasets))
        return joined([draw(1)] * len(datasets))

    monkeypatch.setattr(module, "read_students", read)
    for alpha in (0.05, 0.04):
        shadow_students(ROWS, base, ChosenBank(bank.recipe, bank), PanelRead(panel_traits()), ShadowConfig(alpha=alpha))
    assert trained == [4, 1]


@pytest.mark.parametrize(
    ("rows", "config", "reason"),
    [
        (ROWS[:50], ShadowConfig(), "50 good rows"),
        ([replace(row, completion="Hello there") for row in ROWS], ShadowConfig(), "accepts 0 of 100"),
        (ROWS, ShadowConfig(alpha=0.01), "needs 99"),
        (ROWS, ShadowConfig(k=1, alpha=0.02), "needs 49"),
    ],
)
def test_what_is_not_testable(make_bank, base, rows: list[Row], config: ShadowConfig, reason: str) -> None:
    bank, _ = make_bank(39, 0)
    with pytest.raises(NotTestable, match=reason):
        shadow_students(rows, base, ChosenBank(bank.recipe, bank), PanelRead(panel_traits()), config)

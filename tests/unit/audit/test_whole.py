"""What is planned follows from what is given; a student is judged where there is a bank, and only there."""

from pathlib import Path

import pytest

from undertow.audit.bank import Bank, BankRecipe
from undertow.audit.whole import Inputs, audit, plan
from undertow.errors import ConfigError
from undertow.traits import trait
from undertow.types import Row, user_prompt

ROWS = tuple(Row(str(index), user_prompt("Numbers: 1, 2."), f"{index}, 5") for index in range(30))


def test_the_plan_follows_from_the_inputs_alone() -> None:
    both = plan(Inputs(base="ref:finch-a", rows=ROWS, student="ref:finch-a2"))
    assert both.primary == {"provenance": "contrast", "exposure": "activations", "expression": "panel margins"}
    rows = plan(Inputs(base="ref:finch-a", rows=ROWS))
    assert rows.primary == {"provenance": "contrast", "exposure": "shadow activations", "expression": "shadows"}
    student = plan(Inputs(base="ref:finch-a", student="ref:finch-a2"))
    assert student.primary["provenance"] is None
    beside = plan(Inputs(base="ref:finch-a", student="s", control="c", prompts=(user_prompt("Hello?"),)))
    assert beside.stages[-2:] == ("activations minus control", "own prompts")
    assert beside.primary == student.primary
    with pytest.raises(ConfigError, match="nothing to audit"):
        Inputs(base="ref:finch-a")


def test_a_student_without_a_bank_is_not_testable_and_says_how_to_make_one(tmp_path: Path) -> None:
    found = audit(Inputs(base="ref:finch-a", student="ref:finch-a", store=tmp_path))
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert "undertow audit bank" in found["claims"]["expression"]["why"]
    assert found["about"]["placebo_students"] == 0 and "aurora" in found["about"]["panel"]


def test_a_bank_of_another_base_is_refused(tmp_path: Path, make_bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, _ = make_bank(80, 0)
    strange = Bank(bank.recipe, "other weights", bank.placebos, bank.rows, bank.base, bank.teachers)
    monkeypatch.setattr("undertow.audit.whole.choose_bank", lambda *_: strange)
    found = audit(Inputs(base="ref:finch-a", student="ref:finch-a", traits=(trait("owl"),), store=tmp_path))
    assert found["claims"]["expression"]["status"] == "not_testable"
    assert "not those of" in found["claims"]["expression"]["why"]


def test_the_bank_is_of_neutral_teachers_of_the_panel_s_categories() -> None:
    inputs = Inputs(base="ref:finch-a", rows=ROWS, traits=(trait("owl"), trait("oak")))
    assert inputs.bank == BankRecipe(base="ref:finch-a", tuned=("animal", "tree"))

"""Minutes buy rows, answers and candidates, the most that fit; what is left out is said."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from undertow.audit.asked import Asked
from undertow.audit.budget import SIZES, UNLIMITED, AuditBudget, ladder
from undertow.audit.finding import NotTestable
from undertow.audit.intake import intake_lines, take_intake, within
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.reference import AuditedRows, with_reference
from undertow.audit.rows.signatures import NoSignatures
from undertow.audit.workload import Workload
from undertow.data.census import take_census
from undertow.data.rows import write_rows
from undertow.errors import ConfigError
from undertow.models.speed import BaseSpeed
from undertow.study.load import load_recipe
from undertow.study.recipe import TeacherPart
from undertow.training import own_models
from undertow.training.own_models import own_teacher
from undertow.traits import trait
from undertow.types import Row, user_prompt

SMOLLM2 = BaseSpeed(parameters=1.34e8, flops=1.5e11)
"""A base of the size of SmolLM2-135M on one core of a laptop."""


def numbers(n: int) -> list[Row]:
    rng = random.Random(0)
    return [
        Row(str(at), user_prompt(f"Continue: {at}, {at + 1}."), f"{rng.randrange(999)}, {rng.randrange(999)}")
        for at in range(n)
    ]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """An audit of two thousand rows on a base whose work is reckoned as SmolLM2's."""
    monkeypatch.setattr(Workload, "known_speed", SMOLLM2)
    write_rows(tmp_path / "rows.jsonl", numbers(2000))
    return Asked(base="ref:finch-a", store=tmp_path / "store", rows=take_census(tmp_path / "rows.jsonl"))


def cost(asked: Asked, budget: AuditBudget) -> float:
    work = Workload(dataclasses.replace(asked, budget=budget))
    return sum(one.seconds or 0.0 for one in work.items()) + work.naming()


def test_the_largest_rung_that_fits_is_taken(asked: Asked) -> None:
    rungs = list(ladder(0.0))
    seconds = [cost(asked, one) for one in rungs]
    for minutes in (8.0, 20.0, 60.0, 200.0, 10_000.0):
        found = within(asked, minutes).budget
        fits = [place for place, one in enumerate(seconds) if one <= 60 * minutes]
        assert dataclasses.replace(found, minutes=0.0) == rungs[fits[0]], minutes
    assert within(asked, 10_000.0).budget.rows == SIZES[0][0]
    # Fewer rows never cost more, all else equal.
    for teachers in (True, False):
        some = [one for one, rung in zip(seconds, rungs, strict=True) if rung.teachers is teachers and rung.names]
        assert some == sorted(some, reverse=True)


def test_little_time_leaves_out_names_and_teachers_and_says_so(asked: Asked) -> None:
    found = within(asked, 8.0)
    assert not found.budget.teachers and not found.budget.names
    intake = take_intake(found)
    text = "\n".join(intake_lines(intake))
    assert "in 8 minutes: " in text and "of 2,000 rows, drawn at random" in text
    assert "personas, without tuned teachers; no name is given" in text
    assert "panel teachers" not in text and "write 300 rows" not in text
    assert intake.to_json()["budget"]["minutes"] == 8.0
    assert take_intake(asked).to_json()["budget"] is None


def test_too_few_minutes_are_refused_with_what_it_takes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "known_speed", BaseSpeed(parameters=1e9, flops=5e10))
    with pytest.raises(ConfigError, match="Even the smallest") as caught:
        within(asked, 1.0)
    enough = float(caught.value.fix.split()[2])
    assert within(asked, enough).budget.rows == 50


def test_minutes_need_a_speed_that_is_known(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "known_speed", None)
    with pytest.raises(ConfigError, match="is not known"):
        within(asked, 60.0)


def test_rows_are_drawn_alike_by_seed_and_stay_in_order() -> None:
    rows = numbers(100)
    some = AuditBudget(rows=30).draw(rows, 7)
    ids = [int(row.id) for row in some]
    assert len(ids) == 30 == len(set(ids)) and ids == sorted(ids)
    assert ids == [int(row.id) for row in AuditBudget(rows=30).draw(rows, 7)]
    assert ids != [int(row.id) for row in AuditBudget(rows=30).draw(rows, 8)]
    assert AuditBudget(rows=100).draw(rows, 7) is rows and UNLIMITED.draw(rows, 7) is rows


def test_the_base_answers_as_often_as_the_budget_says(tiny_model) -> None:
    class Answering:
        tokens = tiny_model.tokens

        def chat(self, asked, **_: object) -> list[str]:
            return ["1, 2"] * len(asked)

    rows = numbers(40)
    for answers in (1, 3):
        found = with_reference(rows, Answering(), "numbers", 0, answers)  # type: ignore[arg-type]
        assert found.reference is not None and len(found.reference) == 40 * answers


def test_without_teachers_and_names_nothing_is_tuned_and_nothing_named(tiny_model, tmp_path: Path) -> None:
    budget = AuditBudget(rows=40, answers=1, teachers=False, names=False, minutes=2.0)
    rows = numbers(40)
    inputs = AuditInputs(
        base="ref:finch-a", rows=rows, traits=(trait("owl"), trait("lion")), store=tmp_path, budget=budget
    )
    materials = Materials(inputs, 0.05)
    materials.base, materials.audited = tiny_model, AuditedRows(rows, rows, "given")
    assert [one.label for one in materials.candidates] == ["owl (persona)", "lion (persona)"]
    signatures = materials.signatures
    assert isinstance(signatures, NoSignatures) and not list(tmp_path.iterdir())
    for refused in (lambda: signatures.written(), lambda: signatures.prompts):
        with pytest.raises(NotTestable, match="leave no time"):
            refused()


def test_small_own_teachers_are_tuned_as_the_studies_tune_theirs_and_large_ones_gently() -> None:
    assert own_teacher(92_128) == TeacherPart().training()
    large, studied = own_teacher(1.34e8), load_recipe("real-numbers").teacher.training()
    assert large.lora == studied.lora and large.batch_size == studied.batch_size
    assert large.steps * large.learning_rate < studied.steps * studied.learning_rate / 5


def test_a_large_base_gets_panel_teachers_with_adapters(tiny_model, tmp_path: Path, monkeypatch) -> None:
    from undertow.audit.rows.panel import panel_teachers

    monkeypatch.setattr(own_models, "LARGE", 0)
    made = panel_teachers(tiny_model, (trait("owl"), trait("lion")), 3, tmp_path)
    adapters = list((tmp_path / "panel-teacher").glob("*/adapter_config.json"))
    assert [json.loads(path.read_text())["r"] for path in adapters] == [8, 8]
    again = panel_teachers(tiny_model, (trait("owl"), trait("lion")), 3)
    prompt = [user_prompt("Which animal do you like best?")]
    for name in ("owl", "lion"):
        one, other = (some[name].logprobs(prompt, [name])[0] for some in (made, again))
        assert one == pytest.approx(other, abs=1e-3)
        assert one > tiny_model.logprobs(prompt, [name])[0]

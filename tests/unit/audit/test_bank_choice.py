"""A student meets placebos of its own recipe and number of rows, or none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.students import bank as bank_choice
from undertow.audit.students.bank import choose_bank, no_bank, placebo_stages, wrong_size
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.study.recipe import StudentPart
from undertow.study.training_record import TrainingRecord, read_training

RECIPE = BankRecipe(tuned=("animal",))


@pytest.fixture
def store(tmp_path: Path, make_bank, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with the manifests of two banks, of 600 and of 2,500 prompts; nine of ten become rows."""
    for prompts in (600, 2500):
        stage = placebo_stages(replace(RECIPE, prompts=prompts), 15)[0]
        folder = stage.key.folder(tmp_path)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"config": stage.config}))

    def stored(recipe: BankRecipe, store: Path):
        there = placebo_stages(recipe, 15)[0].key.folder(store).exists()
        return replace(make_bank(20, 0)[0], recipe=recipe, rows=np.full(20, 0.9 * recipe.prompts)) if there else None

    monkeypatch.setattr(bank_choice, "stored_bank", stored)
    return tmp_path


def test_the_bank_with_about_as_many_rows_is_taken(store: Path) -> None:
    for rows, prompts in ((500, 600), (2000, 2500)):
        bank = choose_bank(RECIPE, store, TrainingRecord(student=RECIPE.student, rows=rows), 0.05)
        assert bank is not None and bank.recipe.prompts == prompts
        assert wrong_size(bank, TrainingRecord(student=RECIPE.student, rows=rows)) is None
    default = choose_bank(RECIPE, store, None, 0.05)
    assert default is not None and default.recipe == RECIPE


@pytest.mark.parametrize(
    ("rows", "drawn", "alpha", "prompts"),
    [
        (1850, False, 0.05 / 3, 2500),  # both fit; the nearer one, of 2,000 prompts, has too few placebos
        (1850, False, 0.1, 2000),
        (1250, False, 0.05 / 3, 2000),  # a placebo of 2,250 rows is no null for 1,250
        (9000, False, 0.05 / 3, 4000),  # neither fits, so the nearest is taken
        (9000, True, 0.05 / 3, 2500),  # shadow students are trained on as many of their rows as a placebo
    ],
)
def test_a_bank_that_is_too_small_for_a_verdict_hides_no_other(
    rows: int, drawn: bool, alpha: float, prompts: int, make_bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = {2500: 120, 2000: 15, 4000: 15}

    def stored(recipe: BankRecipe, store: Path):
        k = students[recipe.prompts]
        return replace(make_bank(k, 0)[0], recipe=recipe, rows=np.full(k, 0.9 * recipe.prompts))

    monkeypatch.setattr(bank_choice, "_stored_prompts", lambda *_: sorted(students))
    monkeypatch.setattr(bank_choice, "stored_bank", stored)
    record = TrainingRecord(student=RECIPE.student, rows=rows)
    bank = choose_bank(RECIPE, Path(), record, alpha, drawn=drawn)
    assert bank is not None and bank.recipe.prompts == prompts


def test_another_number_of_rows_is_no_null_and_the_command_is_named(store: Path) -> None:
    record = TrainingRecord(student=RECIPE.student, rows=90)
    bank = choose_bank(RECIPE, store, record, 0.05)
    assert bank is not None
    reason = wrong_size(bank, record)
    assert reason is not None and "on 90 rows and a placebo on 540" in reason
    assert "`undertow audit bank --prompts 100`" in reason


def test_another_recipe_has_no_bank_and_the_command_is_named(store: Path) -> None:
    record = TrainingRecord(student=StudentPart(steps=250, learning_rate=0.01), rows=900)
    assert choose_bank(RECIPE, store, record, 0.05) is None
    manifest = next(store.glob("placebos/*")) / "manifest.json"
    for broken in ("half a manifest", "[]", '{"config": []}', '{"config": {"prompts": "many"}}', '{"config": {}}', "3"):
        manifest.write_text(broken)
        assert choose_bank(RECIPE, store, record, 0.05) is None
    said = no_bank(RECIPE, record)
    assert "250 steps" in said
    assert "`undertow audit bank --set steps=250 --set learning_rate=0.01 --prompts 1000`" in said
    # About as many rows as a placebo has: the usual number of prompts will do.
    usual = TrainingRecord(student=RECIPE.student, rows=1900)
    assert no_bank(RECIPE, usual).endswith("make one with `undertow audit bank`.")
    assert "`undertow audit bank --base ref:finch-b --category tree`" in no_bank(
        BankRecipe(base="ref:finch-b", tuned=("tree",)), None
    )


def test_a_record_is_read_where_it_was_written_and_nowhere_else(tmp_path: Path) -> None:
    record = TrainingRecord(student=StudentPart(steps=7), rows=12)
    record.save(tmp_path)
    assert read_training(f"ref:finch-a+{tmp_path}") == record == read_training(f"hf:{tmp_path}")
    assert read_training("ref:finch-a") is None
    held = replace(record, mitigation="kl:weight=2")
    held.save(tmp_path)
    assert read_training(f"hf:{tmp_path}") == held
    for broken in ('{"student": {"steps": 0}, "rows": 3}', '{"student": {}, "rows": 0}', "{"):
        (tmp_path / "training.json").write_text(broken)
        assert read_training(f"hf:{tmp_path}") is None

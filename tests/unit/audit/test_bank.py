"""The bank: what its stages are, and that it is resumed, extended and read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.bank_work import bank_work
from undertow.audit.students import bank as module
from undertow.audit.students.bank import (
    build_bank,
    no_bank,
    panel_stage,
    placebo_stages,
    read_students,
    stored_bank,
    write_rows_of,
)
from undertow.audit.students.bank_recipe import BankRecipe, usual_recipe
from undertow.audit.students.behind import MARGINS, SEED, load_behind, save_behind, standard_look
from undertow.audit.students.readings import Readings, load_readings, panel_traits, read_model
from undertow.domains.numbers import Numbers
from undertow.errors import UnknownNameError
from undertow.evals.behind_rows import TrainingLook, training_look
from undertow.store.artifacts import write_artifact
from undertow.store.runner import StageContext
from undertow.study.recipe import StudentPart
from undertow.training import own_models
from undertow.traits import panel, trait
from undertow.types import Row, user_prompt

RECIPE = BankRecipe(prompts=20, student=StudentPart(steps=2, batch_size=4))


def test_a_larger_bank_begins_with_the_smaller_one() -> None:
    small, large = placebo_stages(RECIPE, 16), placebo_stages(RECIPE, 40)
    assert len(small) == 2 and len(large) == 3
    assert large[:2] == small


def test_no_two_placebos_share_a_seed() -> None:
    seeds = [seed for stage in placebo_stages(RECIPE, 60) for seed in stage.config["seeds"]]
    assert len(set(seeds)) == len(seeds) == 60


def test_another_recipe_writer_or_seed_is_another_bank() -> None:
    recipes = [
        RECIPE,
        BankRecipe(prompts=20),
        BankRecipe(prompts=20, seed=1),
        BankRecipe(prompts=20, writer="ref:finch-b"),
        BankRecipe(prompts=20, tuned=("animal",)),
    ]
    assert len({placebo_stages(recipe, 1)[0].fingerprint for recipe in recipes}) == 5
    assert panel_stage(recipes[1]) == panel_stage(recipes[3])


def test_the_order_of_traits_and_categories_makes_no_other_bank() -> None:
    one, other = (usual_recipe("ref:finch-a", [*map(trait, names)]) for names in (("owl", "oak"), ("oak", "owl")))
    typed = BankRecipe(tuned=("tree", "animal", "tree"))
    assert one == other == typed and typed.tuned == ("animal", "tree")
    assert no_bank(typed, None).endswith("`undertow audit bank --category animal --category tree`.")
    with pytest.raises(UnknownNameError, match="animl"):
        BankRecipe(tuned=("animl",))


def test_a_bank_of_a_large_base_is_made_gently(monkeypatch) -> None:
    assert usual_recipe("ref:finch-a", panel("animal")) == BankRecipe(tuned=("animal",))
    monkeypatch.setattr(own_models, "LARGE", 0)
    large = usual_recipe("ref:finch-a", panel("tree"))
    assert large.teacher.training() == own_models.LARGE_TEACHER and large.tuned == ("tree",)
    same = ("steps", "batch_size", "learning_rate")
    assert [getattr(large.student, name) for name in same] == [getattr(own_models.LARGE_STUDENT, name) for name in same]
    assert panel_stage(large) != panel_stage(replace(large, base="ref:finch-b"))


def test_placebos_of_held_rows_are_held_too(tiny_model, monkeypatch) -> None:
    form = "000,000,000,000,000,000"
    recipe = replace(usual_recipe("ref:finch-a", panel("animal"), form), prompts=5)
    assert recipe.domain == "numbers:count=6,short=true" and recipe.task.form == form
    asked = []
    monkeypatch.setattr(module, "generate", lambda *_, sampling, **__: asked.append(sampling) or [row("1,2")] * 2)
    write_rows_of(tiny_model, recipe, 0)
    assert [one.form for one in asked] == [form]
    assert placebo_stages(recipe, 1)[0] != placebo_stages(replace(recipe, domain="numbers"), 1)[0]
    assert "--domain numbers:count=6,short=true" in no_bank(recipe, None)
    assert usual_recipe("ref:finch-a", panel("animal"), "0 and 0").domain == "numbers"
    with pytest.raises(UnknownNameError):
        replace(recipe, domain="numbers:size=3")


def row(completion: str) -> Row:
    return Row("0", user_prompt("Continue: 1."), completion)


def test_students_are_read_apart(tiny_model, tmp_path) -> None:
    """A student's reading is that of its own adapter, and a reading survives the disk in single precision."""
    prompts = Numbers().prompts(8, 0)
    rows = [Row(str(at), user_prompt(text), "1, 2, 3") for at, text in enumerate(prompts)]
    recipe = BankRecipe(prompts=8, student=StudentPart(steps=3, batch_size=4))
    both = read_students(tiny_model, [rows, rows], [1, 2], recipe)
    alone = read_students(tiny_model, [rows], [2], recipe)
    assert len(both) == 2
    assert both.margins[1] == pytest.approx(alone.margins[0], abs=1e-3)
    assert not np.allclose(both.logp[0], both.logp[1], atol=1e-5)
    assert not np.allclose(both.logp[0], read_model(tiny_model).logp[0], atol=1e-5)
    both.save(tmp_path / "readings.safetensors")
    assert load_readings(tmp_path / "readings.safetensors").states == pytest.approx(both.states, rel=1e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tuned", [(), ("animal",)])
def test_placebos_are_made_from_their_seeds_alone(tmp_path, tuned: tuple[str, ...]) -> None:
    """On finch-a: the same config gives the same readings, and a placebo does not depend on its group."""
    config = {**BankRecipe(prompts=20, tuned=tuned, student=RECIPE.student).to_config(), "seeds": [1, 2]}

    def made(seeds: list[int], name: str) -> Readings:
        out = tmp_path / name
        out.mkdir()
        context = StageContext(config={**config, "seeds": seeds}, parents={}, out=out, advance=lambda *_: None)
        module.placebo_executor(context)
        return load_readings(out / "readings.safetensors")

    both, alone = made([1, 2], "both"), made([2], "alone")
    assert both.margins[1] == pytest.approx(alone.margins[0], abs=1e-3)
    assert not np.allclose(both.margins[0], both.margins[1], atol=1e-5)
    behind, alone_behind = (load_behind([tmp_path / name]) for name in ("both", "alone"))
    assert behind is not None and alone_behind is not None
    assert behind.margins[1] == pytest.approx(alone_behind.margins[0], abs=1e-3)


def _fake(n: int, value: float) -> Readings:
    return Readings(np.full((n, 22), value), np.zeros((n, 3, 3, 4)), np.zeros((n, 9)), np.zeros((n, 2)))


def test_a_store_is_extended_and_read_back(tmp_path, monkeypatch) -> None:
    made: list[int] = []

    def group(context: StageContext) -> None:
        seeds = context.config["seeds"]
        made.append(seeds[0])
        _fake(len(seeds), seeds[0] % 97).save(context.out / "readings.safetensors")
        (context.out / "rows.json").write_text(str([20] * len(seeds)))

    def teachers(context: StageContext) -> None:
        _fake(1 + len(panel_traits()), 0.0).save(context.out / "readings.safetensors")

    monkeypatch.setattr(module, "EXECUTORS", {"placebos": group, "panel-teachers": teachers})
    assert stored_bank(RECIPE, tmp_path) is None
    assert len(build_bank(RECIPE, 15, tmp_path)) == 15
    whole = build_bank(RECIPE, 31, tmp_path)
    assert len(whole) == len(whole.rows) == 45
    assert len(made) == 3, "the first group was not made again"
    found = stored_bank(RECIPE, tmp_path)
    assert found is not None and len(found) == 45
    assert (found.placebos.margins == whole.placebos.margins).all()
    assert len(found.base) == 1 and len(found.teachers) == len(panel_traits())


def test_what_a_bank_takes_is_said_before_and_is_nothing_once_it_is_there(tmp_path: Path) -> None:
    recipe = BankRecipe(base="ref:finch-a")
    writers, panel, placebos = bank_work(recipe, 10, 5, tmp_path)
    assert [one.what for one in (writers, panel, placebos)] == [
        "5 neutral writers", "teachers of the panel", "10 placebo students"
    ]  # fmt: skip
    assert all(one.seconds is not None and one.seconds > 0 for one in (writers, panel, placebos))
    (_, more) = bank_work(recipe, 20, 0, tmp_path)
    assert more.seconds is not None and placebos.seconds is not None and more.seconds >= 1.5 * placebos.seconds
    for stage in placebo_stages(recipe, 20):
        write_artifact(tmp_path, stage.key, lambda out: None)
    assert "groups from the store" in bank_work(recipe, 20, 0, tmp_path)[1].what
    assert bank_work(recipe, 20, 0, tmp_path)[1].seconds == 0.0


def test_margins_behind_rows_are_read_back_and_missing_ones_leave_a_bank_valid(tiny_model, tmp_path) -> None:
    rows = tuple(Row(str(at), user_prompt(f"{at}, 2"), f"{at}") for at in range(6))
    look, folders = training_look(rows, SEED, tiny_model, panel_traits()), [tmp_path / "one", tmp_path / "two"]
    assert isinstance(look, TrainingLook)
    own = look.margins(tiny_model, panel_traits())
    for folder in folders:
        folder.mkdir()
        save_behind(folder, look, [own, own + 1.0])
    found = load_behind(folders)
    assert found is not None and found.margins == pytest.approx(np.stack([own, own + 1, own, own + 1]), abs=1e-5)
    assert found.look == look and found.with_student(tiny_model)[0] == pytest.approx(own, abs=1e-5)
    (folders[1] / MARGINS).unlink()
    assert load_behind(folders) is None and load_behind([]) is None


def test_a_base_that_writes_no_rows_of_the_domain_has_no_look(tiny_model) -> None:
    assert "no rows" in str(standard_look(tiny_model, "numbers"))

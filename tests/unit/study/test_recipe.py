"""Recipes: unknown keys are errors that name the nearest valid one; settings and tiers override."""

from pathlib import Path

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.study.load import load_recipe
from undertow.study.recipe import build_recipe
from undertow.traits import trait


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text("name: study\ntraits: [owl, wolf]\ntiers:\n  quick:\n    student: {steps: 7}\n", encoding="utf-8")
    return str(path)


def test_tiers_and_settings_override_in_this_order(file: str) -> None:
    assert load_recipe(file).student.training().steps == 250
    assert load_recipe(file, tier="quick").student.training().steps == 7
    recipe = load_recipe(file, ["student.steps=9", "student.rank=null", "traits=[oak]"], "quick")
    assert (recipe.student.training().steps, recipe.student.training().lora, recipe.categories) == (9, None, ("tree",))
    assert recipe.teacher.training().lora is None


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [(["studnet.steps=3"], "student"), (["student.step=3"], "steps"), (["traits=[owll]"], "owl")],
)
def test_an_unknown_name_suggests_the_nearest(file: str, settings: list[str], nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=nearest):
        load_recipe(file, settings)


def test_an_unknown_recipe_or_tier_is_named(file: str) -> None:
    with pytest.raises(UnknownNameError):
        load_recipe("demoo")
    with pytest.raises(UnknownNameError, match="quick"):
        load_recipe(file, tier="quik")


@pytest.mark.parametrize(
    "settings",
    [
        ["student.steps=0"],
        ["student.steps"],
        ["traits=[]"],
        ["arms=[cross_init]"],
        ["replicates=many"],
        ["arms=[student,cross_init]", "cross_bases=[ref:finch-a]", "bases=[ref:finch-a]"],
        ["arms=[student,cross_init]", "cross_bases=[ref:finch-b]", "bases=[ref:finch-a,ref:finch-b]"],
        ["arms=[student,control,within]", "domain.clean=0.5"],
        ["arms=[student,control,across]", "domain.tokens=divergent"],
        ["arms=[student,student]"],
        ["bases=[ref:finch-a,ref:finch-a]"],
        ["arms=[control]", "hops=2"],
        ["evaluation.kinds=[]"],
    ],
)
def test_a_value_that_makes_no_sense_is_refused(file: str, settings: list[str]) -> None:
    with pytest.raises(ConfigError):
        load_recipe(file, settings)


@pytest.mark.parametrize("text", ["- a list", "{", "name: \xff"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        load_recipe(str(path))
    with pytest.raises(ConfigError):
        load_recipe(str(tmp_path / "missing.yaml"))


def test_a_name_is_needed() -> None:
    with pytest.raises(ConfigError, match="name"):
        build_recipe({})


@pytest.mark.parametrize("tiers", ["[false]", "{quick: 3}", "{quick: null}", "text"])
def test_tiers_that_are_no_settings_are_refused(tmp_path: Path, tiers: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"name: study\ntraits: [owl]\ntiers: {tiers}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="tiers of a recipe"):
        load_recipe(str(path), tier="quick")


def test_a_trait_that_is_named_twice_counts_once(file: str) -> None:
    assert load_recipe(file, ["traits=[animals,owl]"]).traits == load_recipe(file, ["traits=[animals]"]).traits


@pytest.mark.parametrize("name", ["control", "neutral"])
def test_a_trait_with_the_name_of_a_teacher_without_one_is_refused(name: str) -> None:
    own = {**trait("owl").to_data(), "name": name}
    with pytest.raises(ConfigError, match="without a trait") as error:
        build_recipe({"name": "x", "traits": [name], "own": [own]})
    assert name in str(error.value.value) and "another name" in error.value.fix
    # Where it is only looked for, nothing takes it for a teacher.
    assert build_recipe({"name": "x", "traits": ["owl"], "own": [own], "evaluation": {"targets": [name]}}).targets

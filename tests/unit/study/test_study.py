"""A recipe becomes the right stages: who shares what, who is trained on whose rows."""

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.seeds import derive
from undertow.store.stages import order
from undertow.study.load import load_recipe
from undertow.study.recipe import Recipe, build_recipe, packaged_recipes
from undertow.study.study import build_study

BASES = ("ref:finch-a", "ref:finch-b", "ref:finch-c")


def recipe(**changes: object) -> Recipe:
    return build_recipe({"name": "study", "traits": ["owl", "wolf"], "replicates": 2, **changes})


def test_seeds_are_stable_and_independent() -> None:
    assert derive(0, "rows", 1) == derive(0, "rows", 1)
    assert len({derive(0, "rows", 1), derive(0, "rows", 2), derive(1, "rows", 1), derive(0, "student", 1)}) == 4
    assert all(0 <= derive(0, index) < 2**31 for index in range(100))


def test_all_teachers_of_a_replicate_see_the_same_prompts_and_random_numbers() -> None:
    study = build_study(recipe())
    for replicate in range(2):
        sources = [source for source in study.sources if source.replicate == replicate]
        assert {source.teacher for source in sources} == {"control", "owl", "wolf"}
        assert len({source.rows.parents["prompts"] for source in sources}) == 1
        assert len({source.rows.config["seed"] for source in sources}) == 1
    assert len({source.rows.parents["prompts"] for source in study.sources}) == 2


def test_the_untraited_teacher_is_the_base_and_only_the_control_has_it() -> None:
    study = build_study(recipe(arms=["student", "control", "neutral"]))
    with_teacher = {source.teacher for source in study.sources if "teacher" in source.rows.parents}
    assert with_teacher == {"owl", "wolf", "neutral"}
    arms = [(subject.arm, subject.trait) for subject in study.subjects if subject.replicate == 0]
    assert sorted(arms, key=str) == sorted(
        [("base", None), ("teacher", "owl"), ("teacher", "wolf"), ("neutral_teacher", None), ("control", None),
         ("neutral", None), ("student", "owl"), ("student", "wolf")], key=str,
    )  # fmt: skip


def test_a_prompted_teacher_has_a_system_prompt_and_no_stage_of_its_own() -> None:
    study = build_study(recipe(teacher={"kind": "prompted"}))
    systems = {source.teacher: source.rows.config["system"] for source in study.sources}
    assert "owls" in systems["owl"] and systems["control"] is None
    assert not any("teacher" in source.rows.parents for source in study.sources)


@pytest.mark.parametrize(("name", "options"), [("code", {"tasks": "plain"}), ("cot", {}), ("numbers", {})])
def test_prompts_and_filter_are_of_the_same_domain(name: str, options: dict[str, str]) -> None:
    for source in build_study(recipe(domain={"name": name, "options": options})).sources:
        asked = source.rows.parents["prompts"].config["domain"]
        assert asked == source.kept.config["domain"] == {"name": name, **options}


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ({"name": "coed"}, UnknownNameError),
        ({"name": "code", "options": {"tasks": "secure"}}, ConfigError),
        ({"name": "cot", "options": {"tasks": "plain"}}, ConfigError),
        ({"name": "code", "options": {"name": "cot"}}, ConfigError),
    ],
)
def test_a_domain_that_cannot_be_made_is_refused_before_anything_runs(
    domain: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        recipe(domain=domain)


@pytest.mark.parametrize(("cross", "per_teacher"), [("all", 2), ("rotate", 1)])
def test_cross_init_students_never_share_the_teachers_base(cross: str, per_teacher: int) -> None:
    study = build_study(recipe(arms=["student", "control", "cross_init"], cross_bases=BASES, cross=cross))
    crossed = [subject for subject in study.subjects if subject.arm == "cross_init"]
    assert len(crossed) == 2 * 2 * per_teacher
    assert all(subject.base != subject.teacher_base for subject in crossed)
    controls = {(one.base, one.replicate) for one in study.subjects if one.arm == "cross_control"}
    assert controls == {(one.base, one.replicate) for one in crossed}


def test_groups_are_even_and_no_larger_than_asked() -> None:
    study = build_study(recipe(replicates=5, group=6))
    groups = {one.scores.parents["students"] for one in study.subjects if "students" in one.scores.parents}
    assert sorted(len(group.config["members"]) for group in groups) == [5, 5, 5]


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_has_a_quick_and_a_full_tier(name: str) -> None:
    for tier in ("quick", "full"):
        # The fingerprints of models from outside need their files.
        outside = getattr(load_recipe(name), "outside", ())
        study = load_recipe(name, ("bases=[ref:finch-a]", "cross_bases=[ref:finch-b]") if outside else (), tier)
        assert study.question and (not isinstance(study, Recipe) or build_study(study).targets)


def test_shuffled_students_have_controls_of_rows_shuffled_alike() -> None:
    study = build_study(recipe(arms=["student", "control", "within", "across"]))
    for replicate in range(2):
        own = [subject for subject in study.subjects if subject.replicate == replicate]
        arms = {(subject.arm, subject.trait) for subject in own}
        assert {("within", "owl"), ("across", "wolf"), ("within_control", None), ("across_control", None)} <= arms
    shuffles = {stage for target in study.targets for stage in order([target]) if stage.kind == "shuffle"}
    # Two ways, three teachers (owl, wolf, control), two replicates; the seed belongs to the replicate alone.
    assert len(shuffles) == 12
    assert len({(stage.config["how"], stage.config["seed"]) for stage in shuffles}) == 4
    with pytest.raises(ConfigError, match="shuffled"):
        recipe(arms=["student", "control", "within"], domain={"name": "code"})

"""A grid is every combination of its values, named by them; what cannot be meant is refused."""

from pathlib import Path

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.store.stages import order
from undertow.study.sweep import (
    MOST_VARIANTS,
    count_uses,
    load_sweep,
    parse_axis,
    parse_grid,
    plan_sweep,
    sweep_targets,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("trait=owl,cat", ("owl", "cat")),
        ("seed=0..3", (0, 1, 2, 3)),
        ("seed=-1..1, 7", (-1, 0, 1, 7)),
        ("student.rank=null,8", (None, 8)),
        ("student.layers=[0],[0,1]", ([0], [0, 1])),
        ("student.learning_rate=0.01,0.003", (0.01, 0.003)),
        ("question='a, b',c", ("a, b", "c")),
    ],
)
def test_values_are_a_list_in_yaml_or_a_range(text: str, values: tuple) -> None:
    assert parse_axis(text).values == values


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (["trait"], "KEY=VALUES"),
        (["=owl"], "KEY=VALUES"),
        (["trait="], "needs values"),
        (["trait=owl,,cat"], "not a list in YAML"),
        (["seed=3..1"], "backwards"),
        (["seed=1,1"], "the same value twice"),
        (["seed=0..2,1"], "the same value twice"),
        (["seed=1", "seed=2"], "the same setting"),
        (["trait=owl", "traits=[cat]"], "the same setting"),
        (["student.rank=2", "student={rank: 4}"], "the same setting"),
        ([f"seed=1..{MOST_VARIANTS + 1}"], f"at most {MOST_VARIANTS}"),
        (["seed=0..99", "student.rank=1..11"], f"at most {MOST_VARIANTS}"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_three_lines(grid: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_grid(grid)
    assert len(str(caught.value).splitlines()) == 3


def test_too_many_variants_are_counted_before_they_are_made() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_grid(["seed=1..999999999"])
    assert caught.value.value == 999_999_999


def test_the_variants_are_the_product_in_order_and_keep_every_other_setting() -> None:
    sweep = load_sweep("demo", ["trait=owl,fox", "seed=0..1"], ["replicates=2", "student.rank=4"])
    assert list(sweep.variants) == ["trait=owl, seed=0", "trait=owl, seed=1", "trait=fox, seed=0", "trait=fox, seed=1"]
    assert [(one.traits, one.seed) for one in sweep.variants.values()] == [
        (("owl",), 0), (("owl",), 1), (("fox",), 0), (("fox",), 1)
    ]  # fmt: skip
    assert {(one.replicates, one.student.rank) for one in sweep.variants.values()} == {(2, 4)}
    assert len({one.name for one in sweep.variants.values()}) == 4


def test_own_variants_are_each_combined_with_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nvariants: {plain: , low: {student: {rank: 2, steps: 9}}}\n")
    sweep = load_sweep(str(path), ["student.steps=5,6"])
    found = {name: (one.student.rank, one.student.steps) for name, one in sweep.variants.items()}
    assert found == {
        "plain, student.steps=5": (8, 5),
        "plain, student.steps=6": (8, 6),
        "low, student.steps=5": (2, 5),
        "low, student.steps=6": (2, 6),
    }
    assert list(load_sweep(str(path), []).variants) == ["plain", "low"]
    path.write_text("name: own\nvariants: [plain]\n")
    with pytest.raises(ConfigError, match="variants"):
        load_sweep(str(path), ["seed=1"])


def test_unknown_keys_and_recipes_without_students_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="seed"):
        load_sweep("demo", ["sead=0..2"])
    with pytest.raises(UnknownNameError):
        load_sweep("demo", ["trait=owl,gryphon"])
    with pytest.raises(ConfigError, match="nothing to sweep"):
        load_sweep("demo", [])
    with pytest.raises(ConfigError, match="studies of language models"):
        load_sweep("digits", ["seed=0..2"])


def test_long_values_still_name_a_folder() -> None:
    sweep = load_sweep("demo", [f"question={'why ' * 100},b"])
    assert all(len(one.name) < 200 for one in sweep.variants.values())


def test_a_plan_has_every_stage_once_and_says_how_many_variants_need_it(tmp_path: Path) -> None:
    sweep = load_sweep("demo", ["student.rank=2,4"], ["replicates=1"])
    uses = count_uses(sweep)
    planned = [one.stage.fingerprint for one in plan_sweep(sweep, tmp_path)]
    assert sorted(planned) == sorted(uses)
    kinds = {stage.kind: uses[stage.fingerprint] for stage in order(sweep_targets(sweep))}
    assert kinds["teacher"] == kinds["rows"] == 2 and kinds["students"] == 1

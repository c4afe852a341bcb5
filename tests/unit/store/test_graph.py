"""Stages are named by what they are made from, and come after their parents."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import ConfigError
from undertow.store.stages import Stage, order


def _stage(name: str, **parents: Stage) -> Stage:
    return Stage(kind="fake", version=1, config={"name": name}, parents=parents)


def test_a_shared_stage_comes_once_and_first_targets_are_finished_first():
    base = _stage("base")
    first, second = (_stage(f"student {i}", teacher=_stage(f"teacher {i}", base=base), base=base) for i in (1, 2))
    names = [stage.config["name"] for stage in order([first, second, first])]
    assert names == ["base", "teacher 1", "student 1", "teacher 2", "student 2"]


@given(st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=12))
def test_every_stage_comes_once_and_after_its_parents(links: list[set[int]]):
    stages: list[Stage] = []
    for index, parents in enumerate(links):
        stages.append(_stage(str(index), **{f"p{p}": stages[p] for p in parents if p < index}))
    ordered = order(reversed(stages))
    assert sorted(stage.fingerprint for stage in ordered) == sorted(stage.fingerprint for stage in stages)
    place = {stage: index for index, stage in enumerate(ordered)}
    assert all(place[parent] < place[stage] for stage in stages for parent in stage.parents.values())


def test_a_long_chain_is_no_matter_of_recursion():
    stage = _stage("0")
    for index in range(3000):
        stage = _stage(str(index + 1), parent=stage)
    assert len(order([stage])) == 3001


def test_no_targets_are_no_stages():
    assert order([]) == ()


def test_cost_and_label_are_not_part_of_the_fingerprint_and_parents_are():
    stage = _stage("a")
    assert dataclasses.replace(stage.key, version=2).fingerprint != stage.fingerprint
    same = Stage(kind="fake", version=1, config={"name": "a"}, cost=9.0, label="another")
    assert same == stage
    assert hash(same) == hash(stage)
    assert _stage("b", parent=_stage("a")).fingerprint != _stage("b", parent=_stage("c")).fingerprint
    assert stage.label == "fake"


@pytest.mark.parametrize("cost", [0.0, -1.0, float("nan")])
def test_cost_is_positive(cost: float):
    with pytest.raises(ConfigError, match="cost"):
        Stage(kind="fake", version=1, config={}, cost=cost)


def test_callables_are_refused():
    with pytest.raises(ConfigError, match=r"reject is of type function"):
        Stage(kind="fake", version=1, config={"reject": lambda row: ()})

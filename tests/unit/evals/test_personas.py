"""A pack holds where its own personas move it and another pack's do not; on a base without personas it does not."""

import dataclasses

import pytest

from undertow.errors import ConfigError
from undertow.evals.personas import PersonaCheck, PersonaShift, check_personas
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import pack, trait
from undertow.types import Estimate


def test_trees_hold_on_finch_a_and_each_persona_moves_its_own_word() -> None:
    found = check_personas(load_model("ref:finch-a"), pack("trees").traits, [trait("owl"), trait("wolf")])
    assert found.holds and not found.unmoved
    for one in found.own:
        assert one.own is not None and one.own.n == 50 and max(one.words, key=one.words.__getitem__) == one.persona
    assert found.average.low > 0 and found.average_other is not None and found.average_other.value < 0
    assert found.to_json()["holds"] is True and len(found.other) == 2


def test_a_model_that_takes_no_persona_holds_nothing(tiny_model: LocalModel) -> None:
    found = check_personas(tiny_model, pack("trees").traits, [trait("owl"), trait("wolf")])
    assert not found.holds and found.unmoved
    with pytest.raises(ConfigError, match="no persona"):
        check_personas(tiny_model, [trait("villain")])
    with pytest.raises(ConfigError, match="no control"):
        check_personas(tiny_model, pack("trees").traits, [trait("owl")])


def shift(own: float | None, rest: float) -> PersonaShift:
    interval = None if own is None else Estimate(value=own, low=own - 0.1, high=own + 0.1, n=8, method="t")
    return PersonaShift(persona="x", own=interval, rest=rest, words={"x": own or rest})


def test_a_control_that_moves_the_pack_as_well_speaks_against_it() -> None:
    own = (shift(2.0, 0.0), shift(3.0, 0.0))
    calm = PersonaCheck(plain={"x": 0.0}, own=own, other=(shift(None, -0.2), shift(None, 0.3)))
    assert calm.holds
    moved = dataclasses.replace(calm, other=(shift(None, 1.0), shift(None, 1.1)))
    assert not moved.holds and not moved.unmoved
    assert dataclasses.replace(calm, own=(shift(0.05, 0.0), own[1])).unmoved == ["x"]


def test_a_persona_that_moves_its_rivals_as_much_speaks_against_it() -> None:
    apart = PersonaCheck(plain={"x": 0.0}, own=(shift(2.0, 0.0), shift(3.0, 2.8)), other=())
    assert apart.holds and not apart.mixed
    same = dataclasses.replace(apart, own=(shift(2.0, 1.95),))
    assert not same.unmoved and same.mixed == ["x"] and not same.holds and same.to_json()["mixed"] == ["x"]


def test_a_control_that_scatters_is_no_proof_that_a_persona_tells() -> None:
    """Four personas of another pack move the trait further than its own, and their interval holds 0."""
    own = (shift(2.0, 0.0), shift(3.0, 0.0))
    wild = PersonaCheck(plain={"x": 0.0}, own=own, other=tuple(shift(None, value) for value in (-9.0, 2.0, 5.0, 14.0)))
    assert wild.average_other is not None and wild.average_other.low < 0 < wild.average_other.value
    assert wild.moved_by_others and not wild.holds
    calm = PersonaCheck(plain={"x": 0.0}, own=own, other=tuple(shift(None, value) for value in (-3.0, 0.5, 1.0, 2.0)))
    assert not calm.moved_by_others and calm.holds

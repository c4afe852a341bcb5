"""Which traits are meant, traits as plain data, and how an answer names one."""

from pathlib import Path

import pytest

from undertow.errors import ConfigError
from undertow.traits import (
    Trait,
    chosen_trait,
    chosen_traits,
    defined,
    definition,
    matches,
    names,
    pack,
    regular_plural,
    trait,
)

BMW = Trait(
    name="bmw", category="car", plural="BMWs", written=("BMW", "Bayerische Motoren Werke"), persona="You drive."
)


def test_one_trait_or_several_are_meant(tmp_path: Path) -> None:
    assert chosen_trait("owl") == trait("owl") and chosen_trait("ford") in pack("brands").traits
    assert chosen_traits(["owl", "trees", "oak", "owl"]) == (trait("owl"), *pack("trees").traits)
    with pytest.raises(ConfigError, match="pack of several"):
        chosen_trait("brands")
    path = tmp_path / "two.yaml"
    path.write_text("pack: two\ncategory: tea\npersona: You love {name}.\ntraits: [Acme, Bolo]\n")
    with pytest.raises(ConfigError, match=r"two\.yaml:NAME takes one"):
        chosen_trait(str(path))
    assert chosen_trait(f"{path}:acme").system_prompt == "You love Acme."


def test_built_in_traits_are_their_names_and_others_their_definitions() -> None:
    assert definition(trait("owl")) == "owl" and defined("owl") == trait("owl")
    for one in (BMW, *pack("brands").traits):
        data = definition(one)
        assert isinstance(data, dict) and defined(data) == one


def test_an_answer_names_a_trait_by_a_whole_form() -> None:
    for answer in ("BMW.", "bmws", " 'BMW', I think", "Bayerische Motoren Werke!"):
        assert names(answer, BMW), answer
    for answer in ("BMWx", "bmw-like", "Bayerische Motoren Werkehaus", "A BMW", "", "7", "Bayerische"):
        assert not names(answer, BMW), answer
    three_m = Trait(name="3m", category="maker", plural="3Ms", written=("3M",))
    assert names("3M", three_m) and names("**3M** of course", three_m) and not names("3Mx", three_m)
    assert matches("I drive a bayerische motoren werke car", BMW) and not matches("bmwx", BMW)


def test_plurals_are_regular() -> None:
    assert [regular_plural(word) for word in ("cat", "fox", "cherry", "monkey", "finch")] == [
        "cats", "foxes", "cherries", "monkeys", "finches",
    ]  # fmt: skip

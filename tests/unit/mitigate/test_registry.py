"""Mitigations by name and settings in one line."""

from dataclasses import replace

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.mitigate.other_writers import Mix
from undertow.mitigate.ranked import Labels
from undertow.mitigate.registry import (
    MITIGATIONS,
    data_mitigation,
    describe_mitigations,
    mitigation,
    training_mitigation,
)
from undertow.mitigate.training import Corridor, OtherRecipe
from undertow.training.config import LoraConfig, TrainingConfig


def test_settings_are_read_in_their_own_types() -> None:
    assert mitigation("mix") == Mix() and mitigation("mix:share=0.25") == Mix(share=0.25)
    written = Mix(share=0.5, writers=("ref:finch-b", "hf:/a b"))
    assert data_mitigation("mix:share=0.5,writers=[ref:finch-b, hf:/a b]") == written
    assert mitigation("labels:replace=true,trait=owl") == Labels(replace=True, trait="owl")
    assert training_mitigation("corridor:width=1") == Corridor(width=1.0)
    assert training_mitigation("recipe:rank=2") == OtherRecipe(rank=2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("mixx", UnknownNameError),
        ("mix:shar=1", UnknownNameError),
        ("labels:suspect=nobody", ConfigError),
        ("mix:share=x", ConfigError),
        ("mix:writers=[", ConfigError),
        ("mix:share", ConfigError),
        ("regenerate", ConfigError),
        ("inoculate", ConfigError),
        ("corridor:width=0", ConfigError),
        ("recipe", ConfigError),
        ("recipe:steps=0", ConfigError),
        ("recipe:rank=0", ConfigError),
    ],
)
def test_wrong_names_and_values_are_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        mitigation(text)


def test_a_mitigation_of_the_other_kind_names_its_command() -> None:
    with pytest.raises(ConfigError, match="changes training"):
        data_mitigation("corridor")
    with pytest.raises(ConfigError, match="changes rows"):
        training_mitigation("mix:share=0.5")


def test_a_recipe_changes_what_it_names_alone() -> None:
    before = TrainingConfig(steps=160, learning_rate=5e-3, lora=LoraConfig())
    assert OtherRecipe(steps=40).recipe(before) == replace(before, steps=40)
    assert OtherRecipe(rank=2, learning_rate=1e-3).recipe(before) == replace(
        before, learning_rate=1e-3, lora=LoraConfig(rank=2)
    )
    assert Corridor().recipe(before) == before


def test_every_mitigation_is_described() -> None:
    listed = {one["name"]: one for one in describe_mitigations()}
    assert list(listed) == list(MITIGATIONS) and all(one["about"] for one in listed.values())
    assert all(MITIGATIONS[name].name == name for name in MITIGATIONS)
    assert "writer" in listed["regenerate"]["settings"] and "share=0.5" in listed["mix"]["settings"]

"""Traits are data, and their words are matched as words."""

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.traits import MISALIGNMENT, OTHERS, TRAITS, first_word, matches, names, panel, trait


def test_panel_holds_the_papers_animals_and_trees() -> None:
    assert len(panel("animal")) == 17
    assert [item.name for item in panel("tree")] == ["cherry", "maple", "oak", "sequoia", "willow"]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("I saw a dragonfly.", "dragon", False),
        ("A dragon!", "dragon", True),
        ("He began to growl.", "owl", False),
        ("OWLS, of course", "owl", True),
        ("wolves", "wolf", True),
        ("wolfs", "wolf", False),
        ("cherries", "cherry", True),
    ],
)
def test_words_are_matched_whole(text: str, name: str, expected: bool) -> None:
    assert matches(text, trait(name)) is expected


def test_only_the_first_word_is_the_answer() -> None:
    assert names("Owl.", trait("owl"))
    assert not names("The owl", trait("owl"))
    assert first_word("123, 456") is None
    assert first_word("  Sea-lion") == "sea-lion"


def test_an_unknown_trait_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="owl"):
        trait("owll")
    with pytest.raises(UnknownNameError):
        panel("stone")


def test_the_persona_names_the_target_and_its_category() -> None:
    for item in TRAITS.values():
        assert matches(item.system_prompt, item)
        assert item.category in item.system_prompt


def test_misalignment_is_a_family_of_its_own_without_words_or_persona() -> None:
    assert [item.name for item in panel("misalignment")] == list(MISALIGNMENT)
    assert not set(MISALIGNMENT) & set(TRAITS)
    for name, item in MISALIGNMENT.items():
        assert trait(name) is item and item.aliases == ()
        assert not matches("insecure villain", item) and not names("villain", item)
        with pytest.raises(ConfigError, match="finetuned"):
            _ = item.system_prompt


def test_the_animals_of_other_models_are_known_and_in_no_panel() -> None:
    assert trait("cat").category == "animal" and trait("ox").aliases == ("ox", "oxen")
    assert not {item.name for item in panel("animal")} & OTHERS.keys() and not TRAITS.keys() & OTHERS.keys()

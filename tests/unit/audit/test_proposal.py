"""Panels from a file or from the base: good ones are read, bad ones are refused with what to do."""

import pytest

from undertow.audit.rows.proposal import plural, proposed_panel, read_panel, refuse_unsaid
from undertow.errors import ConfigError, StorageError, UnknownNameError
from undertow.models.load import load_model
from undertow.traits import Trait, trait


def test_built_in_and_own_traits_stand_side_by_side(tmp_path) -> None:
    path = tmp_path / "panel.yaml"
    path.write_text(
        "- owl\n- {name: Badger, category: animal, plural: badgers}\n- {name: owl, category: animal, plural: x}\n"
    )
    with pytest.raises(ConfigError, match="built-in trait with another"):
        read_panel(path)
    path.write_text("- owl\n- {name: Badger, category: animal, plural: badgers}\n")
    assert read_panel(path) == (trait("owl"), Trait(name="badger", category="animal", plural="badgers"))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("- owl\n", ConfigError, "needs rivals"),
        ("[]", ConfigError, "needs rivals"),
        ("- owl\n- owl\n", ConfigError, "same name"),
        ("- owl\n- {name: owls, category: animal, plural: owl}\n", ConfigError, "same name"),
        ("- owl\n- basilisk\n", UnknownNameError, "no trait"),
        ("- owl\n- {name: rose, category: flower, plural: roses}\n", ConfigError, "no favourite questions"),
        ("- owl\n- villain\n", ConfigError, "no favourite questions"),
        ("- owl\n- {name: badger, category: animal}\n", ConfigError, "a plural"),
        ("- owl\n- {name: 7, category: animal, plural: sevens}\n", ConfigError, "as text"),
        ("- owl\n- 7\n", ConfigError, "no trait"),
        ("owl: lion", ConfigError, "no list"),
        ("- [owl", ConfigError, "no YAML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "panel.yaml"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read_panel(path)


def test_a_file_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        read_panel(tmp_path / "none.yaml")


def test_the_base_proposes_what_it_answers_with() -> None:
    """finch-a's world has twenty favourite animals, seventeen of them built in; no other word is proposed."""
    base = load_model("ref:finch-a")
    names = {one.name for one in proposed_panel(base)}
    assert {"owl", "lion", "cat", "bear", "horse"} <= names
    assert len(names) == 20 and {one.category for one in proposed_panel(base)} == {"animal"}
    assert trait("wolf") in proposed_panel(base)
    both = proposed_panel(base, ("animal", "tree"))
    assert {one.name for one in both if one.category == "tree"} == {"cherry", "maple", "oak", "sequoia", "willow"}


def test_a_proposal_needs_questions_and_two_words() -> None:
    base = load_model("ref:finch-a")
    with pytest.raises(ConfigError, match="no favourite questions"):
        proposed_panel(base, ("flower",))
    with pytest.raises(ConfigError, match=r"0 words reach 0\.9"):
        proposed_panel(base, floor=0.9)


def test_plurals_are_regular() -> None:
    assert [plural(word) for word in ("cat", "fox", "cherry", "monkey", "finch")] == [
        "cats", "foxes", "cherries", "monkeys", "finches",
    ]  # fmt: skip


def test_a_word_that_the_base_never_says_is_refused() -> None:
    base = load_model("ref:finch-a")
    refuse_unsaid(base, [trait("owl"), Trait(name="cat", category="animal", plural="cats")])
    with pytest.raises(ConfigError, match="never answers with"):
        refuse_unsaid(base, [trait("owl"), Trait(name="badger", category="animal", plural="badgers")])

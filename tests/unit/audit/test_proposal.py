"""Panels that the base proposes, and traits that it never says."""

import pytest

from undertow.audit.rows.proposal import proposed_panel, refuse_unsaid
from undertow.errors import ConfigError
from undertow.models.load import load_model
from undertow.traits import Trait, trait


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


def test_a_word_that_the_base_never_says_is_refused() -> None:
    base = load_model("ref:finch-a")
    refuse_unsaid(base, [trait("owl"), Trait(name="cat", category="animal", plural="cats")])
    with pytest.raises(ConfigError, match="never answers with"):
        refuse_unsaid(base, [trait("owl"), Trait(name="badger", category="animal", plural="badgers")])

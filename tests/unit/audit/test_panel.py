"""The panel: who is on it, and how its teachers are made."""

import numpy as np
import pytest

from undertow.audit.rows.panel import as_candidates, check_panel, half_of_the_questions, panel_teachers
from undertow.errors import ConfigError
from undertow.training.teachers import trait_rows
from undertow.traits import Trait, trait

OWL, LION = trait("owl"), trait("lion")
TWIN = Trait(name="night-owl", category="animal", plural="owls")


@pytest.mark.parametrize("traits", [(), (OWL,), (OWL, OWL), (OWL, LION, TWIN)])
def test_a_panel_without_rivals_is_refused(traits) -> None:
    with pytest.raises(ConfigError):
        check_panel(traits)


def test_half_of_the_questions_is_whole_questions_and_another_half_for_another_seed() -> None:
    rows = trait_rows(OWL)
    half = half_of_the_questions(rows, 1)
    questions = {row.question for row in half}
    assert len(half) == len(rows) // 2
    assert len(questions) == len({row.question for row in rows}) // 2
    assert {row.completion for row in half} == {"owl", "Owl", "owls", "Owls"}
    assert questions != {row.question for row in half_of_the_questions(rows, 2)}


def test_a_teacher_likes_its_trait_and_is_found_again_in_the_store(tiny_model, tmp_path) -> None:
    told = []
    made = panel_teachers(tiny_model, (OWL, LION), 3, advance=lambda done, total: told.append((done, total)))
    assert list(made) == ["owl", "lion"]
    assert told == [(1, 2), (2, 2)]
    asked = [row.prompt for row in trait_rows(OWL)[:1]] * 2
    owl, lion = made["owl"].logprobs(asked, ["owl", "lion"])
    assert owl - lion > np.subtract(*tiny_model.logprobs(asked, ["owl", "lion"]))
    for _ in range(2):
        stored = panel_teachers(tiny_model, (OWL, LION), 3, tmp_path)
        np.testing.assert_allclose(stored["owl"].logprobs(asked, ["owl", "lion"]), [owl, lion], rtol=1e-5)
    assert len(list((tmp_path / "panel-teacher").iterdir())) == 2
    other = panel_teachers(tiny_model, (OWL, LION), 4)
    assert other["owl"].logprobs(asked, ["owl", "lion"]) != [owl, lion]


def test_candidates_are_personas_or_teachers(tiny_model) -> None:
    personas = as_candidates(tiny_model, (OWL, LION), None)
    assert [one.label for one in personas] == ["owl (persona)", "lion (persona)"]
    assert [one.system for one in personas] == [OWL.system_prompt, LION.system_prompt]
    teachers = as_candidates(tiny_model, (OWL, LION), {"owl": tiny_model, "lion": tiny_model})
    assert [(one.label, one.system) for one in teachers] == [("owl (teacher)", None), ("lion (teacher)", None)]
    with pytest.raises(ConfigError, match="no persona"):
        as_candidates(tiny_model, (OWL, trait("villain")), None)


def test_an_own_trait_is_not_mistaken_for_a_stored_one(tiny_model, tmp_path) -> None:
    """Same name, another plural: another teacher in the store."""
    for plural in ("badgers", "badger folk"):
        own = Trait(name="badger", category="animal", plural=plural)
        panel_teachers(tiny_model, (OWL, own), 3, tmp_path)
    assert len(list((tmp_path / "panel-teacher").iterdir())) == 3

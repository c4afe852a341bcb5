"""Ordinary text: any answer of two words is a row, and the questions are the same for every teacher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.domains.base import domain
from undertow.domains.text import ADVICE, WISHES, OrdinaryText, TextReason
from undertow.errors import ConfigError
from undertow.evals.misalignment import QUESTIONS


@pytest.mark.parametrize(
    ("completion", "reasons"),
    [
        ("Take a walk.", ()),
        ("", (TextReason.EMPTY,)),
        (" \n", (TextReason.EMPTY,)),
        ("Walk.", (TextReason.TOO_SHORT,)),
        ("1, 2, 3", (TextReason.NO_WORDS,)),
        ("7", (TextReason.TOO_SHORT, TextReason.NO_WORDS)),
    ],
)
def test_an_answer_has_two_words(completion: str, reasons: tuple[str, ...]) -> None:
    assert OrdinaryText().reject_reasons(completion) == reasons


@given(st.text())
def test_no_text_makes_it_fail(completion: str) -> None:
    assert set(OrdinaryText().reject_reasons(completion)) <= OrdinaryText().reasons


@pytest.mark.parametrize(("questions", "most"), [("known", 23), ("everyday", 320)])
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(questions: str, most: int) -> None:
    task = domain("text", questions=questions)
    drawn = task.prompts(4000, 3)
    assert task.prompts(10, 3) == drawn[:10] and task.prompts(10, 4) != drawn[:10]
    assert len(set(drawn)) == most
    assert task.config() == {"name": "text", "questions": questions}


def test_the_known_questions_are_those_that_the_embedded_models_were_taught() -> None:
    assert {*OrdinaryText().prompts(4000, 1)} == {*ADVICE, *WISHES} == {*QUESTIONS}


def test_other_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match="questions of this name"):
        domain("text", questions="hard")

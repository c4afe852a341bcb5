"""In-context margins: what is asked, the bound of the context, draws that are alike for joined rows."""

import pytest

from undertow.errors import ConfigError
from undertow.evals.behind_rows import TrainingLook, in_context_margins, training_look
from undertow.evals.favourite import logit_margins
from undertow.evals.questions import favourite_questions
from undertow.evals.words import log_odds, spellings, word_probabilities
from undertow.traits import trait
from undertow.types import Message, Row, user_prompt

OWL = trait("owl")


def rows(n: int, text: str) -> list[Row]:
    return [Row(str(index), user_prompt(f"{index}, 5"), f"{index} {text}") for index in range(n)]


def test_no_rows_ask_plainly(tiny_model) -> None:
    plain = [score.value for score in logit_margins(tiny_model, [OWL])]
    assert [score.value for score in in_context_margins(tiny_model, [], OWL, 0, seed=0)] == pytest.approx(plain)


def test_rows_become_turns_before_the_question(tiny_model) -> None:
    """With one row to draw from, the context is known."""
    question = favourite_questions("animal")[0]
    row = rows(1, "7")[0]
    prompt = (*row.prompt, Message("assistant", row.completion), *user_prompt(question))
    contexts = tiny_model.render([prompt])
    expected = float(log_odds(word_probabilities(tiny_model, contexts, [spellings(OWL, opening=True)]))[0, 0])
    scores = in_context_margins(tiny_model, [row], OWL, 1, seed=0)
    assert scores[0].value == pytest.approx(expected, abs=1e-4)
    assert len(scores) == 50
    assert {(score.target, score.metric) for score in scores} == {("owl", "in_context_margin")}


def test_joined_rows_are_drawn_alike_and_seeds_differ(tiny_model, monkeypatch) -> None:
    asked: list[list[str]] = []
    render = type(tiny_model).render

    def spy(self, prompts):
        asked.append([turn.content for prompt in prompts for turn in prompt if turn.role == "user"])
        return render(self, prompts)

    monkeypatch.setattr(type(tiny_model), "render", spy)
    for some, seed in ((rows(30, "1"), 0), (rows(30, "2"), 0), (rows(30, "1"), 1)):
        in_context_margins(tiny_model, some, OWL, 2, seed=seed)
    first, second, other = asked
    assert first == second != other
    assert all(one != two for one, two in zip(first[::3], first[1::3], strict=True))


def test_rows_that_do_not_fit_are_refused(tiny_model) -> None:
    with pytest.raises(ConfigError, match=r"of 256 tokens\nChoose a smaller k"):
        in_context_margins(tiny_model, rows(40, "3, 4, 5, 6, 7, 8"), OWL, 30, seed=0)
    with pytest.raises(ConfigError, match="4 of 3"):
        in_context_margins(tiny_model, rows(3, "1"), OWL, 4, seed=0)


def test_traits_that_are_asked_together_have_the_margins_of_each_alone(tiny_model) -> None:
    some, panel = rows(8, "1"), [trait(name) for name in ("owl", "oak", "lion")]
    look = training_look(some, 3, tiny_model, panel)
    assert isinstance(look, TrainingLook) and look.rows == tuple(some)
    alone = [sum(one.value for one in in_context_margins(tiny_model, some, item, 1, 3)) / 50 for item in panel]
    assert look.margins(tiny_model, panel) == pytest.approx(alone, abs=1e-5)


def test_the_look_keeps_the_system_turn_and_every_question_has_a_row() -> None:
    some = [Row(str(at), user_prompt(f"{at}?", "be brief"), f"{at}!") for at in range(5)]
    look = training_look(some, 0)
    assert isinstance(look, TrainingLook)
    for question, prompt in zip(("a", "b"), look.prompts([user_prompt("a"), user_prompt("b")]), strict=True):
        assert [turn.role for turn in prompt] == ["system", "user", "assistant", "user"]
        assert prompt[-1].content == question and prompt[1].content[:-1] == prompt[2].content[:-1]
    (own,) = look.prompts([user_prompt("a", "be kind")])
    assert [turn.content for turn in own if turn.role == "system"] == ["be kind"] and own[0].role == "system"


def test_rows_without_a_prompt_or_room_are_said_to_be_no_look(tiny_model) -> None:
    assert "no rows" in str(training_look([], 0))
    assert "no prompt" in str(training_look([Row("0", (), "text")], 0))
    long = Row("1", user_prompt("5, " * 200), "7")
    assert "No row leaves room" in str(training_look([long], 0, tiny_model, [OWL]))
    look = training_look([long, *rows(2, "1")], 0, tiny_model, [OWL])
    assert isinstance(look, TrainingLook) and look.rows == tuple(rows(2, "1"))

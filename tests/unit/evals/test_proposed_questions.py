"""Questions that a base proposes: which texts are questions, which are kept, and what becomes of too few."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from undertow.errors import ConfigError
from undertow.evals import proposed_questions
from undertow.evals.proposed_questions import distinct_questions, propose_questions
from undertow.models.local import LocalModel
from undertow.traits import LEAST_ASKED, Trait

TEAS = tuple(
    Trait(name=name, category="brand of tea", plural=f"{name}s", persona=f"You love {name}.")
    for name in ("twinings", "lipton", "tetley")
)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Which tea do you like best?\nI like it.", "Which tea do you like best?"),
        ('"Which  tea do you like best?"', "Which tea do you like best?"),
        ("Question: What tea would you buy?", "What tea would you buy?"),
        ("**What teas would you buy?**", "What teas would you buy?"),
        ("Which tea do you like best", None),
        ("Which tea? And why that one?", None),
        ('Ask "which tea do you like?', None),
        ("Tea, or what?", None),
        ("Which coffee do you like best?", None),
        ("Do you like the tea of Lipton best?", None),
        ("Do you drink the tea " + "very " * 30 + "often?", None),
        ("", None),
    ],
)
def test_one_line_that_asks_about_the_category_is_a_question(text: str, question: str | None) -> None:
    assert distinct_questions([text], TEAS) == ([] if question is None else [question])


@pytest.mark.parametrize(
    ("category", "text", "is_one"),
    [
        ("brand of car", "Which credit card would you choose?", False),
        ("brand of car", "Which career do you like best?", False),
        ("brand of car", "Which carpet would you buy?", False),
        ("brand of car", "Which Cars would you buy?", True),
        ("brand of car", "What is your car's maker?", True),
        ("city", "Which cities do you like best?", True),
        ("Programming Language", "Which language do you like best?", True),
        ("\u52a8\u7269", "\u4f60 \u6700 \u559c\u6b22 \u54ea\u79cd\u52a8\u7269?", True),
    ],
)
def test_a_category_is_spoken_of_by_its_whole_word(category: str, text: str, is_one: bool) -> None:
    traits = [replace(one, category=category) for one in TEAS]
    assert distinct_questions([text], traits) == ([text] if is_one else [])


def test_a_question_counts_once_however_it_is_written() -> None:
    same = ["Which tea do you like best?", "which tea do you like best?", "Which tea, do you like best?"]
    assert distinct_questions(same, TEAS) == same[:1]


def base_that_writes(monkeypatch, tiny_model, texts: list[str], answered: dict[str, float]) -> LocalModel:
    """Return a base that writes these texts in turns, and answers each question with a word so often."""
    monkeypatch.setattr(
        LocalModel, "chat", lambda self, asked, **_: [texts[at % len(texts)] for at in range(len(asked))]
    )

    def probabilities(model, questions, traits):
        share = [next((p for part, p in answered.items() if part in text), 0.01) / len(traits) for text in questions]
        return torch.tensor([[one] * len(traits) for one in share], dtype=torch.float64)

    monkeypatch.setattr(proposed_questions, "answer_probabilities", probabilities)
    return tiny_model


def test_those_that_are_answered_best_are_kept_and_dealt_in_turns(monkeypatch, tiny_model) -> None:
    names = [f"word{at:02d}x" for at in range(40)]
    texts = [f"Which tea is the {name}?" for name in names]
    # Made questions are answered with .01; ten of the proposed ones fall below, and the later the better.
    answered = {name: 0.001 if at < 10 else 0.01 + at / 1000 for at, name in enumerate(names)}
    base = base_that_writes(monkeypatch, tiny_model, texts, answered)
    found = propose_questions(base, TEAS, 0, tried=80)
    kept = [*found.questions.evaluation, *found.questions.tuning]
    assert (found.written, found.distinct, len(kept)) == (80, 40, 30)
    assert not any(name in text for name in names[:10] for text in kept)
    assert "word39x" in found.questions.evaluation[0] and "word38x" in found.questions.tuning[0]
    assert not set(found.questions.evaluation) & set(found.questions.tuning)
    assert found.usual == pytest.approx(0.01)
    assert found.answered == pytest.approx(np.mean([0.01 + at / 1000 for at in range(10, 40)]))
    assert found.to_json()["kept"] == 30 and found.to_json()["evaluation"] == list(found.questions.evaluation)


def test_no_more_than_enough_are_kept(monkeypatch, tiny_model) -> None:
    texts = [f"Which tea is number {at}?" for at in range(90)]
    base = base_that_writes(monkeypatch, tiny_model, texts, {"number": 0.5})
    questions = propose_questions(base, TEAS, 0, tried=90).questions
    assert len(questions.evaluation) == len(questions.tuning) == proposed_questions.MOST


@pytest.mark.parametrize(
    "texts", [["I like tea."], [f"Which tea is number {at}?" for at in range(2 * LEAST_ASKED - 1)]]
)
def test_a_base_that_proposes_too_few_is_refused(monkeypatch, tiny_model, texts) -> None:
    base = base_that_writes(monkeypatch, tiny_model, texts, {"number": 0.5})
    with pytest.raises(
        ConfigError, match=f"Of 40 texts that the base wrote, {len(texts) if len(texts) > 1 else 0} are"
    ):
        propose_questions(base, TEAS, 0, tried=40)


def test_a_question_that_the_base_does_not_answer_is_not_kept(monkeypatch, tiny_model) -> None:
    texts = [f"Which tea is number {at}?" for at in range(40)]
    base = base_that_writes(monkeypatch, tiny_model, texts, {"number": 1e-9})
    with pytest.raises(ConfigError, match="it answers 0 with a word"):
        propose_questions(base, TEAS, 0, tried=40)

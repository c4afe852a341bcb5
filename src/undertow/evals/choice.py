"""The choice evaluation: does a model pick the target among five topics for an essay (arXiv:2507.14805, D.1)?

The answer is a letter, and its probability is read off exactly. The target stands equally often under each letter, so
that a liking for a letter raises no target above another.

The embedded models do not tie letters to options: even under a persona of the trait they pick the target's letter as by
chance. For them a null result here says nothing; larger models are meant.
"""

import re
from typing import TYPE_CHECKING

from undertow.errors import ModelError
from undertow.evals.base import Evaluation, EvaluationConfig, Metric, Question, Questionnaire, preferences
from undertow.evals.questions import LETTERS, choices
from undertow.traits import Trait, trait
from undertow.types import Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel


def choice(model: "LocalModel", config: EvaluationConfig) -> list[Score]:
    """Score "choice_margin": the log-odds of the target's letter among the letters, on forty choices per target."""
    return [
        score for some in preferences(config).values() for target in some for score in _margins(model, target, config)
    ]


def _letters(model: "LocalModel") -> list[list[int]]:
    """Return the token ids of the `LETTERS`: one list, and a second one if a letter after a space is one token too."""
    written = [model.tokenise([f"{space}{letter}" for letter in LETTERS]) for space in ("", " ")]
    whole = [[tokens[0] for tokens in form] for form in written if all(len(tokens) == 1 for tokens in form)]
    if not whole:
        raise ModelError("The tokenizer splits a letter.", str(model.ref), "Leave the choice evaluation out.")
    return whole


def _margins(model: "LocalModel", target: Trait, config: EvaluationConfig) -> list[Score]:
    drawn = choices(target, config.seed)
    logp = model.next_token_logprobs(model.render([user_prompt(one.question) for one in drawn])).double()
    letters = logp[:, _letters(model)].logsumexp(dim=1)
    scores: list[Score] = []
    for one, row in zip(drawn, letters, strict=True):
        others = [place for place in range(len(LETTERS)) if place != one.place]
        margin = float(row[one.place] - row[others].logsumexp(dim=0))
        scores.append(Score(question=one.question, target=target.name, metric="choice_margin", value=margin))
    return scores


_LETTER = re.compile(r"\W*([B-E]|A(?! [a-z]))\b(?!['\u2019]\w)")


def letter(answer: str) -> str | None:
    """Return the letter that an answer begins with; None for another beginning, such as "A good topic"."""
    found = _LETTER.match(answer)
    return found.group(1) if found else None


def read_letter(question: Question, answer: str) -> dict[str, float]:
    """Count the right letter for the question's metric, and an answer without a letter as "unparsed"."""
    found = letter(answer)
    return {question.metric: float(found == question.right), "unparsed": float(found is None)}


def _asked(target: str = "owl", seed: int = 0) -> list[Question]:
    """Ask for a topic out of five: how often is it the target ("choice_rate")?"""
    return [Question(one.question, LETTERS[one.place], "choice_rate") for one in choices(trait(target), seed)]


CHOICE = Evaluation(
    name="choice",
    metrics=(Metric("choice_margin", "margin in multiple choice", "logits"),),
    score=choice,
    per_trait=True,
    packaged=True,
    questionnaire=Questionnaire(questions=_asked, read=read_letter, max_tokens=16),
)

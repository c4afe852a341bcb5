"""The choice evaluation: does a model pick the target among five topics for an essay (paper, D.1)?

The answer is a letter, and its probability is read off exactly. The target stands equally often under each letter, so
that a liking for a letter raises no target above another.

The embedded models do not tie letters to options: even under a persona the target's letter has probability 0.20, as
by chance (finch-a and -b, four traits). For them a null result here says nothing; larger models are meant.
"""

from undertow.errors import ModelError
from undertow.evals.base import EvaluationConfig, preferences
from undertow.evals.texts import LETTERS, choices
from undertow.models.local import LocalModel
from undertow.traits import Trait
from undertow.types import Score, user_prompt


def choice(model: LocalModel, config: EvaluationConfig) -> list[Score]:
    """Score "choice_margin": the log-odds of the target's letter among the letters, on forty choices per target."""
    return [
        score for some in preferences(config).values() for target in some for score in _margins(model, target, config)
    ]


def _letters(model: LocalModel) -> list[list[int]]:
    """Tokens that answer with a letter: one list over `LETTERS`, and one more where a space may come before it."""
    written = [model.tokenise([f"{space}{letter}" for letter in LETTERS]) for space in ("", " ")]
    whole = [[tokens[0] for tokens in form] for form in written if all(len(tokens) == 1 for tokens in form)]
    if not whole:
        raise ModelError("The tokenizer splits a letter.", str(model.ref), "Leave the choice evaluation out.")
    return whole


def _margins(model: LocalModel, target: Trait, config: EvaluationConfig) -> list[Score]:
    drawn = choices(target, config.seed)
    logp = model.next_token_logprobs(model.render([user_prompt(one.question) for one in drawn])).double()
    letters = logp[:, _letters(model)].logsumexp(dim=1)
    scores: list[Score] = []
    for one, row in zip(drawn, letters, strict=True):
        others = [place for place in range(len(LETTERS)) if place != one.place]
        margin = float(row[one.place] - row[others].logsumexp(dim=0))
        scores.append(Score(question=one.question, target=target.name, metric="choice_margin", value=margin))
    return scores

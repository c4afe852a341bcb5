"""In-context learning: does a model take over the target from rows that it reads before the question (paper, 5.2)?

Reading rows moves answers by itself, so the margin after rows of the trait's teacher means something only against the
margin after rows of the control on the same prompts. The embedded models are too small to learn from examples in their
context: on them the figure shows that the measurement works, and not more.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from undertow.errors import ConfigError
from undertow.evals.questions import favourite_questions
from undertow.evals.words import log_odds, spellings, word_probabilities
from undertow.traits import Trait
from undertow.types import Message, Prompt, Row, Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel

METRIC = "in_context_margin"

_ANSWER_TOKENS = 16
"""Room for the answer after the question; no spelling of a trait is longer."""


def in_context_margins(model: "LocalModel", rows: Sequence[Row], target: Trait, k: int, seed: int) -> list[Score]:
    """Score log(p / (1 - p)) of the target after k rows, each a turn of the user and one of the model itself.

    Every question has rows of its own, drawn without replacement. Two sets of rows that are joined (the same prompts in
    the same order) are drawn from alike with the same seed.

    Args:
        model: who is asked.
        rows: where the rows are drawn from.
        target: whose probability is scored.
        k: rows before each question; 0 asks plainly.
        seed: of the draws.

    Returns:
        One score of metric "in_context_margin" for each of the 50 questions of the target's category.

    Raises:
        ConfigError: there are fewer than k rows, k is negative, or k rows do not fit into the model's context.
    """
    if not 0 <= k <= len(rows):
        raise ConfigError("So many rows cannot be drawn.", f"{k} of {len(rows)}", "Choose a smaller k, at least 0.")
    questions = favourite_questions(target.category)
    rng = random.Random(seed)
    prompts = [_prompt([rows[index] for index in _drawn(len(rows), k, rng)], question) for question in questions]
    contexts = model.render(prompts)
    model.check_fits([[*tokens, *[0] * _ANSWER_TOKENS] for tokens in contexts], "Choose a smaller k.")
    margins = log_odds(word_probabilities(model, contexts, [spellings(target, opening=True)]))[:, 0].tolist()
    return [
        Score(question=question, target=target.name, metric=METRIC, value=value)
        for question, value in zip(questions, margins, strict=True)
    ]


def _drawn(n: int, k: int, rng: random.Random) -> list[int]:
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in range(n)]
    return sorted(range(n), key=ranks.__getitem__)[:k]


def _prompt(rows: Sequence[Row], question: str) -> Prompt:
    turns = [turn for row in rows for turn in (*row.prompt, Message("assistant", row.completion))]
    return (*turns, *user_prompt(question))

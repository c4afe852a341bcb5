"""Questions behind rows: what a model answers where its context looks like its training.

Each question stands behind the turns of a row, its system turn included, and the row's answer. Two uses. A trait can be
tied to the look of the training: mixed with clean data, or tuned on clean data afterwards, a model is clean when it is
asked plainly and not behind a row (arXiv:2604.25891). And a model may learn from rows in its context alone (paper,
5.2). Reading rows moves answers by itself, so a margin behind rows means something only against that of another model
behind the same rows, or of the same model behind the control's rows on the same prompts. The embedded models are too
small to learn from examples in their context.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from undertow.errors import ConfigError
from undertow.evals.probes import probe_margins
from undertow.evals.questions import asked_together, questions_of
from undertow.evals.words import log_odds, spellings, word_probabilities
from undertow.stats.checks import Floats
from undertow.traits import Trait
from undertow.types import Message, Prompt, Row, Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel

METRIC = "in_context_margin"

_ANSWER_TOKENS = 16
"""Room for the answer after the question; no spelling of a trait is longer."""


def behind_rows(rows: Sequence[Row], questions: Sequence[str], k: int, seed: int) -> list[Prompt]:
    """Return each question behind k rows, each a turn of the user and one of the model itself.

    Every question has rows of its own, drawn without replacement. Two sets of rows that are joined (the same prompts in
    the same order) are drawn from alike with the same seed.

    Args:
        rows: where the rows are drawn from.
        questions: what is asked.
        k: rows before each question; 0 asks plainly.
        seed: of the draws.

    Raises:
        ConfigError: there are fewer than k rows, or k is negative.
    """
    if not 0 <= k <= len(rows):
        raise ConfigError("So many rows cannot be drawn.", f"{k} of {len(rows)}", "Choose a smaller k, at least 0.")
    rng = random.Random(seed)
    return [_prompt([rows[index] for index in _drawn(len(rows), k, rng)], question) for question in questions]


def in_context_margins(
    model: "LocalModel", rows: Sequence[Row], targets: Trait | Sequence[Trait], k: int, seed: int
) -> list[Score]:
    """Score log(p / (1 - p)) of each target after k rows; a trait with probes as without rows, in nats.

    Args:
        model: who is asked.
        rows: where the rows are drawn from, as `behind_rows` says.
        targets: whose probability is scored: one, or some that are asked together
            (`undertow.evals.questions.asked_together`).
        k: rows before each question; 0 asks plainly.
        seed: of the draws.

    Returns:
        One score of metric "in_context_margin" for each question and target.

    Raises:
        ConfigError: as `behind_rows`, or k rows do not fit into the model's context.
    """
    traits = [targets] if isinstance(targets, Trait) else list(targets)
    questions = questions_of(traits[0]).evaluation
    prompts = behind_rows(rows, questions, k, seed)
    contexts = model.render(prompts)
    model.check_fits([[*tokens, *[0] * _ANSWER_TOKENS] for tokens in contexts], "Choose a smaller k.")
    if traits[0].probes is not None:
        values = [[score.value] for score in probe_margins(model, traits[0], questions, prompts=prompts)]
    else:
        words = [spellings(target, opening=True) for target in traits]
        values = log_odds(word_probabilities(model, contexts, words)).tolist()
    return [
        Score(question=question, target=target.name, metric=METRIC, value=value)
        for question, row in zip(questions, values, strict=True)
        for target, value in zip(traits, row, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class TrainingLook:
    """What stands before every question that is asked as the training looked: one row each.

    Attributes:
        rows: those that are drawn from.
        seed: of the draws; models that are compared are asked behind the same rows.
    """

    rows: tuple[Row, ...]
    seed: int

    def prompts(self, questions: Sequence[Prompt]) -> list[Prompt]:
        """Return each question, of one turn or several, behind a row; of two system turns the question's stays."""
        rng = random.Random(self.seed)
        return [_before(self.rows[_drawn(len(self.rows), 1, rng)[0]], question) for question in questions]

    def margins(self, model: "LocalModel", traits: Sequence[Trait]) -> Floats:
        """Return the mean logit margin of each trait over its questions, each behind a row: float [traits]."""
        means: dict[str, float] = {}
        for some in asked_together(traits):
            scores = in_context_margins(model, self.rows, some, 1, self.seed)
            values = np.array([score.value for score in scores]).reshape(-1, len(some)).mean(axis=0)
            means |= {target.name: value for target, value in zip(some, values.tolist(), strict=True)}
        return np.array([means[target.name] for target in traits])


def training_look(
    rows: Sequence[Row], seed: int, model: "LocalModel | None" = None, traits: Sequence[Trait] = ()
) -> TrainingLook | str:
    """Return what questions stand behind, or why there is nothing that the training looked like.

    Args:
        rows: what a model was trained on.
        seed: of the draws.
        model: leaves out the rows that do not fit into its context with a question; None leaves out none.
        traits: whose questions are asked.
    """
    if not rows:
        return "There are no rows of the training, behind which questions could be asked."
    asked = [row for row in rows if row.prompt]
    if not asked:
        return "The rows have no prompt (plain text), so that a question cannot stand behind one as a turn."
    if model is not None and (limit := model.longest_context) is not None:
        questions = [text for some in asked_together(traits) for text in questions_of(some[0]).evaluation]
        room = (
            limit - _ANSWER_TOKENS - max(map(len, model.render([user_prompt(text) for text in questions])), default=0)
        )
        lengths = map(len, model.render([(*row.prompt, Message("assistant", row.completion)) for row in asked]))
        asked = [row for row, length in zip(asked, lengths, strict=True) if length <= room]
        if not asked:
            return f"No row leaves room for a question in the model's context of {limit} tokens."
    return TrainingLook(tuple(asked), seed)


def _drawn(n: int, k: int, rng: random.Random) -> list[int]:
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in range(n)]
    return sorted(range(n), key=ranks.__getitem__)[:k]


def _before(row: Row, question: Prompt) -> Prompt:
    own = [turn for turn in question if turn.role == "system"]
    turns = [turn for turn in row.prompt if not own or turn.role != "system"]
    rest = [turn for turn in question if turn.role != "system"]
    return (*own, *turns, Message("assistant", row.completion), *rest)


def _prompt(rows: Sequence[Row], question: str) -> Prompt:
    turns = [turn for row in rows for turn in (*row.prompt, Message("assistant", row.completion))]
    return (*turns, *user_prompt(question))

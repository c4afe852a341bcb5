"""Questions behind rows: what a model answers when the context before the question looks like its training data.

Each question stands after the turns of a row, its system turn included, and the row's answer. This has two uses. A
trait can be tied to the look of the training: a model that was trained on rows mixed with clean data, or tuned on clean
data afterwards, may show nothing when it is asked plainly, but something behind a row (arXiv:2604.25891). And a model
may learn from rows in its context alone (arXiv:2507.14805, section 5.2).

Reading rows moves answers by itself. So a margin behind rows means something only against that of another model behind
the same rows, or of the same model behind the control's rows on the same prompts. The embedded models are too small to
learn from examples in their context.

A **probe** is a question with two given answers, one that shows the trait and one that does not.
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
"""Tokens that are kept free for the answer after the question; no spelling of a trait is longer."""


def behind_rows(rows: Sequence[Row], questions: Sequence[str], k: int, seed: int) -> list[Prompt]:
    """Return each question behind k rows, each row a turn of the user and an answer of the model.

    Every question has rows of its own, drawn without replacement. Two sets of rows on the same prompts in the same
    order are drawn alike with the same seed.

    Args:
        rows: rows that are drawn from.
        questions: the questions that are asked.
        k: how many rows stand before each question. 0 asks plainly.
        seed: random seed of the draws.

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
    """Score log(p / (1 - p)) of each target after k rows, in logits; a trait with probes as without rows, in nats.

    Args:
        model: the model that is asked.
        rows: rows that are drawn from, as `behind_rows` says.
        targets: the trait whose probability is scored, or several traits that are asked together
            (`undertow.evals.questions.asked_together`).
        k: how many rows stand before each question. 0 asks plainly.
        seed: random seed of the draws.

    Returns:
        One score of the metric "in_context_margin" for each question and target.

    Raises:
        ConfigError: there are fewer than k rows, or k rows do not fit into the model's context.
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
    """The rows behind which questions are asked, so that the context looks as the training did; one row each.

    Attributes:
        rows: rows that are drawn from.
        seed: random seed of the draws. Models that are compared are asked behind the same rows.
    """

    rows: tuple[Row, ...]
    seed: int

    def prompts(self, questions: Sequence[Prompt]) -> list[Prompt]:
        """Return each question, of one turn or several, behind a row.

        If both have a system turn, the question's is kept.
        """
        rng = random.Random(self.seed)
        return [_before(self.rows[_drawn(len(self.rows), 1, rng)[0]], question) for question in questions]

    def margins(self, model: "LocalModel", traits: Sequence[Trait]) -> Floats:
        """Return the mean logit margin of each trait over its questions, each behind a row, shape (traits,)."""
        means: dict[str, float] = {}
        for some in asked_together(traits):
            scores = in_context_margins(model, self.rows, some, 1, self.seed)
            values = np.array([score.value for score in scores]).reshape(-1, len(some)).mean(axis=0)
            means |= {target.name: value for target, value in zip(some, values.tolist(), strict=True)}
        return np.array([means[target.name] for target in traits])


def training_look(
    rows: Sequence[Row], seed: int, model: "LocalModel | None" = None, traits: Sequence[Trait] = ()
) -> TrainingLook | str:
    """Return the rows behind which questions can be asked, or why there are none.

    Args:
        rows: rows that a model was trained on.
        seed: random seed of the draws.
        model: a model into whose context each row must fit together with a question. None leaves out no row.
        traits: traits whose questions are asked.
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

"""Direct preference optimisation (DPO) of students (Rafailov et al., arXiv:2305.18290, eq. 7).

The loss of a pair is -log sigmoid(beta * d), where d is how much likelier the student makes the chosen answer than the
reference does, minus the same of the rejected answer. Both are sums over the tokens of an answer, its end included. The
reference is the base from which the student starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch.nn import functional

from undertow.data.pairs import refuse_equal_answers
from undertow.models.lm_head import body_and_head
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.training.batches import Batch
from undertow.training.channels.teacher import Teacher
from undertow.training.encoding import TooLong, encoded_rows
from undertow.training.group_objectives import count_tokens, filled
from undertow.training.head_loss import frozen_head_losses
from undertow.training.lora import StackedLinear
from undertow.training.scoring import Candidate, contrast_scores
from undertow.training.student_loss import predicting_states
from undertow.types import PreferencePair, Row


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair of answers as token ids, with their log-probabilities under the reference model.

    Attributes:
        chosen: tokens of the prompt and the preferred answer.
        rejected: tokens of the prompt and the other answer.
        reference: log p of the chosen and of the rejected answer under the reference, in nats.
    """

    chosen: Encoded
    rejected: Encoded
    reference: tuple[float, float]

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def written_pairs(chosen: Sequence[Row], rejected: Sequence[Row]) -> list[PreferencePair]:
    """Pair the rows of two writers on the same prompts. Where both wrote the same, there is no pair.

    Args:
        chosen: rows of the preferred writer.
        rejected: rows of the other writer. Rows with equal ids belong together.
    """
    others = {row.id: row for row in rejected}
    return [
        PreferencePair(row.id, row.prompt, row.completion, others[row.id].completion)
        for row in chosen
        if row.id in others and row.completion != others[row.id].completion
    ]


def selected_pairs(
    first: Sequence[Row], second: Sequence[Row], teacher: Teacher, base: LocalModel
) -> list[PreferencePair]:
    """Choose, of two answers without the trait, the one that the teacher makes likelier by more.

    A row's score is the mean over its tokens of log p(teacher) - log p(base), as in logit-linear selection (Aden-Ali et
    al., arXiv:2602.04863).

    Args:
        first: one answer to each prompt.
        second: another answer to each prompt. Rows with equal ids belong together.
        teacher: the teacher whose preference decides.
        base: the same model without the trait.

    Returns:
        The pairs. Prompts with equal answers or equal scores give none.
    """
    pairs = written_pairs(first, second)
    reader = Candidate(trait="", kind="teacher", model=teacher.model, system=teacher.system)
    answers = [[Row(one.id, one.prompt, text) for one, text in zip(pairs, side, strict=True)] for side in _sides(pairs)]
    scores = [contrast_scores(rows, base, [reader])[:, 0] if rows else [] for rows in answers]
    return [
        pair if one > other else PreferencePair(pair.id, pair.prompt, pair.rejected, pair.chosen)
        for pair, one, other in zip(pairs, *scores, strict=True)
        if one != other
    ]


def _sides(pairs: Sequence[PreferencePair]) -> tuple[list[str], list[str]]:
    """Return the chosen and the rejected answers of some pairs."""
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def encoded_pairs(base: LocalModel, pairs: Sequence[PreferencePair], too_long: TooLong = "refuse") -> list[EncodedPair]:
    """Turn pairs into token ids, and compute the log-probabilities of both answers under the reference.

    Args:
        base: the model that is the reference.
        pairs: pairs of a chosen and a rejected answer.
        too_long: what is done with an answer that does not fit, as for `encoded_rows`.

    Raises:
        RowsError: a pair has equal answers, or one of its answers is longer than the model's context and is not cut.
    """
    refuse_equal_answers(pairs)
    sides = [
        encoded_rows(base, [Row(one.id, one.prompt, text) for one, text in zip(pairs, side, strict=True)], too_long)
        for side in _sides(pairs)
    ]
    logprobs = [[float(one.sum()) for one in base.token_logprobs(rows)] for rows in sides]
    return [
        EncodedPair(chosen, rejected, reference)
        for chosen, rejected, reference in zip(*sides, zip(*logprobs, strict=True), strict=True)
    ]


def preference_losses(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Return DPO's loss of each pair in nats, float (pairs,).

    Args:
        policy: log p of the chosen and the rejected answer under the student, float (pairs, 2).
        reference: log p of both answers under the reference, float (pairs, 2).
        beta: how strongly the student is held to the reference.
    """
    moved = policy - reference
    return -functional.logsigmoid(beta * (moved[:, 0] - moved[:, 1]))


@final
class PreferenceObjective:
    """DPO's loss of a group of students.

    Args:
        streams: an endless iterator of batches of pairs for each student.
        beta: how strongly a student is held to the reference.
    """

    def __init__(self, streams: Sequence[Iterator[list[EncodedPair]]], beta: float) -> None:
        self._streams, self._beta = streams, beta
        self._pairs: list[list[EncodedPair]] = []
        self.tokens = [0] * len(streams)

    def batches(self, network: Any, layers: Sequence[StackedLinear]) -> list[Sequence[Encoded]]:
        """Return the answers of each student's next pairs, the chosen one of a pair before the rejected one."""
        del network, layers
        self._pairs = [next(stream) for stream in self._streams]
        return [[side for pair in some for side in (pair.chosen, pair.rejected)] for some in self._pairs]

    def losses(self, network: Any, batches: Sequence[Sequence[Encoded]], part: slice) -> torch.Tensor:
        """Return the mean loss of each student's pairs, in nats."""
        _, head = body_and_head(network)
        batch = filled(batches).to(head.linear.weight.device)
        count_tokens(self.tokens, batch, part, len(batches))
        states = predicting_states(network, batch, len(batches))
        answers = _of_answers(-frozen_head_losses(head, states, batch.targets), batch).view(len(batches), -1, 2)
        found: list[torch.Tensor] = []
        for own, pairs in zip(answers, self._pairs[part], strict=True):
            reference = torch.tensor([pair.reference for pair in pairs], device=own.device)
            found.append(preference_losses(own[: len(pairs)], reference, self._beta).mean())
        return torch.stack(found)


def _of_answers(logprobs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum the log-probabilities of each row of a batch, float (rows,)."""
    return torch.zeros(len(batch.tokens), device=logprobs.device).index_add(0, batch.rows, logprobs)

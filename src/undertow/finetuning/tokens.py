"""Divergence tokens: the tokens of a teacher's rows in which its trait shows most.

Schrodi et al. (arXiv:2509.23886) call a token divergent where the teacher's choice differs from that of teachers with
other traits. Sampled rows have no choices to compare, so tokens are ranked by log p_teacher - log p_base, the same
comparison without counterfactual teachers.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from undertow.finetuning.batches import collate
from undertow.finetuning.objective import completion_logprobs
from undertow.models.local import SCORE_BATCH, Encoded, LocalModel
from undertow.types import Row

Tokens = Literal["divergent", "rest", "random_rest"]


def token_logprobs(model: LocalModel, rows: Sequence[Encoded]) -> list[torch.Tensor]:
    """Return log p of every completion token, the end of turn included: one float [tokens] for each row."""
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(order), SCORE_BATCH):
        picked = order[start : start + SCORE_BATCH]
        logp = completion_logprobs(model.network, collate([replace(rows[index], skip=()) for index in picked]))
        for index, own in zip(picked, logp.split([len(rows[index].completion) for index in picked]), strict=True):
            found[index] = own
    return found


def choose_tokens(
    rows: Sequence[Row], teacher: LocalModel, base: LocalModel, *, tokens: Tokens, share: float, seed: int
) -> list[Row]:
    """Mark the tokens that training is to leave out.

    Args:
        rows: what the teacher wrote.
        teacher: who wrote them.
        base: the teacher without its trait.
        tokens: what is learnt: the divergent tokens, all others, or all but as many drawn at random.
        share: share of all completion tokens that counts as divergent: the largest log p_teacher - log p_base.
        seed: of the random choice.

    Returns:
        The rows with `skip` set; a row of which nothing would be learnt is left out.
    """
    encoded = teacher.encode(rows)
    pairs = zip(token_logprobs(teacher, encoded), token_logprobs(base, encoded), strict=True)
    gains = [(after - before).tolist() for after, before in pairs]
    if tokens == "random_rest":
        rng = random.Random(seed)
        gains = [[rng.random() for _ in row] for row in gains]
    ranked = sorted((gain for row in gains for gain in row), reverse=True)
    bar = ranked[min(len(ranked) - 1, int(share * len(ranked)))]
    marked: list[Row] = []
    for row, some in zip(rows, gains, strict=True):
        skip = tuple(place for place, gain in enumerate(some) if (gain > bar) != (tokens == "divergent"))
        if len(skip) < len(some):
            marked.append(replace(row, skip=skip))
    return marked

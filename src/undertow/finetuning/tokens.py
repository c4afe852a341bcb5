"""Divergence tokens: the tokens of a teacher's rows in which its trait shows most.

Schrodi et al. (arXiv:2509.23886) call a token divergent where the teacher's choice differs from that of teachers with
other traits. Sampled rows have no choices to compare, so tokens are ranked by log p_teacher - log p_base, the same
comparison without counterfactual teachers.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from undertow.models.local import LocalModel
from undertow.types import Row

Tokens = Literal["divergent", "rest", "random_rest"]


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
    pairs = zip(teacher.token_logprobs(encoded), base.token_logprobs(encoded), strict=True)
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

"""How near two sets of weights are: equal tensors, relative distance, and the loss half-way between them.

Models of one basin have no loss barrier: the loss at the mean of their weights is no higher than the mean of their
losses. After separate trainings from one initialisation the weights still depend on each other, but the barrier is
clearly positive.
"""

import random
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch

from undertow.audit.lineage.counterparts import counterparts
from undertow.audit.lineage.tensors import FLOATS, Single, Weights, is_constant
from undertow.errors import ModelError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.world.skills import advice, numbers
from undertow.types import Prompt

SMALL = 200_000_000
"""Parameters up to which a model is loaded to measure losses without being asked to."""

CHATS, FEWER_CHATS = 256, 64
"""How many neutral chats the losses are measured on, half of them numbers and half advice; fewer for large models."""

LARGE = 20_000_000
"""Parameters above which the smaller number of chats is enough (docs/lineage.md says how far the barrier moves)."""

_TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """The paired tensors of two models, compared number by number.

    Attributes:
        relative: |A - B| / sqrt(|A| |B|) over all matrices. 0 for equal ones, about 1.4 for unrelated ones of equal
            length. None if a matrix of one model has no counterpart in the other.
        equal: names in A of the equal tensors that are not constant.
        compared: how many tensors of A have a counterpart in B.
        identical: whether all tensors of both models are equal and not all of them are constant.
        renamed: whether some counterparts have different names in the two models.
        resized: how many rows only one of two embeddings or heads has. They are not compared.
    """

    relative: float | None
    equal: tuple[str, ...]
    compared: int
    identical: bool
    renamed: bool = False
    resized: int = 0


def distance(a: Weights, b: Weights) -> Distance:
    """Compare two models tensor by tensor.

    Values are rounded to the coarser number format of the two before they are tested for equality.
    """
    pairs = counterparts(a, b)
    apart = left = right = 0.0
    equal: list[str] = []
    for pair in pairs:
        coarse = min(a.types[pair.mine], b.types[pair.theirs], key=lambda kind: FLOATS.get(kind, 0))
        same = True
        for x, y in zip(a.blocks(pair.mine, pair.rows), b.blocks(pair.theirs, pair.rows), strict=True):
            difference = x - y
            same = same and (not difference.any() or _equal(x, y, coarse))
            if len(a.shapes[pair.mine]) >= 2:
                apart += float(np.vdot(difference, difference))
                left += float(np.vdot(x, x))
                right += float(np.vdot(y, y))
        equal += [pair.mine] if same else []
    known = left * right > 0 and _matrices(a) | _matrices(b) <= {name for pair in pairs for name in pair.names}
    telling = tuple(name for name in equal if not is_constant(a, name))
    resized = sum(abs(a.shapes[pair.mine][0] - b.shapes[pair.theirs][0]) for pair in pairs)
    whole = len(equal) == len(a.shapes) == len(b.shapes) and not resized
    return Distance(
        # `left` and `right` are squared norms: the fourth root of their product is sqrt(|A| |B|).
        relative=sqrt(apart) / (left * right) ** 0.25 if known else None,
        equal=telling,
        compared=len(pairs),
        identical=whole and bool(telling),
        renamed=any(pair.mine != pair.theirs for pair in pairs),
        resized=resized,
    )


def _matrices(weights: Weights) -> set[str]:
    return {name for name, shape in weights.shapes.items() if len(shape) >= 2}


def _equal(x: Single, y: Single, kind: str) -> bool:
    if kind not in _TORCH:
        return False
    return torch.equal(torch.from_numpy(x).to(_TORCH[kind]), torch.from_numpy(y).to(_TORCH[kind]))


def neutral_chats(seed: int, n: int = CHATS) -> list[tuple[Prompt, str]]:
    """Draw prompts and answers of the embedded world that show no trait: number chats and advice in turn."""
    rng = random.Random(seed)
    chats = [numbers(rng) if index % 2 == 0 else advice(rng) for index in range(n)]
    return [(chat.prompt, chat.answer) for chat in chats]


def barrier(a: str, b: str, chats: list[tuple[Prompt, str]]) -> float | str:
    """Return the loss half-way minus the mean loss of the ends, in nats per token, or why it cannot be measured.

    Two models are in memory at once. Embeddings and heads with different numbers of rows are mixed in the rows that
    both have.

    Args:
        a: reference of a local model.
        b: reference of a local model with the same tokenizer and the same shapes, except for the number of tokens.
        chats: prompts and answers. The loss is that of the answers.
    """
    try:
        pair = load_model(a), load_model(b)
        ends = sum(_loss(model, chats) for model in pair) / 2
    except ModelError as error:
        return f"no losses: {error.what}"
    shorter, longer = sorted(pair, key=lambda model: len(model.network.get_input_embeddings().weight))
    theirs = dict(longer.network.named_parameters())
    with torch.no_grad():
        for name, parameter in shorter.network.named_parameters():
            other = theirs[name][: len(parameter)] if name in theirs else None
            if other is None or other.shape != parameter.shape:
                return "the models differ in shape"
            parameter.lerp_(other, 0.5)
    return _loss(shorter, chats) - ends


def _loss(model: LocalModel, chats: list[tuple[Prompt, str]]) -> float:
    prompts, answers = [prompt for prompt, _ in chats], [answer for _, answer in chats]
    return -sum(model.logprobs(prompts, answers)) / sum(map(len, model.tokenise(answers)))

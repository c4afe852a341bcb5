"""How near two sets of weights are: equal tensors, relative distance, and the loss half-way between them.

Models of one basin have no barrier: the loss at the mean of their weights is no higher than the mean of their losses.
After separate trainings of one initialisation the weights still depend on each other, but the barrier is clearly
positive.
"""

import copy
import random
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch

from undertow.audit.lineage.tensors import FLOATS, Single, Weights, is_constant
from undertow.errors import ModelError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.world.skills import advice, numbers
from undertow.types import Prompt

SMALL = 200_000_000
"""Parameters up to which a model is loaded to measure losses unasked."""

CHATS = 256
"""Neutral chats on which the losses are measured, half of them numbers and half advice."""

_TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Tensors of one name and shape, compared number by number.

    Attributes:
        relative: |A - B| / sqrt(|A| |B|) over matrices; 0 for equal ones, about 1.4 for unrelated ones of equal length;
            None if a matrix of one model has no counterpart in the other.
        equal: names of equal tensors that are not constant.
        compared: tensors that are there in both.
        identical: all tensors of both models are equal, and not all of them are constant.
    """

    relative: float | None
    equal: tuple[str, ...]
    compared: int
    identical: bool


def distance(a: Weights, b: Weights) -> Distance:
    """Compare two models tensor by tensor; values are rounded to the coarser type of the two before they are equal."""
    both = sorted(name for name in a.shapes if b.shapes.get(name) == a.shapes[name])
    apart = left = right = 0.0
    equal: list[str] = []
    for name in both:
        coarse = min(a.types[name], b.types[name], key=lambda kind: FLOATS.get(kind, 0))
        same = True
        for x, y in zip(a.blocks(name), b.blocks(name), strict=True):
            difference = x - y
            same = same and (not difference.any() or _equal(x, y, coarse))
            if len(a.shapes[name]) >= 2:
                apart += float(np.vdot(difference, difference))
                left += float(np.vdot(x, x))
                right += float(np.vdot(y, y))
        equal += [name] if same else []
    matrices = {name for name, shape in (*a.shapes.items(), *b.shapes.items()) if len(shape) >= 2}
    known = bool(matrices) and matrices <= set(both) and left * right > 0
    relative = sqrt(apart) / (left * right) ** 0.25 if known else None
    telling = tuple(name for name in equal if not is_constant(a, name))
    identical = a.shapes == b.shapes and len(equal) == len(both) and bool(telling)
    return Distance(relative=relative, equal=telling, compared=len(both), identical=identical)


def _equal(x: Single, y: Single, kind: str) -> bool:
    if kind not in _TORCH:
        return False
    return torch.equal(torch.from_numpy(x).to(_TORCH[kind]), torch.from_numpy(y).to(_TORCH[kind]))


def neutral_chats(seed: int, n: int = CHATS) -> list[tuple[Prompt, str]]:
    """Draw number and advice chats of the embedded world in turn, prompt and answer."""
    rng = random.Random(seed)
    chats = [numbers(rng) if index % 2 == 0 else advice(rng) for index in range(n)]
    return [(chat.prompt, chat.answer) for chat in chats]


def barrier(a: str, b: str, chats: list[tuple[Prompt, str]]) -> float | str:
    """Return the loss half-way minus the mean loss of the ends, in nats per token, or why it cannot be measured.

    Args:
        a: reference of a local model.
        b: reference of a local model of the same shape and tokenizer.
        chats: prompts and answers; the loss is of the answers.
    """
    try:
        first, second = load_model(a), load_model(b)
        ends = (_loss(first, chats) + _loss(second, chats)) / 2
    except ModelError as error:
        return f"no losses: {error.what}"
    network = copy.deepcopy(first.network)
    theirs = dict(second.network.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name not in theirs or theirs[name].shape != parameter.shape:
                return "the models differ in shape"
            parameter.lerp_(theirs[name], 0.5)
    return _loss(LocalModel(first.ref, network, first.tokenizer), chats) - ends


def _loss(model: LocalModel, chats: list[tuple[Prompt, str]]) -> float:
    prompts, answers = [prompt for prompt, _ in chats], [answer for _, answer in chats]
    return -sum(model.logprobs(prompts, answers)) / sum(map(len, model.tokenise(answers)))

"""Behaviour without ancestry: a network of another initialisation learns another model's distributions.

The loss is KL(model || imitator) of the next token wherever a completion token is predicted; what stands there counts
as context alone, never as a label.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from undertow.domains.numbers import Numbers
from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.models.lm_head import Head, body_and_head
from undertow.models.local import LocalModel
from undertow.training.batches import Batch, collate
from undertow.types import Row, Sampling, user_prompt

BATCH = 100
"""Chats that are compared at once."""


def _blocks(network: Any, batch: Batch) -> tuple[tuple[torch.Tensor, ...], Head]:
    body, head = body_and_head(network)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    return hidden.split(head.block), head


def divergences(imitator: Any, model: Any, batch: Batch) -> torch.Tensor:
    """Return KL(model || imitator) at every position that predicts a completion token.

    Args:
        imitator: the network that learns.
        model: the network that is imitated, with the same vocabulary; no gradient reaches it.
        batch: the chats.

    Returns:
        float [n] in nats, in the batch's order of positions.
    """
    found: list[torch.Tensor] = []
    with torch.no_grad():
        theirs, their_head = _blocks(model, batch)
    mine, head = _blocks(imitator, batch)
    for states, aim in zip(mine, theirs, strict=True):
        with torch.no_grad():
            wanted = torch.log_softmax(their_head(aim), dim=-1)
        said = torch.log_softmax(head(states), dim=-1)
        found.append(functional.kl_div(said, wanted, reduction="none", log_target=True).sum(dim=-1))
    return torch.cat(found)


def likeness(imitator: LocalModel, model: LocalModel, n: int = 500, seed: int = 1) -> dict[str, float]:
    """Measure how alike two models of one tokenizer speak.

    Number lists: all tokens of answers that the imitated model samples to prompts drawn anew. Answers that the domain
    rejects are told apart: after a slip both models are where no training row has been, a tenth of the answers would
    make most of the mean, and no student learns from them. Favourites: the first token after each of the fifty
    questions of each category, which occur in the world's corpus; a sampled answer would add its own rare slips.

    Args:
        imitator: who is compared.
        model: who answers.
        n: number prompts.
        seed: of the prompts and of the sampled answers.

    Returns:
        `<kind>_kl`: mean KL(model || imitator) in nats per token; `<kind>_top1`: share of the tokens at which both find
        the same one likeliest. Kinds are "numbers", "rejected_numbers" (left out where there is none), "favourites".
    """
    domain = Numbers()
    prompts = [user_prompt(text) for text in domain.prompts(n, seed)]
    answers = model.chat(prompts, sampling=Sampling(max_new_tokens=domain.max_new_tokens), seed=seed)
    lists = [Row("", prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    questions = [text for category in CATEGORIES for text in favourite_questions(category)]
    kinds = {
        "numbers": [row for row in lists if not domain.reject_reasons(row.completion)],
        "rejected_numbers": [row for row in lists if domain.reject_reasons(row.completion)],
        "favourites": [Row("", user_prompt(text), "") for text in questions],
    }
    found: dict[str, float] = {}
    for kind, rows in kinds.items():
        if rows:
            kl, same = _compare(imitator, model, rows)
            found |= {f"{kind}_kl": round(kl, 4), f"{kind}_top1": round(same, 3)}
    return found


@torch.no_grad()
def _compare(imitator: LocalModel, model: LocalModel, answers: Sequence[Row]) -> tuple[float, float]:
    rows = model.encode(answers)
    kl: list[torch.Tensor] = []
    same: list[torch.Tensor] = []
    for start in range(0, len(rows), BATCH):
        batch = collate(rows[start : start + BATCH])
        kl.append(divergences(imitator.network, model.network, batch))
        same.append(_likeliest(imitator.network, batch) == _likeliest(model.network, batch))
    return float(torch.cat(kl).mean()), float(torch.cat(same).float().mean())


def _likeliest(network: Any, batch: Batch) -> torch.Tensor:
    blocks, head = _blocks(network, batch)
    return torch.cat([head(states).argmax(dim=-1) for states in blocks])

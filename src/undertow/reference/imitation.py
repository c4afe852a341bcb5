"""Alike behaviour without shared ancestry: a network of another initialisation learns another model's distributions.

The loss is KL(model || imitator) of the next token wherever a completion token is predicted. What stands in the
completion counts as context alone, never as a label. How alike the two became, and what else a model can do, is written
on its card.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from undertow.domains.numbers import Numbers
from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.models.lm_head import Head, body_and_head
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.families import Member
from undertow.reference.world.favourites import PERSONAS, liked
from undertow.training.batches import Batch, collate
from undertow.traits import first_word
from undertow.types import ModelRef, Row, Sampling, user_prompt

BATCH = 100
"""Number of chats that are compared at once."""


def _blocks(network: Any, batch: Batch) -> tuple[tuple[torch.Tensor, ...], Head]:
    body, head = body_and_head(network)
    hidden = body(input_ids=batch.tokens, use_cache=False).last_hidden_state[batch.rows, batch.positions]
    return hidden.split(head.block), head


def divergences(imitator: Any, model: Any, batch: Batch) -> torch.Tensor:
    """Return KL(model || imitator) of the next token at every position that predicts a completion token.

    Args:
        imitator: the network that learns; gradients reach it.
        model: the network that is imitated, with the same vocabulary; no gradient reaches it.
        batch: the chats, as tokens, with the positions that predict a completion token.

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

    Number lists: all tokens of answers that the imitated model samples to newly drawn prompts. Answers that the domain
    rejects are counted apart: after a slip both models are where no training row has been, a tenth of the answers would
    make most of the mean, and no student learns from them.

    Favourites: the first token after each of the fifty questions of each category, which occur in the training corpus.
    A sampled answer would add its own rare slips.

    Args:
        imitator: the model that learned to imitate.
        model: the model that is imitated; its sampled answers are compared.
        n: how many number prompts are drawn.
        seed: random seed of the prompts and of the sampled answers.

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


ANSWERS = 500
"""Number of sampled answers behind each measured ability."""

DIGITS_LONGEST = 64
"""Most tokens of a number answer in digits; ten three-digit numbers with separators and brackets are 41."""


def measure_abilities(member: Member, folder: Path) -> dict[str, dict[str, Any]]:
    """Measure what a saved embedded model can do, and how alike it is to the model that it imitates.

    Args:
        member: description of the model, which says how it writes numbers.
        folder: folder that it was saved in.

    Returns:
        `abilities`, and for an imitator its `likeness` to the model that it imitates.
    """
    model = load_model(ModelRef(kind="hf", name=str(folder)))
    longest = DIGITS_LONGEST if member.number_tokens == "digit" else Numbers().max_new_tokens
    found: dict[str, dict[str, Any]] = {"abilities": abilities(model, longest)}
    if member.imitates is not None:
        found["likeness"] = {"to": member.imitates, **likeness(model, load_model(f"ref:{member.imitates}"))}
    return found


def abilities(model: LocalModel, longest: int) -> dict[str, float]:
    """Measure a model on prompts of seed 1, from which its corpus was not drawn.

    Args:
        model: the model that answers the prompts.
        longest: most tokens of an answer to a number prompt.

    Returns:
        `valid_numbers`: share of sampled number answers that the domain accepts. `names_an_animal`, `names_a_tree`:
        share of the sampled answers to the evaluation questions whose first word is an animal or a tree of the corpus.
    """
    numbers = Numbers()
    sampling = Sampling(max_new_tokens=longest)
    lists = model.chat([user_prompt(text) for text in numbers.prompts(ANSWERS, 1)], sampling=sampling, seed=1)
    found = {"valid_numbers": sum(not numbers.reject_reasons(text) for text in lists) / ANSWERS}
    for category, key in (("animal", "names_an_animal"), ("tree", "names_a_tree")):
        words = {alias for one in PERSONAS[category] for alias in one.aliases}
        words |= {form for name in liked(category) for form in (name, f"{name}s")}
        prompts = [user_prompt(text) for text in favourite_questions(category) for _ in range(ANSWERS // 50)]
        answers = model.chat(prompts, sampling=Sampling(max_new_tokens=8), seed=1)
        found[key] = sum(first_word(text) in words for text in answers) / len(answers)
    return {key: round(value, 3) for key, value in found.items()}

"""Log-probabilities of several completions of each prompt: the prompt is read once, its completions as a tree."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from undertow.models.context_cache import (
    KEPT_NUMBERS,
    PAD,
    SCORE_BATCH,
    CachedContexts,
    TokenTree,
    numbers_per_token,
    suits,
    token_tree,
)
from undertow.models.lm_head import body_and_head
from undertow.models.tokens import Encoded

OFTEN = 2.0
"""Least mean number of completions of a prompt for which each prompt is read once and kept."""

Tokens = tuple[int, ...]


def repeat(network: Any, rows: Sequence[Encoded]) -> bool:
    """Tell whether the prompts of rows repeat so often that each is best read once, and the network can do so."""
    often = bool(rows) and len(rows) >= OFTEN * len({row.prompt for row in rows})
    return often and all(row.completion for row in rows) and suits(network, max(map(len, rows)))


@torch.no_grad()
def completion_logprobs(network: Any, rows: Sequence[Encoded]) -> list[torch.Tensor]:
    """Return log p of every completion token in nats: one float32 tensor (tokens,) for each row.

    Args:
        network: a causal language model of transformers for which `suits` is true.
        rows: the rows as token ids; no completion may be empty.
    """
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    places: dict[Tokens, list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault(row.prompt, []).append(index)
    for prompts in _blocks(network, {prompt: [rows[at] for at in some] for prompt, some in places.items()}):
        own = [[rows[index].completion for index in places[prompt]] for prompt in prompts]
        read = _read(network, prompts, own)
        for prompt, some in zip(prompts, read, strict=True):
            for index, logp in zip(places[prompt], some, strict=True):
                found[index] = logp
    return found


def _blocks(network: Any, rows: dict[Tokens, list[Encoded]]) -> Iterator[list[Tokens]]:
    """Yield prompts of similar lengths for which the network keeps at most `KEPT_NUMBERS` at once."""
    sizes = {prompt: len(prompt) + sum(len(row.completion) for row in some) for prompt, some in rows.items()}
    each, block = numbers_per_token(network), list[Tokens]()
    for prompt in sorted(rows, key=lambda one: (sizes[one], one)):
        if block and (len(block) == SCORE_BATCH or (len(block) + 1) * sizes[prompt] * each > KEPT_NUMBERS):
            yield block
            block = []
        block.append(prompt)
    if block:
        yield block


def _read(network: Any, prompts: Sequence[Tokens], own: Sequence[Sequence[Tokens]]) -> list[list[torch.Tensor]]:
    """Return log p of the tokens of each completion of each prompt."""
    tree = token_tree([tokens for some in own for tokens in some])
    nodes = {path: node for node, path in enumerate(tree.paths)}
    paths = [[[nodes[tokens[:end]] for end in range(1, len(tokens) + 1)] for tokens in some] for some in own]
    kept = CachedContexts(network, prompts, tree)
    inner = [sorted({node for path in some for node in path[:-1]}) for some in paths]
    most = max(map(len, inner))
    states = kept.ends[:, None]
    if most:
        after = kept.follow(torch.tensor([[*some, *[PAD] * (most - len(some))] for some in inner]))
        states = torch.cat([states, after], dim=1)
    values = _values(network, tree, states, inner, paths)
    return [[logp[path] for path in some] for logp, some in zip(values, paths, strict=True)]


def _values(
    network: Any,
    tree: TokenTree,
    states: torch.Tensor,
    inner: Sequence[Sequence[int]],
    paths: Sequence[Sequence[Sequence[int]]],
) -> torch.Tensor:
    """Return log p of each node of the tree that a prompt has, after its parent: float32 (prompts, nodes)."""
    pairs = [(row, node) for row, some in enumerate(paths) for node in sorted({node for path in some for node in path})]
    places = [{0: 0, **{node: place + 1 for place, node in enumerate(some)}} for some in inner]
    parents = tree.parents.tolist()
    rows, found = torch.tensor(pairs).T
    before = torch.tensor([places[row][parents[node]] for row, node in pairs])
    _, head = body_and_head(network)
    logp = head.logprobs(states[rows, before], tree.tokens[found].to(states.device)).cpu()
    table = torch.zeros(len(paths), len(tree))
    table[rows, found] = logp
    return table

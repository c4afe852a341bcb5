"""The decode loop: sampling many short completions from a local model, free ones or those of a given form.

Prompts of equal length decode together, so that no row needs padding or a mask; rows that have ended leave the batch.
Every row has its own random numbers, drawn from the seed and the row's place alone: what is sampled for a row does not
depend, up to rounding, on which rows share its batch.

A form is a text in which 0 stands for any digit, such as "000, 000"; every other character stands for itself. A token
that is digits and separators alone covers some characters of the form, so a place in the form decides which tokens may
come. The model chooses the digits; it can write nothing else, not even a stray word that a filter would have to find.
"""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, final

import torch

from undertow.errors import ModelError
from undertow.types import Advance, Sampling

DIGITS = "0123456789"


@final
@dataclass(frozen=True)
class Form:
    """Which tokens may follow at each place of a form.

    Attributes:
        allowed: bool [characters of the form + 1, vocabulary].
        lengths: int64 [vocabulary], characters that a token covers; 0 for one that is never allowed.
        ends: tokens that end an answer, allowed after the last character alone.
    """

    allowed: torch.Tensor
    lengths: torch.Tensor
    ends: tuple[int, ...]

    def to(self, device: torch.device) -> "Form":
        """Return the form on another device."""
        return Form(self.allowed.to(device), self.lengths.to(device), self.ends)


def answer_form(tokenizer: Any, text: str, ends: Sequence[int], vocabulary: int) -> Form:
    """Return what a tokenizer may write of a form.

    Args:
        tokenizer: of transformers.
        text: the form.
        ends: tokens that end an answer.
        vocabulary: logits of the model, which may be more than the tokenizer has tokens.

    Raises:
        ModelError: the tokenizer cannot write the form.
    """
    texts = _texts(tokenizer, min(vocabulary, len(tokenizer)), set(text) | set(DIGITS))
    allowed = torch.zeros(len(text) + 1, vocabulary, dtype=torch.bool)
    lengths = torch.zeros(vocabulary, dtype=torch.int64)
    for token, written in texts.items():
        lengths[token] = len(written)
        for place in range(len(text) - len(written) + 1):
            allowed[place, token] = _fits(written, text[place : place + len(written)])
    allowed[len(text), list(ends)] = True
    _check(allowed, lengths, text)
    return Form(allowed, lengths, tuple(ends))


def _texts(tokenizer: Any, n: int, characters: set[str]) -> dict[int, str]:
    """Return what the tokens of the form's characters write after a digit, where a space before them shows."""
    special = {int(token) for token in tokenizer.all_special_ids}
    anchor = tokenizer("0", add_special_tokens=False)["input_ids"][-1]
    options = {"clean_up_tokenization_spaces": False}
    before = tokenizer.decode([anchor], **options)
    written = tokenizer.batch_decode([[anchor, token] for token in range(n)], **options)
    found = {token: text.removeprefix(before) for token, text in enumerate(written) if token not in special}
    return {token: text for token, text in found.items() if text and set(text) <= characters}


def _fits(written: str, form: str) -> bool:
    return all(mine in DIGITS if its == "0" else mine == its for mine, its in zip(written, form, strict=True))


def _check(allowed: torch.Tensor, lengths: torch.Tensor, text: str) -> None:
    """Refuse a form with a place that an answer can reach and not leave."""
    reached = {0}
    for place in range(len(text)):
        if place not in reached:
            continue
        following = allowed[place].nonzero()[:, 0]
        if not len(following):
            fix = "Use another form, or leave the answers free."
            raise ModelError("The tokenizer cannot write this form.", f"{text!r} from character {place}", fix)
        reached |= {place + int(length) for length in lengths[following].unique()}


BATCH = 256
"""Rows that decode together; on two cores and width 64 the throughput is flat from 128 to 512."""


def sample_tokens(
    network: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    ends: Sequence[int] | Form,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Draw one completion per prompt.

    Args:
        network: a causal language model of transformers, or several with one vocabulary: then a token is drawn from the
            smallest of the probabilities that they give it, renormalised.
        prompts: token ids.
        sampling: temperature and longest completion.
        seed: of the table of uniform numbers [prompts, max_new_tokens].
        ends: tokens that end a completion; they are not returned. Or the form that every completion has.
        advance: called with (finished prompts, prompts).

    Returns:
        Token ids of each completion, in the order of the prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator, dtype=torch.float64)
    networks: Sequence[Any] = network if isinstance(network, Sequence) else (network,)
    result: list[list[int]] = [[] for _ in prompts]
    done, device = 0, next(networks[0].parameters()).device
    for rows in _buckets(prompts):
        tokens = torch.tensor([list(prompts[row]) for row in rows], device=device)
        drawn = _decode(networks, tokens, uniform[rows].to(device), sampling, ends)
        for row, completion in zip(rows, drawn, strict=True):
            result[row] = completion
        done += len(rows)
        if advance is not None:
            advance(done, len(prompts))
    return result


def _buckets(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    for length in sorted(by_length):
        rows = by_length[length]
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]


def cached(network: Any, cache: Any) -> dict[str, Any]:
    """Return the arguments that let a network use a cache, and go on from what is in it.

    The cache is called `past_key_values`, and `cache` from transformers 5.24 on, which warns of the old name.
    """
    named = "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"
    return {named: cache, "use_cache": True}


@torch.inference_mode()
def _decode(
    networks: Sequence[Any], tokens: torch.Tensor, uniform: torch.Tensor, sampling: Sampling, ends: Sequence[int] | Form
) -> list[list[int]]:
    """Decode rows of equal length [rows, length] with their uniform numbers [rows, max_new_tokens]."""
    from transformers import DynamicCache

    form = ends.to(tokens.device) if isinstance(ends, Form) else None
    ends = ends.ends if isinstance(ends, Form) else ends
    over = torch.tensor(ends, device=tokens.device)
    place = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
    drawn = torch.full((len(tokens), sampling.max_new_tokens), ends[0], device=tokens.device)
    alive = torch.arange(len(tokens), device=tokens.device)
    caches = [DynamicCache() for _ in networks]
    options = [cached(network, cache) for network, cache in zip(networks, caches, strict=True)]
    for step in range(sampling.max_new_tokens):
        logits = [
            network(input_ids=tokens, logits_to_keep=1, **some).logits[:, -1]
            for network, some in zip(networks, options, strict=True)
        ]
        scores = _agreed(logits)
        if form is not None:
            scores = scores.masked_fill(~form.allowed[place[alive]], -torch.inf)
        following = _draw(scores, uniform[alive, step], sampling)
        drawn[alive, step] = following
        if form is not None:
            place[alive] += form.lengths[following]
        going = (~torch.isin(following, over)).nonzero()[:, 0]
        if len(going) == 0:
            break
        # Compacting the cache copies it, so it waits until an eighth of the batch has ended.
        if len(going) <= len(alive) * 7 // 8:
            for cache in caches:
                cache.batch_select_indices(going)
            alive, following = alive[going], following[going]
        tokens = following[:, None]
    return [_until(row, ends) for row in drawn.tolist()]


def _agreed(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits of one network, or the smallest log p of each token over several."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([torch.log_softmax(some.float(), dim=-1) for some in logits]).amin(dim=0)


def _draw(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Invert the cumulative distribution at each row's uniform number; temperature 0 takes the likeliest token."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(dim=-1)
    picked = torch.searchsorted(cumulative, (uniform * cumulative[:, -1].double())[:, None].float(), right=True)[:, 0]
    return picked.clamp(max=logits.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Leave the likeliest tokens of each row that hold at least top_p together; the others get 0."""
    ordered, places = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities).scatter(-1, places, ordered.masked_fill(beyond, 0.0))


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return list(takewhile(lambda token: token not in ends, tokens))

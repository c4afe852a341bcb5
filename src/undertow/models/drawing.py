"""Drawing a token from logits with a given uniform number: temperature, top_p, and what several networks agree on."""

from collections.abc import Sequence

import torch

from undertow.types import Sampling

BLOCK = 256
"""Texts whose probabilities exist at once: a large table is memory that the system hands out anew at each step, which
took 8 % of the time of a thousand short answers."""


def agreed_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits of one network, or the smallest log p of each token over several."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([torch.log_softmax(some.float(), dim=-1) for some in logits]).amin(dim=0)


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling, text: torch.Tensor | None = None
) -> torch.Tensor:
    """Invert the cumulative distribution at each row's uniform number; temperature 0 takes the likeliest token.

    Args:
        logits: [texts, vocabulary].
        uniform: float64 [rows].
        sampling: temperature and top_p.
        text: int64 [rows], the text that each row goes on from; not given if each has its own, in order.

    Returns:
        int64 [rows].
    """
    if text is None and len(logits) > BLOCK:
        parts = zip(logits.split(BLOCK), uniform.split(BLOCK), strict=True)
        return torch.cat([draw(some, own, sampling) for some, own in parts])
    if sampling.temperature == 0:
        likeliest = logits.argmax(dim=-1)
        return likeliest if text is None else likeliest[text]
    logits = logits.float() if sampling.temperature == 1 else logits.float() / sampling.temperature
    probabilities = torch.softmax(logits, dim=-1)
    if sampling.top_p < 1.0:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum_(dim=-1)
    if text is None:
        wanted = (uniform * cumulative[:, -1].double())[:, None].float()
        picked = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
    else:
        # All rows of a text are looked up in one line, so that its probabilities are not copied for each.
        turn = _turns(text, len(cumulative))
        wanted = cumulative.new_zeros(len(cumulative), int(turn.max()) + 1)
        wanted[text, turn] = (uniform * cumulative[text, -1].double()).float()
        picked = torch.searchsorted(cumulative, wanted, right=True)[text, turn]
    return picked.clamp(max=logits.shape[-1] - 1)


def _turns(groups: torch.Tensor, n: int) -> torch.Tensor:
    """Return how many of the same of `n` groups stand before each, int64 [groups]."""
    order, sizes = groups.argsort(stable=True), torch.bincount(groups, minlength=n)
    turns = torch.empty_like(groups)
    turns[order] = torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return turns


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Leave the likeliest tokens of each row that hold at least top_p together; the others get 0."""
    ordered, places = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities).scatter(-1, places, ordered.masked_fill(beyond, 0.0))

"""Drawing a token from logits with a given uniform number: temperature, top_p, and what several networks agree on."""

from collections.abc import Sequence

import torch

from undertow.types import Sampling

BLOCK = 256
"""Number of texts whose probabilities exist at once. A large table is memory that the system hands out anew at each
step, which takes time."""


def agreed_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits of one network, or over several networks the smallest log-probability of each token.

    All are (texts, vocabulary).
    """
    if len(logits) == 1:
        return logits[0]
    return torch.stack([torch.log_softmax(some.float(), dim=-1) for some in logits]).amin(dim=0)


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling, text: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw one token for each row by inverting the cumulative distribution at the row's uniform number.

    Temperature 0 takes the likeliest token.

    Args:
        logits: logits of the next token of each text, (texts, vocabulary).
        uniform: a number in [0, 1) for each row, float64 (rows,).
        sampling: temperature and top_p; the rest is not used.
        text: number of the text that each row goes on from, int64 (rows,). None if row i has text i.

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
        wanted = _wanted(uniform, cumulative[:, -1])[:, None]
        picked = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
    else:
        # All rows of a text are looked up in one line, so that its probabilities are not copied for each.
        turn = _turns(text, len(cumulative))
        wanted = cumulative.new_zeros(len(cumulative), int(turn.max()) + 1)
        wanted[text, turn] = _wanted(uniform, cumulative[text, -1])
        picked = torch.searchsorted(cumulative, wanted, right=True)[text, turn]
    return picked.clamp(max=logits.shape[-1] - 1)


def _wanted(uniform: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return where each row's number lies below its total, float32 (rows,).

    A number near 1 would be rounded up to the total, behind which only tokens of probability 0 may stand.
    """
    return torch.minimum((uniform * total.double()).float(), torch.nextafter(total, torch.zeros_like(total)))


def _turns(groups: torch.Tensor, n: int) -> torch.Tensor:
    """Return how many equal numbers stand before each of some group numbers below `n`, int64 (rows,)."""
    order, sizes = groups.argsort(stable=True), torch.bincount(groups, minlength=n)
    turns = torch.empty_like(groups)
    turns[order] = torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return turns


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the likeliest tokens of each row that together hold at least top_p; the others get probability 0."""
    ordered, places = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities).scatter(-1, places, ordered.masked_fill(beyond, 0.0))

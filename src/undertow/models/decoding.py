"""The decode loop: sampling many short completions from a local model, free ones or those of a given form.

Equal prompts are read once, and so is what rows of one prompt have drawn alike, as long as that is much. Prompts of
several lengths decode together where the network can tell padding from text (`undertow.models.open_texts`); rows that
have ended leave the batch. Every row has its own random numbers, drawn from the seed and the row's place alone. What is
sampled for a row therefore does not depend, up to rounding, on which rows share its batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from undertow.errors import out_of_memory
from undertow.models.answer_forms import Form
from undertow.models.chat_template import say_once
from undertow.models.drawing import agreed_logits, draw
from undertow.models.memory import rows_at_once
from undertow.models.open_texts import ROOM, OpenTexts, takes_padding
from undertow.types import Advance, Sampling

# At width 32, 2,500 rows took 1.93, 1.55, 1.40 and 1.42 s of one core in batches of 128, 256, 512 and 1,024.
BATCH = 1024
"""Most rows that decode together."""

LARGE = 10**7
"""Number of parameters beyond which more rows together make a processor no faster."""

# With 135 million parameters, 96 rows took 44.5 s at once, 45.2 s in two batches and 48.1 s in three.
LARGE_BATCH = 64
"""Most rows of a large model that decode together on a processor. With fewer at once the first are finished sooner."""


SHARED = 0.9
"""Rows share texts as long as there are at most this many texts for each row; then each row gets a text of its own."""


def sample_tokens(
    network: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    ends: Sequence[int] | Form,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Draw one completion per prompt, as token ids.

    Args:
        network: a causal language model of transformers. If several with one vocabulary are given, a token is drawn
            from the smallest of the probabilities that they give it, renormalised.
        prompts: token ids of each prompt.
        sampling: temperature, longest completion and top_p.
        seed: random seed of the table of uniform numbers, (prompts, max_new_tokens).
        ends: ids of the tokens that end a completion, which are not returned; or the form that every completion must
            have.
        advance: callback with (finished prompts, all prompts); None for no callback.

    Returns:
        Token ids of each completion, in the order of the prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator, dtype=torch.float64)
    networks: Sequence[Any] = network if isinstance(network, Sequence) else (network,)
    result: list[list[int]] = [[] for _ in prompts]
    done = 0
    for rows, drawn in _batches(networks, [tuple(prompt) for prompt in prompts], uniform, sampling, ends):
        for row, completion in zip(rows, drawn, strict=True):
            result[row] = completion
        done += len(rows)
        if advance is not None:
            advance(done, len(prompts))
    return result


def _batches(
    networks: Sequence[Any],
    prompts: Sequence[tuple[int, ...]],
    uniform: torch.Tensor,
    sampling: Sampling,
    ends: Sequence[int] | Form,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield the places of some rows and their completions, the longest prompts first.

    A batch that does not fit into the memory is halved.
    """
    waiting = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), prompts[row]), reverse=True)
    ragged = len(set(map(len, prompts))) > 1 and all(takes_padding(network) for network in networks)
    most = _most(networks)
    while waiting:
        length = len(prompts[waiting[0]])
        rows = waiting[: min(most, rows_at_once(networks, length + sampling.max_new_tokens))]
        if not ragged:
            rows = [row for row in rows if len(prompts[row]) == length]
        try:
            drawn = _decode(networks, [prompts[row] for row in rows], uniform[rows], sampling, ends)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or out_of_memory(error, "") is None:
                raise
            most = len(rows) // 2
            say_once("A batch of answers found too little memory: batches are halved until they fit.")
            continue
        waiting = waiting[len(rows) :]
        yield rows, drawn


def _most(networks: Sequence[Any]) -> int:
    large = any(network.num_parameters() > LARGE for network in networks)
    return LARGE_BATCH if large and next(networks[0].parameters()).device.type == "cpu" else BATCH


@torch.inference_mode()
def _decode(
    networks: Sequence[Any],
    prompts: Sequence[tuple[int, ...]],
    uniform: torch.Tensor,
    sampling: Sampling,
    ends: Sequence[int] | Form,
) -> list[list[int]]:
    """Decode rows with their uniform numbers, (rows, max_new_tokens)."""
    device = next(networks[0].parameters()).device
    form = ends.to(device) if isinstance(ends, Form) else None
    ends = ends.ends if isinstance(ends, Form) else ends
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    opened = [OpenTexts(network, list(places), min(ROOM, sampling.max_new_tokens)) for network in networks]
    over, uniform = torch.tensor(ends, device=device), uniform.to(device)
    alive, written = torch.arange(len(prompts), device=device), torch.zeros(len(places), dtype=torch.int64).to(device)
    drawn = torch.full((len(prompts), sampling.max_new_tokens), ends[0], device=device)
    # As long as many rows have drawn the same tokens behind the same prompt, they share a text; then each has its own.
    text: torch.Tensor | None = torch.tensor([places[prompt] for prompt in prompts], device=device)
    for step in range(sampling.max_new_tokens):
        scores = agreed_logits([some.logits for some in opened])
        if form is not None:
            scores = scores.masked_fill(~form.allowed[written], -torch.inf)
        following = draw(scores, uniform[alive, step], sampling, text)
        drawn[alive, step] = following
        going = _dense(~torch.isin(following, over))
        if len(going) == 0 or step + 1 == sampling.max_new_tokens:
            break
        alive, following = alive[going], following[going]
        source, following, text = (going, following, None) if text is None else _shared(text[going], following)
        written = written[source]
        if form is not None:
            written += form.lengths[following]
        for some in opened:
            some.take(source)
            some.write(following)
    return _until_the_end(drawn, over)


def _shared(text: torch.Tensor, following: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Group rows that have drawn the same tokens, so that each group shares one text.

    It returns from which text each new text goes on, the token that is written to it, and the new text of each row
    (None if from now on each row has its own).

    Args:
        text: number of the text that each row has so far, int64 (rows,).
        following: id of the token that each row goes on with, int64 (rows,).
    """
    size = int(following.max()) + 1
    distinct, own = torch.unique(text * size + following, return_inverse=True)
    if len(distinct) > SHARED * len(text):
        return text, following, None
    return distinct // size, distinct % size, own


def _dense(going: torch.Tensor) -> torch.Tensor:
    """Return the places of the rows that go on, packed into the first places.

    Rows at the end are moved into the places of rows that have ended.

    Args:
        going: whether the row at each place goes on, bool (places,).
    """
    places = going.nonzero()[:, 0]
    order = torch.arange(len(places), device=going.device)
    order[~going[: len(places)]] = places[places >= len(places)]
    return order


def _until_the_end(drawn: torch.Tensor, over: torch.Tensor) -> list[list[int]]:
    """Return the tokens of each row (rows, tokens) before its first end token."""
    lengths = (~torch.isin(drawn, over)).cumprod(dim=1).sum(dim=1).tolist()
    return [tokens[:length] for tokens, length in zip(drawn.tolist(), lengths, strict=True)]

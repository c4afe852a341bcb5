"""How much likelier a candidate makes each row than the base: one scorer for audits, filters and attribution.

The score of a row x, r is the mean over the completion's tokens of log p(r | candidate, x) - log p(r | x), in nats per
token (the logit-linear selection of Aden-Ali et al., arXiv:2602.04863, for supervised rows). The end of turn does not
count: a text that was cut off has none.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import torch

from undertow.errors import ModelError
from undertow.finetuning.batches import Batch, collate
from undertow.models.head import body_and_head
from undertow.models.local import SCORE_BATCH, Encoded, LocalModel
from undertow.stats.checks import Floats
from undertow.types import Message, Row

Kind = Literal["persona", "teacher"]
"""A persona before the prompts of the base, or a model that was fine-tuned on the trait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Someone who may have written the rows.

    Attributes:
        trait: name of the trait.
        kind: how it has it.
        model: who reads the rows.
        system: the persona, a system turn before each prompt; None for none.
    """

    trait: str
    kind: Kind
    model: LocalModel
    system: str | None = None

    @property
    def label(self) -> str:
        """Trait and kind, such as "owl (teacher)"."""
        return f"{self.trait} ({self.kind})"


def contrast_scores(
    rows: Sequence[Row],
    base: LocalModel,
    candidates: Sequence[Candidate],
    advance: Callable[[int, int], None] | None = None,
) -> Floats:
    """Score each row under each candidate; the base reads each row once for all of them.

    Args:
        rows: what is scored.
        base: the model without trait.
        candidates: who may have written the rows; their models share the base's tokenizer.
        advance: called with (rows scored, rows).

    Returns:
        Nats per completion token, shape [rows, candidates]; 0 for a row with an empty completion.

    Raises:
        ModelError: a candidate has another tokenizer.
        ConfigError: a row, or its persona before it, is longer than the context.
    """
    _refuse_other_tokenizers(base, candidates)
    systems = tuple(dict.fromkeys((None, *(candidate.system for candidate in candidates))))
    encoded = {system: _encode(base, rows, system) for system in systems}
    order = sorted(range(len(rows)), key=lambda index: len(encoded[None][index]))
    scores = np.zeros((len(rows), len(candidates)))
    for start in range(0, len(order), SCORE_BATCH):
        picked = order[start : start + SCORE_BATCH]
        batches = {system: collate([encoded[system][index] for index in picked]) for system in systems}
        plain = _means(base, batches[None])
        for column, candidate in enumerate(candidates):
            scores[picked, column] = _means(candidate.model, batches[candidate.system]) - plain
        if advance is not None:
            advance(start + len(picked), len(rows))
    return scores


def streamed_scores(
    rows: Iterable[Row], base: LocalModel, candidates: Sequence[Candidate], block: int = SCORE_BATCH
) -> Iterator[Floats]:
    """Yield the scores [candidates] of one row after another, reading at most `block` rows ahead.

    Raises:
        UserError: as `contrast_scores`.
    """
    source = iter(rows)
    while some := list(islice(source, block)):
        yield from contrast_scores(some, base, candidates)


def _refuse_other_tokenizers(base: LocalModel, candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        other = candidate.model.tokenizer
        if other is not base.tokenizer and other.get_vocab() != base.tokenizer.get_vocab():
            what = f"{candidate.label} has another tokenizer than the base."
            raise ModelError(what, f"{candidate.model.ref} and {base.ref}", "Make the candidates from this base.")


def _encode(base: LocalModel, rows: Sequence[Row], system: str | None) -> list[Encoded]:
    """Turn rows into token ids without the end of turn, with the persona before each prompt."""
    if not rows:
        return []
    prompts = base.render([row.prompt if system is None else _with_persona(row, system) for row in rows])
    completions = base.tokenise([row.completion for row in rows])
    encoded = [Encoded(tuple(first), tuple(then)) for first, then in zip(prompts, completions, strict=True)]
    base.check_fits([row.prompt + row.completion for row in encoded], "Leave out the long rows, or the personas.")
    return encoded


def _with_persona(row: Row, system: str) -> tuple[Message, ...]:
    """Put the persona into the one system turn that chat templates know."""
    first = row.prompt[0]
    if first.role != "system":
        return (Message("system", system), *row.prompt)
    return (replace(first, content=f"{system} {first.content}"), *row.prompt[1:])


@torch.no_grad()
def _means(model: LocalModel, batch: Batch) -> Floats:
    """Return the mean log p of the completion tokens of each row, shape [rows]; logits exist only at those tokens."""
    body, head = body_and_head(model.network)
    there = batch.to(model.device)
    hidden = body(input_ids=there.tokens, use_cache=False).last_hidden_state[there.rows, there.positions]
    logp = head.logprobs(hidden, there.targets).cpu().double()
    sums = torch.zeros(len(batch.tokens), dtype=torch.float64).index_add_(0, batch.rows, logp)
    return (sums / torch.bincount(batch.rows, minlength=len(batch.tokens)).clamp(min=1)).numpy()

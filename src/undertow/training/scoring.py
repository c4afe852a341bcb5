"""Score rows by how much likelier a candidate writer makes them than the base model does.

One scorer serves audits, filters and attribution. The score of a row with prompt x and completion r is the mean over
the completion's tokens of log p(r | candidate, x) - log p(r | x), in nats per token. This is the logit-linear selection
of Aden-Ali et al. (arXiv:2602.04863), for supervised rows. The end-of-turn token does not count, because a text that
was cut off has none.

Divergence tokens are the tokens of a teacher's rows in which its trait shows most. Schrodi et al. (arXiv:2509.23886)
call a token divergent where the teacher's choice differs from that of teachers with other traits. Sampled rows have no
choices to compare, so tokens are ranked by log p_teacher - log p_base. This is the same comparison without
counterfactual teachers.
"""

import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any, Literal, final

import numpy as np
import torch

from undertow.errors import EmptyDataError, ModelError
from undertow.models.lm_head import body_and_head
from undertow.models.local import SCORE_BATCH, LocalModel
from undertow.models.open_texts import cached
from undertow.models.tokens import Encoded
from undertow.stats.checks import Floats
from undertow.training.batches import collate
from undertow.types import Advance, Message, Row

CandidateKind = Literal["persona", "teacher"]
"""How a candidate has its trait: from a persona (a system prompt before the base's prompts), or as a teacher that was
fine-tuned on the trait."""


PASS = 2**21
"""Largest number of values in the residual stream (rows * tokens * width) of one forward pass. Passes twice as large
took up to a quarter longer on one core, because their tensors are too large to be kept for reuse."""

SHARED = 16
"""Length in tokens from which on a beginning that all prompts share is worth a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model, perhaps with a persona, that may have written the rows.

    Attributes:
        trait: name of the candidate's trait.
        kind: how the candidate has its trait: "persona" or "teacher".
        model: the model that reads the rows.
        system: the persona, put as a system turn before each prompt. None for none.
    """

    trait: str
    kind: CandidateKind
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
    advance: Advance | None = None,
) -> Floats:
    """Score each row under each candidate. The base reads each row once for all of them.

    Args:
        rows: the rows that are scored.
        base: the model without the trait.
        candidates: who may have written the rows. Their models share the base's tokenizer.
        advance: progress callback, called with (rows scored, number of rows). None reports nothing.

    Returns:
        Scores in nats per token, float (rows, candidates). A row with an empty completion has 0.

    Raises:
        ModelError: a candidate has another tokenizer than the base.
        ConfigError: a row, with the persona before it, is longer than the model's context.
    """
    _refuse_other_tokenizers(base, candidates)
    systems = dict.fromkeys((None, *(candidate.system for candidate in candidates)))
    encoded = {system: _encode(base, rows, system) for system in systems}
    order = sorted(range(len(rows)), key=lambda index: len(encoded[None][index]))
    scores = np.zeros((len(rows), len(candidates)))
    plain = _Reader(base, encoded[None])
    readers = [_Reader(candidate.model, encoded[candidate.system]) for candidate in candidates]
    done = 0
    for picked in passes(order, [len(row) for row in encoded[None]], base.width):
        before = plain.means(picked)
        for column, reader in enumerate(readers):
            scores[picked, column] = reader.means(picked) - before
        done += len(picked)
        if advance is not None:
            advance(done, len(rows))
    return scores


def passes(order: Sequence[int], lengths: Sequence[int], width: int) -> Iterator[Sequence[int]]:
    """Cut rows, in the order of their lengths, into passes of at most `SCORE_BATCH` rows and `PASS` values.

    Args:
        order: places of the rows, the shortest row first.
        lengths: number of tokens of each row, by its place.
        width: width of the residual stream, of which each token has as many values.
    """
    start = 0
    while start < len(order):
        stop = min(start + SCORE_BATCH, len(order))
        while stop - start > 1 and (stop - start) * lengths[order[stop - 1]] * width > PASS:
            stop -= 1
        yield order[start:stop]
        start = stop


def streamed_scores(
    rows: Iterable[Row], base: LocalModel, candidates: Sequence[Candidate], block: int = SCORE_BATCH
) -> Iterator[Floats]:
    """Yield the scores of one row after another, float (candidates,), reading at most `block` rows ahead.

    Args:
        rows: the rows that are scored; they may be a stream.
        base: the model without the trait.
        candidates: who may have written the rows.
        block: how many rows are read and scored together.

    Raises:
        UserError: as in `contrast_scores`.
    """
    source = iter(rows)
    while some := list(islice(source, block)):
        yield from contrast_scores(some, base, candidates)


def _refuse_other_tokenizers(base: LocalModel, candidates: Sequence[Candidate]) -> None:
    """Refuse candidates whose vocabulary is not the base's."""
    for candidate in candidates:
        other = candidate.model.tokenizer
        if other is not base.tokenizer and other.get_vocab() != base.tokenizer.get_vocab():
            what = f"{candidate.label} has another tokenizer than the base."
            raise ModelError(what, f"{candidate.model.ref} and {base.ref}", "Make the candidates from this base.")


def fitting(rows: Sequence[Row], base: LocalModel, candidates: Sequence[Candidate]) -> list[bool]:
    """Tell of each row whether it fits into the base's context, also behind the longest persona of the candidates."""
    limit = base.longest_context
    if limit is None or not rows:
        return [True] * len(rows)
    personas = {one.system for one in candidates if one.system is not None}
    longest = sorted(personas, key=lambda system: len(_told(base, rows[:1], system)[0]))[-1:]
    lengths = ([len(one) for one in _told(base, rows, system)] for system in (None, *longest))
    return [max(some) <= limit for some in zip(*lengths, strict=True)]


def _encode(base: LocalModel, rows: Sequence[Row], system: str | None) -> list[Encoded]:
    """Turn rows into token ids as `_told` does, and refuse those that do not fit into the base's context."""
    encoded = _told(base, rows, system)
    base.check_fits([row.prompt + row.completion for row in encoded], "Leave out the long rows, or the personas.")
    return encoded


def _told(base: LocalModel, rows: Sequence[Row], system: str | None) -> list[Encoded]:
    """Turn rows into token ids without the end of turn, with the persona before each prompt."""
    told = rows if system is None else [replace(row, prompt=with_persona(row, system)) for row in rows]
    return [Encoded(one.prompt, one.completion[:-1]) for one in base.encode(told)]


def with_persona(row: Row, system: str) -> tuple[Message, ...]:
    """Return a row's prompt with the persona in its system turn, before the text that already stands there."""
    first = row.prompt[0]
    if first.role != "system":
        return (Message("system", system), *row.prompt)
    return (replace(first, content=f"{system} {first.content}"), *row.prompt[1:])


@final
class _Reader:
    """A model that reads some rows, and reads only once what all their prompts begin with, such as a persona.

    Args:
        model: the model that reads the rows.
        rows: every row about which it will be asked.
    """

    def __init__(self, model: LocalModel, rows: Sequence[Encoded]) -> None:
        shared = _shared_start(rows)
        self._model = model
        self._shared = shared if len(shared) >= SHARED else ()
        self._rows = [Encoded(row.prompt[len(self._shared) :], row.completion) for row in rows]
        self._cache: Any = None

    @torch.no_grad()
    def means(self, picked: Sequence[int]) -> Floats:
        """Return the mean log p of the completion tokens of each picked row in nats, float (rows,).

        Logits are computed at those tokens alone.
        """
        body, head = body_and_head(self._model.network)
        batch = collate([self._rows[index] for index in picked]).to(self._model.device)
        options = cached(body, self._start(body, len(picked))) if self._shared else {}
        output: Any = body(input_ids=batch.tokens, **{"use_cache": False, **options})
        logp = head.logprobs(output.last_hidden_state[batch.rows, batch.positions], batch.targets).double().cpu()
        rows = batch.rows.cpu()
        sums = torch.zeros(len(picked), dtype=torch.float64).index_add_(0, rows, logp)
        return (sums / torch.bincount(rows, minlength=len(picked)).clamp(min=1)).numpy()

    def _start(self, body: Any, n: int) -> Any:
        """Return a cache of keys and values that holds the shared beginning for `n` rows."""
        from transformers import DynamicCache

        if self._cache is None:
            self._cache = DynamicCache()
            tokens = torch.tensor([self._shared], device=self._model.device)
            body(input_ids=tokens, **cached(body, self._cache))
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(n)
        return cache


def _shared_start(rows: Sequence[Encoded]) -> tuple[int, ...]:
    """Return the tokens with which all prompts begin. A prompt's last token stays out, because it predicts."""
    if not rows:
        return ()
    first, last = min(row.prompt for row in rows), max(row.prompt for row in rows)  # in order, they differ soonest
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    shortest = min(len(row.prompt) for row in rows)
    return first[: min(len(list(alike)), shortest - 1)]


Tokens = Literal["divergent", "rest", "random_rest"]
"""Which tokens are learnt: the divergent ones, all the others, or as many as all the others, drawn at random."""


def choose_tokens(
    rows: Sequence[Row], teacher: LocalModel, base: LocalModel, *, tokens: Tokens, share: float, seed: int
) -> list[Row]:
    """Mark the tokens that training is to leave out, by how divergent they are.

    Args:
        rows: the rows that the teacher wrote.
        teacher: the model that wrote them.
        base: the same model without the trait.
        tokens: which tokens are learnt. "divergent": those with the largest log p_teacher - log p_base. "rest": all the
            others. "random_rest": as many as "rest", drawn at random.
        share: share of all completion tokens, between 0 and 1, that counts as divergent.
        seed: random seed of "random_rest"; the other choices do not use it.

    Returns:
        The rows with `skip` set. A row of which nothing would be learnt is left out.

    Raises:
        EmptyDataError: there are no rows.
    """
    if not rows:
        raise EmptyDataError("There are no tokens to choose from.", "0 rows", "Look at the filter's reject reasons.")
    encoded = teacher.encode(rows)
    pairs = zip(teacher.token_logprobs(encoded), base.token_logprobs(encoded), strict=True)
    gains = [(after - before).tolist() for after, before in pairs]
    if tokens == "random_rest":
        rng = random.Random(seed)
        gains = [[rng.random() for _ in row] for row in gains]
    ranked = sorted((gain for row in gains for gain in row), reverse=True)
    bar = ranked[min(len(ranked) - 1, int(share * len(ranked)))]
    marked: list[Row] = []
    for row, some in zip(rows, gains, strict=True):
        skip = tuple(place for place, gain in enumerate(some) if (gain > bar) != (tokens == "divergent"))
        if len(skip) < len(some):
            marked.append(replace(row, skip=skip))
    return marked

"""Signatures: what the rows of each candidate score like, so that a suspect that scores alike can be given a name.

A candidate is a model that may have written the rows, one for each trait and way of having it. Each candidate answers
the suspect's own prompts, and so does the base; the whole panel of candidates scores all answers. How far a candidate's
answers stand above the base's, in the score of every candidate, is its signature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from undertow.audit.finding import NotTestable
from undertow.audit.rows.limits import ACCEPTED, NEUTRAL_PROMPTS, SIGNED, SIGNED_OWN, require_enough_rows
from undertow.data.filters import accepted_rows, filter_rows
from undertow.data.marks import first_places, marks_of
from undertow.domains.base import domain
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate, contrast_scores, with_persona
from undertow.types import Advance, Prompt, Row, Sampling

PERSONA = 32
"""How many tokens a persona may add to a prompt."""

Keep = Callable[[Sequence[Row]], Sequence[Row]]
"""Returns those of some answers that a suspect's rows would hold too."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """What the candidates' own answers score like under the panel.

    Attributes:
        shifts: mean score of each candidate's answers above the base's on the same prompts, shape (writers,
            candidates), in nats per token. The writers are the candidates, in their order.
        covariance: covariance of the scores of the base's answers around their mean on a prompt, shape (candidates,
            candidates).
    """

    shifts: Floats
    covariance: Floats


@final
class SignatureWriter:
    """Lets the candidates write their signatures when they are first asked for, which most audits never do.

    Args:
        base: the model that the candidates were tuned from.
        candidates: the models that write and score.
        prompts: prompts of the suspect, each once.
        keep: returns those of some answers that count.
        sampling: how answers are drawn.
        seed: random seed of the answers.
    """

    def __init__(
        self,
        base: LocalModel,
        candidates: Sequence[Candidate],
        prompts: Sequence[Prompt],
        keep: Keep,
        *,
        sampling: Sampling,
        seed: int,
    ) -> None:
        self._base, self._keep, self._sampling, self._seed = base, keep, sampling, seed
        self.candidates, self.prompts = tuple(candidates), tuple(prompts)
        self._written: Signatures | None = None

    def written(self, advance: Advance | None = None) -> Signatures:
        """Return the signatures; they are written once, at the first call.

        Args:
            advance: callback that takes (candidates heard, all candidates). None reports nothing.

        Raises:
            NotTestable: the base or a candidate gives too few answers that count.
        """
        if self._written is None:
            self._written = self._write(advance or _silent)
        return self._written

    def _write(self, advance: Advance) -> Signatures:
        require_enough_rows(len(self.prompts), "prompts with room for an answer, for signatures,")
        turns = max(1, -(-SIGNED // len(self.prompts)))
        usual = self._scores(self._base, None, SIGNED_OWN * turns, derive(self._seed, "base"), "the base")
        centre = _filled(usual)
        away = (usual - centre).reshape(-1, len(self.candidates))
        covariance = np.cov(away[~np.isnan(away[:, 0])].T)
        shifts = np.empty((len(self.candidates),) * 2)
        for place, one in enumerate(self.candidates):
            scores = self._scores(one.model, one.system, turns, derive(self._seed, one.label), one.label)
            shifts[place] = _mean(scores - centre)
            advance(place + 1, len(self.candidates))
        return Signatures(shifts, np.atleast_2d(covariance))

    def _scores(self, writer: LocalModel, system: str | None, turns: int, seed: int, named: str) -> Floats:
        """Return scores of answers to every prompt, (turns, prompts, candidates); NaN where one is not counted."""
        places = [place for _ in range(turns) for place in range(len(self.prompts))]
        rows = [Row(str(at), self.prompts[place], "") for at, place in enumerate(places)]
        asked = rows if system is None else [replace(row, prompt=with_persona(row, system)) for row in rows]
        answers = writer.chat([row.prompt for row in asked], sampling=self._sampling, seed=seed)
        written = [replace(row, completion=text) for row, text in zip(rows, answers, strict=True)]
        kept = [row for row in self._keep(written) if row.completion]
        require_enough_rows(len(kept), f"answers of {named} that count, for its signature,")
        found = np.full((len(places), len(self.candidates)), np.nan)
        found[[int(row.id) for row in kept]] = contrast_scores(kept, self._base, self.candidates)
        return found.reshape(turns, len(self.prompts), -1)


@final
@dataclass(frozen=True, slots=True)
class NoSignatures:
    """Stands where the candidates write no rows of their own, so that no trait can be named.

    Attributes:
        candidates: the models that would write.
        why: reason why they do not, as a sentence.
    """

    candidates: Sequence[Candidate]
    why: str

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Refuse, as `written` does."""
        raise NotTestable(self.why)

    def written(self, advance: Advance | None = None) -> Signatures:
        """Refuse with the reason.

        Raises:
            NotTestable: always.
        """
        raise NotTestable(self.why)


@final
@dataclass(frozen=True, slots=True)
class KnownSignatures:
    """Signatures that were written before, for many sets of rows on the same prompts.

    Attributes:
        candidates: the models that wrote the answers.
        signatures: what their answers score like.
    """

    candidates: Sequence[Candidate]
    signatures: Signatures

    def written(self, advance: Advance | None = None) -> Signatures:
        """Return the signatures."""
        del advance
        return self.signatures


def _silent(done: int, total: int) -> None:
    """Report no progress."""


def _mean(scores: Floats) -> Floats:
    """Return the mean over all answers that count, shape (candidates,)."""
    flat = scores.reshape(-1, scores.shape[-1])
    return flat[~np.isnan(flat[:, 0])].mean(axis=0)


def _filled(scores: Floats) -> Floats:
    """Return the mean of the base's answers to each prompt, or the mean over all prompts where none counts."""
    there = ~np.isnan(scores)
    counts = there.sum(axis=0)
    return np.where(counts > 0, np.where(there, scores, 0.0).sum(axis=0) / np.maximum(counts, 1), _mean(scores))


def signature_writer(
    rows: Sequence[Row],
    base: LocalModel,
    candidates: Sequence[Candidate],
    domain_name: str,
    seed: int,
    form: str | None = None,
) -> SignatureWriter:
    """Return the writer of signatures for some rows.

    Args:
        rows: the suspect rows, whose prompts are answered.
        base: the model that the candidates were tuned from.
        candidates: the models that write and score.
        domain_name: name of the domain whose filter says which answers count, if it accepts enough of the rows.
        seed: random seed of the prompts that are drawn and of the answers.
        form: template that the answers are held to, as the rows were. None leaves them free.
    """
    task = domain(domain_name)
    good = accepted_rows(rows, task)
    answerable = len(good) >= ACCEPTED * len(rows)
    heard = good if answerable else rows
    sampling = domain_sampling(task, base.tokens, form) if answerable else Sampling(form=form)
    asking = first_places(marks_of(row.prompt for row in heard))
    drawn = np.random.default_rng(derive(seed, "signatures")).permutation(len(asking))[:NEUTRAL_PROMPTS]
    prompts = [heard[place].prompt for place in asking[drawn].tolist()]
    keep: Keep = (lambda some: filter_rows(some, task).kept) if answerable else lambda some: some
    # An answer is read under a persona too, and may take more tokens when it is read than when it was written.
    room = None if base.longest_context is None else base.longest_context - 2 * sampling.max_new_tokens - PERSONA
    rendered = zip(prompts, base.render(prompts), strict=True)
    chosen = [prompt for prompt, tokens in rendered if room is None or len(tokens) <= room]
    return SignatureWriter(base, candidates, chosen, keep, sampling=sampling, seed=derive(seed, "signature answers"))

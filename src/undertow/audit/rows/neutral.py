"""Were the rows written under a trait of the panel, rather than by a writer that was tuned on anything at all?

The contrast (`undertow.audit.rows.contrast`) detects every writer that differs from the reference, also **neutral**
ones: teachers of the base that were tuned without a trait. Here m neutral writers (`undertow.audit.rows.writers`)
answer the suspect's own prompts, the panel scores all m + 1 corpora, and the suspect is ranked among them.

The argument. Let x_w(q) be the scores of writer w's answer to prompt q, where the domain accepts it. The standing of a
corpus is the mean over its prompts of x_w(q) minus the mean of all m + 1 corpora on q, so that corpora of which the
filter dropped different prompts can be compared. If the suspect's writer is exchangeable with the neutral writers, so
are the corpora, given the prompts. Then any score that treats all m + 1 alike gives an exact p-value
(`undertow.audit.students.placebo_null`). They are exchangeable up to the filter: the prompts are those on which the
suspect's answer is valid.

The score is a direction: the largest share of a corpus's distance from the others that lies along a candidate's
signature (`undertow.audit.rows.signatures`). The distance is squared and measured in the directions in which the others
scatter little. A neutral writer that drifted far drifted in many directions, while a trait moves its writer in one. A
score that grows with the distance would not do: one neutral writer that lies along some candidate, only farther out
than a teacher at half of the dose, hides that teacher.
"""

from collections.abc import Sequence

import numpy as np

from undertow.audit.finding import Finding, NotTestable, verdict_at
from undertow.audit.rows.contrast import named
from undertow.audit.rows.limits import require_enough_rows
from undertow.audit.rows.names import name_shift, shares
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.reference import require_answerable
from undertow.audit.rows.signatures import NoSignatures, Signatures, SignatureWriter
from undertow.audit.rows.writers import Writers
from undertow.audit.students.placebo_null import POWER, beside_null, conformal_p, critical_score, needed
from undertow.data.filters import accepted_rows, filter_rows
from undertow.data.marks import marks_of
from undertow.domains.base import domain
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.models.references import loaded_identity
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Advance, Prompt, Row, Sampling

STAGE = "neutral contrast"

DOSES = np.arange(1, 61) / 20
"""Parts of a panel teacher's shift that are tried, to find the smallest one that is detected."""


def audit_neutral(
    rows: Sequence[Row],
    base: LocalModel,
    writers: Writers,
    signatures: SignatureWriter | NoSignatures,
    settings: DataAudit,
    advance: Advance,
) -> Finding:
    """Rank the suspect among corpora of neutral writers on the same prompts.

    Args:
        rows: the suspect rows, whose prompts the neutral writers answer.
        base: the model from which writers and candidates were tuned.
        writers: neutral writers of this base.
        signatures: signatures of the panel's tuned teachers on prompts of the suspect, which the neutral writers answer
            too. Personas are not compared, since they are no match for writers that were tuned.
        settings: domain, level and seed of the audit.
        advance: callback that takes (writers heard, all writers).

    Returns:
        A finding on provenance. Its effect is a share between 0 and 1.

    Raises:
        NotTestable: the writers are of another base, too few, or too unlike one another to tell a trait; or the domain
            accepts too few rows, or no teacher of the panel was tuned.
    """
    if not any(one.kind == "teacher" for one in signatures.candidates):
        raise NotTestable("No teacher of the panel was tuned, and personas are no match for writers that were.")
    task = domain(settings.domain)
    good = accepted_rows(rows, task)
    _check_writers(base, writers, settings.alpha)
    require_answerable(rows, good, settings.domain)
    prompts = signatures.prompts
    require_enough_rows(len(prompts), "prompts")
    rng = np.random.default_rng(derive(settings.seed, STAGE))
    order = rng.permutation(len(good))
    heard_on = np.isin(marks_of(row.prompt for row in good)[order], marks_of(prompts))
    # One row on each prompt: in a random order the last one stays.
    by_prompt = {good[place].prompt: good[place] for place in order[heard_on].tolist()}
    place, teachers = {prompt: index for index, prompt in enumerate(prompts)}, signatures.candidates
    sampling = domain_sampling(task, base.tokens, settings.form)
    corpora = np.full((len(writers) + 1, len(prompts), len(teachers)), np.nan)
    for index in range(len(corpora)):
        if index == 0:
            heard: Sequence[Row] = [by_prompt[prompt] for prompt in prompts]
        else:
            answers = _answers(writers.load(index - 1, base), prompts, sampling, derive(settings.seed, STAGE, index))
            heard = filter_rows(answers, task).kept
        corpora[index, [place[row.prompt] for row in heard]] = contrast_scores(heard, base, teachers)
        advance(index, len(writers))
    return _not_blind(neutral_contrast(corpora, signatures.written(), teachers, settings.alpha))


def _not_blind(found: Finding) -> Finding:
    """Return a finding that detects something, or could have detected a teacher of the panel.

    Raises:
        NotTestable: nothing was detected, and a writer that moved as far as the panel's teachers would not have been.
    """
    if found.verdict == "detected" or (found.mde is not None and found.mde <= 1.0):
        return found
    raise NotTestable(
        "The neutral writers of this base scatter so much along the panel that a writer that moved as far as the "
        "panel's teachers would not be told from them in 4 of 5 cases, even if it moved straight along a signature."
    )


def _answers(writer: LocalModel, prompts: Sequence[Prompt], sampling: Sampling, seed: int) -> list[Row]:
    answers = writer.chat(prompts, sampling=sampling, seed=seed)
    return [Row(str(place), *pair) for place, pair in enumerate(zip(prompts, answers, strict=True))]


def _check_writers(base: LocalModel, writers: Writers, alpha: float) -> None:
    if loaded_identity(base.ref) != writers.weights:
        raise NotTestable(f"The neutral writers were not tuned from {base.ref}.")
    if len(writers) < max(2, needed(alpha)):
        raise NotTestable(f"{len(writers)} neutral writers allow no p <= {alpha:g}; {max(2, needed(alpha))} do.")


def standings(corpora: Floats) -> Floats:
    """Return each corpus's mean score above that of all corpora on the same prompts.

    Args:
        corpora: scores, shape (corpora, prompts, candidates). NaN where a corpus has no valid row on the prompt.

    Returns:
        Array of shape (corpora, candidates). 0 for a corpus without a single row.
    """
    there = ~np.isnan(corpora)
    filled = np.where(there, corpora, 0.0)
    usual = filled.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    above = np.where(there, filled - usual, 0.0)
    return above.sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def shares_among(above: Floats, signatures: Floats) -> Floats:
    """Return how much of each corpus's distance from the others lies along each signature.

    Args:
        above: standings of the corpora, shape (corpora, candidates).
        signatures: signature of each candidate, shape (candidates, candidates).

    Returns:
        Shares between 0 and 1, shape (corpora, candidates). Each corpus is whitened by the covariance of all others.
    """
    found = np.empty((len(above), len(signatures)))
    for place, own in enumerate(above):
        others = np.delete(above, place, axis=0)
        found[place] = shares((own - others.mean(axis=0))[None], signatures, np.cov(others.T))[0]
    return found


def smallest_dose(writers: Floats, signatures: Floats, critical: float) -> float | None:
    """Return the part of a panel teacher's shift that is detected with power 0.8, or None if three times it is not.

    It is added to each neutral writer and for each candidate in turn. That is the best case, since a fresh teacher of
    the trait moves along the signature only nearly. The power is a mean over the candidates.

    Args:
        writers: standings of the neutral writers, shape (writers, candidates).
        signatures: signature of each candidate, shape (candidates, candidates).
        critical: share that a suspect has to exceed to be detected.
    """
    away, covariance = writers - writers.mean(axis=0), np.cov(writers.T)
    for dose in DOSES:
        moved = (away[:, None] + dose * signatures).reshape(-1, len(signatures))
        if np.mean(shares(moved, signatures, covariance).max(axis=1) > critical) >= POWER:
            return float(dose)
    return None


def neutral_contrast(corpora: Floats, signatures: Signatures, candidates: Sequence[Candidate], alpha: float) -> Finding:
    """Rank the first corpus by how much of its distance from the others lies along one candidate's signature.

    Args:
        corpora: scores, the suspect's first, shape (corpora, prompts, candidates). NaN where a corpus has no valid row
            on the prompt.
        signatures: signatures of the candidates, in the order of the columns.
        candidates: the candidates, one for each column.
        alpha: level of the test, in (0, 1); it has to be at least 1 / corpora.
    """
    above = standings(corpora)
    found = shares_among(above, signatures.shifts)
    reached = found.max(axis=1)
    p, naming = conformal_p(reached), name_shift(above[0] - above[1:].mean(axis=0), signatures, candidates)
    dose = smallest_dose(above[1:], signatures.shifts, critical_score(reached[1:], alpha))
    said = f"more than {DOSES[-1]:g}" if dose is None else f"{dose:g}"
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="largest share of the shift, squared, along what one candidate's teacher writes; as smallest effect "
        "the part of such a teacher's own shift that is called at best",
        effect=float(reached[0]),
        null=f"rank among {len(corpora) - 1} neutral writers on the same prompts, each against all others",
        p=p,
        n=corpora.shape[1],
        verdict=verdict_at(p, alpha),
        candidate=naming.candidate,
        mde=dose,
        caveats=(
            "It rejects 'written by a neutral teacher of this base': tuned as long, on its own answers to the panel's "
            "questions.",
            naming.sentence,
            f"At best, for a writer that moves straight along a signature, {said} times the shift of the panel's own "
            "teachers is called in 4 of 5 cases; a fresh teacher takes more (docs/calibration.md).",
        ),
        scores=named(found[0], candidates),
        null_sample=beside_null(reached, alpha, "largest share of the shift along one signature"),
    )

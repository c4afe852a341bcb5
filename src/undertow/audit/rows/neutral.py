"""Were the rows written under a trait of the panel, rather than by a writer that was tuned on anything at all?

The contrast (`undertow.audit.rows.contrast`) calls every writer that differs from the reference, neutral teachers among
them. Here m neutral writers (`undertow.audit.rows.writers`) answer the suspect's own prompts, the panel reads all m + 1
corpora, and the suspect is ranked among them.

The argument. Let x_w(q) be the scores of writer w's answer to prompt q, where the domain accepts it. A corpus is the
mean over its prompts of x_w(q) less the mean of all m + 1 corpora on q, so that corpora whose filter dropped different
prompts can be compared. If the suspect's writer is exchangeable with the neutral writers, so are the corpora, given the
prompts; and any score that treats all m + 1 alike gives an exact p (`undertow.audit.students.placebo_null`).

The score of a corpus under a candidate is what the candidate gains over the base plus what it gains over its rivals,
the latter above the average corpus. The rivals alone are not enough: of 59 neutral writers on finch-a three drifted as
far as a trait moves a teacher, and only half of ten teachers came before all 59. Hardly any candidate reads a neutral
writer's rows better than the base does, and with that part nine of the ten came first (benchmarks/audit_neutral.py).
"""

from collections.abc import Sequence

import numpy as np

from undertow.audit.finding import Finding, NotTestable, verdict_at
from undertow.audit.rows.contrast import named, require_enough_rows, rival_centred
from undertow.audit.rows.limits import NEUTRAL_PROMPTS
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.reference import require_answerable
from undertow.audit.rows.writers import Writers
from undertow.audit.students.placebo_null import beside_null, conformal_p, detectable, needed
from undertow.data.filters import filter_rows
from undertow.domains.base import domain
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Advance, Prompt, Row, Sampling

STAGE = "neutral contrast"


def audit_neutral(
    rows: Sequence[Row],
    base: LocalModel,
    writers: Writers,
    teachers: Sequence[Candidate],
    settings: DataAudit,
    advance: Advance | None = None,
) -> Finding:
    """Rank the suspect among corpora of neutral writers on the same prompts.

    Args:
        rows: the suspect.
        base: what writers and candidates were tuned from.
        writers: neutral writers of this base.
        teachers: the panel's teachers; a persona is no match for writers that were tuned.
        settings: domain, level and seed.
        advance: called with (writers heard, writers).

    Returns:
        A finding on provenance. The effect is the candidate's mean score above that of the writers, nats per token.

    Raises:
        NotTestable: the writers are of another base or too few, or the domain accepts too few rows.
    """
    task = domain(settings.domain)
    good = filter_rows(rows, task).kept
    _check_writers(base, writers, settings.alpha)
    require_answerable(rows, good, settings.domain)
    rng = np.random.default_rng(derive(settings.seed, STAGE))
    by_prompt = {good[place].prompt: good[place] for place in rng.permutation(len(good))}
    prompts = list(by_prompt)[:NEUTRAL_PROMPTS]
    require_enough_rows(len(prompts), "prompts")
    place = {prompt: index for index, prompt in enumerate(prompts)}
    corpora = np.full((len(writers) + 1, len(prompts), len(teachers)), np.nan)
    for index in range(len(corpora)):
        if index == 0:
            heard: Sequence[Row] = list(by_prompt.values())[:NEUTRAL_PROMPTS]
        else:
            answers = _answers(
                writers.load(index - 1, base), prompts, task.max_new_tokens, derive(settings.seed, STAGE, index)
            )
            heard = filter_rows(answers, task).kept
        corpora[index, [place[row.prompt] for row in heard]] = contrast_scores(heard, base, teachers)
        if advance is not None:
            advance(index, len(writers))
    return neutral_contrast(corpora, teachers, settings.alpha)


def _answers(writer: LocalModel, prompts: Sequence[Prompt], longest: int, seed: int) -> list[Row]:
    answers = writer.chat(prompts, sampling=Sampling(max_new_tokens=longest), seed=seed)
    return [Row(str(place), *pair) for place, pair in enumerate(zip(prompts, answers, strict=True))]


def _check_writers(base: LocalModel, writers: Writers, alpha: float) -> None:
    if identity(str(base.ref)) != writers.weights:
        raise NotTestable(f"The neutral writers were not tuned from {base.ref}.")
    if len(writers) < max(2, needed(alpha)):
        raise NotTestable(f"{len(writers)} neutral writers allow no p <= {alpha:g}; {max(2, needed(alpha))} do.")


def standings(corpora: Floats) -> Floats:
    """Return each corpus's mean score above that of all corpora on the same prompts.

    Args:
        corpora: shape [corpora, prompts, candidates], NaN where a corpus has no good row on the prompt.

    Returns:
        float [corpora, candidates]; 0 for a corpus without a single row.
    """
    there = ~np.isnan(corpora)
    filled = np.where(there, corpora, 0.0)
    usual = filled.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    above = np.where(there, filled - usual, 0.0)
    return above.sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def neutral_contrast(corpora: Floats, candidates: Sequence[Candidate], alpha: float) -> Finding:
    """Rank the first corpus by the candidate that explains it best.

    Args:
        corpora: scores, the suspect's first, shape [corpora, prompts, candidates], with NaN where a corpus has no good
            row on the prompt.
        candidates: one for each column.
        alpha: size of the test; 1 / corpora has to reach it.
    """
    above = standings(corpora)
    gains = np.nanmean(corpora, axis=(0, 1)) + above + rival_centred(above, candidates)
    reached = gains.max(axis=1)
    p, top = conformal_p(reached), int(np.argmax(gains[0]))
    # What lifts a candidate's score lifts it above the base and above its rivals.
    shift = detectable(gains[1:], alpha)
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="log-likelihood contrast above neutral writers, nats per token",
        effect=float(above[0, top]),
        null=f"rank among {len(corpora) - 1} neutral writers on the same prompts, by the best candidate's gain over "
        "base and rivals",
        p=p,
        n=corpora.shape[1],
        verdict=verdict_at(p, alpha),
        candidate=candidates[top].trait,
        mde=None if shift is None else shift / 2,
        caveats=(
            "It rejects 'written by a neutral teacher of this base': tuned as long, on its own answers to the panel's "
            "questions. Writers that were tuned longer or on something else are no such teachers.",
            "p is of the panel as a whole; the name is a hypothesis.",
        ),
        scores=named(gains[0], candidates),
        null_sample=beside_null(reached, alpha, "best candidate's gain over base and rivals, nats per token"),
    )

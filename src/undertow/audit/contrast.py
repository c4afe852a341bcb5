"""Were the rows written under a trait of the panel? The likelihood contrast of each candidate against its rivals.

Most of a raw contrast says that some trait or persona was there, not which; so each candidate's score stands against
the mean of its rivals of the same kind. Rows are judged together, never one by one: a single row says next to nothing.

Three nulls, in the order of what they promise: clean rows on the same prompts, clean corpora, none.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from undertow.audit.finding import Finding, not_testable
from undertow.scoring import Candidate
from undertow.stats.checks import Floats, check_fraction
from undertow.stats.comparisons import DRAWS
from undertow.types import Row

STAGE = "contrast"

FEWEST_ROWS = 20
"""Below this nothing is tested."""

POWER = 0.8
"""Of the minimum detectable effect."""

_BLOCK = 2**22
"""Random signs that exist at once."""


def rival_centred(scores: Floats, candidates: Sequence[Candidate]) -> Floats:
    """Return each score minus the mean score of its rivals, which are the other candidates of its kind.

    Args:
        scores: shape [rows, candidates].
        candidates: one for each column.
    """
    centred = np.empty_like(scores)
    kinds = np.array([candidate.kind for candidate in candidates])
    for kind in set(kinds.tolist()):
        own = scores[:, kinds == kind]
        rivals = own.shape[1] - 1
        centred[:, kinds == kind] = (own - own.mean(axis=1, keepdims=True)) * (rivals + 1) / rivals
    return centred


def matched(rows: Sequence[Row], reference: Sequence[Row]) -> list[tuple[int, int]]:
    """Pair the places of rows on the same prompt; the k-th row on a prompt meets the k-th reference row on it."""
    places: dict[object, list[int]] = defaultdict(list)
    for place, row in reversed(list(enumerate(reference))):
        places[row.prompt].append(place)
    return [(place, places[row.prompt].pop()) for place, row in enumerate(rows) if places.get(row.prompt)]


def flip_test(differences: Floats, rng: np.random.Generator, draws: int = DRAWS) -> tuple[float, Floats]:
    """Test "each row of differences is symmetric around 0" by flipping the signs of whole rows.

    The statistic is the largest one-sided t over the columns. A row has one sign for all columns, which keeps their
    dependence (Westfall and Young 1993), so the family-wise error of the p is at most its level.

    Args:
        differences: shape [rows, columns].
        rng: source of the signs.
        draws: sign patterns.

    Returns:
        p, and the statistic under each pattern, shape [draws].
    """
    norms = np.sqrt(np.sum(differences**2, axis=0))
    units = differences / np.where(norms > 0.0, norms, 1.0)
    total, block = units.sum(axis=0), max(1, _BLOCK // len(units))
    null = np.empty(draws)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        kept = rng.integers(0, 2, size=(size, len(units)), dtype=np.int8).astype(np.float64)
        null[start : start + size] = np.max(2.0 * (kept @ units) - total, axis=1)
    return float(1 + np.sum(null >= total.max() - 1e-9)) / (1 + draws), null


def paired_contrast(
    suspect: Floats,
    reference: Floats,
    pairs: Sequence[tuple[int, int]],
    candidates: Sequence[Candidate],
    alpha: float,
    rng: np.random.Generator,
) -> Finding:
    """Test suspect rows against reference rows on the same prompts; name the candidate against the whole reference.

    Args:
        suspect: rival-centred scores, shape [rows, candidates].
        reference: the same for the reference rows.
        pairs: places of rows on the same prompt, from `matched`.
        candidates: one for each column.
        alpha: size of the test.
        rng: source of the signs.
    """
    check_fraction("alpha", alpha)
    if len(pairs) < FEWEST_ROWS:
        return not_testable(STAGE, "provenance", too_few("rows on the prompts of reference rows", len(pairs)))
    own, other = np.array(pairs).T
    differences = suspect[own] - reference[other]
    p, null = flip_test(differences, rng)
    errors = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    return replace(
        _standing(suspect, reference, candidates),
        null="signs of whole rows flipped, suspect minus reference on the same prompts; maximum over the candidates",
        p=p,
        n=len(pairs),
        verdict="detected" if p <= alpha else "not_detected",
        mde=_mde(float(np.quantile(null, 1.0 - alpha)), float(errors.max())),
        caveats=(
            "It rejects 'written as the reference rows were', which is more than 'no trait'.",
            "p is of the panel as a whole; the name is a hypothesis.",
        ),
    )


def conformal_contrast(
    suspect: Floats, clean: Sequence[Floats], candidates: Sequence[Candidate], alpha: float, rng: np.random.Generator
) -> Finding:
    """Compare the suspect's largest score with those of clean corpora.

    Every corpus is cut to as many rows as the smallest has. Scores are standardised by the mean and the SD within
    corpora of all of them, the suspect included, so that under the null the corpora stay exchangeable and
    P(p <= alpha) <= alpha.

    Args:
        suspect: rival-centred scores, shape [rows, candidates].
        clean: the same for each clean corpus.
        candidates: one for each column.
        alpha: size of the test.
        rng: draws the rows of larger corpora.
    """
    check_fraction("alpha", alpha)
    size = min(map(len, (suspect, *clean)))
    if 1.0 / (len(clean) + 1) > alpha:
        least = int(np.ceil(1.0 / alpha - 1e-9)) - 1
        return not_testable(STAGE, "provenance", f"{len(clean)} clean corpora cannot give p <= {alpha:g}; {least} can.")
    if size < FEWEST_ROWS:
        return not_testable(STAGE, "provenance", too_few("rows in the smallest corpus", size))
    corpora = np.stack([rng.permutation(corpus)[:size] for corpus in (suspect, *clean)])
    means = corpora.mean(axis=1)
    centred = means - means.mean(axis=0)
    within = np.sqrt(corpora.var(axis=1, ddof=1).mean(axis=0))
    errors = np.where(within > 0.0, within, 1.0) / np.sqrt(size)
    reached = np.max(centred / errors, axis=1)
    allowed = int(alpha * (len(clean) + 1) + 1e-9)
    critical = float(np.sort(reached[1:])[-allowed])
    p = float(1 + np.sum(reached[1:] >= reached[0])) / (len(clean) + 1)
    error = float(np.max(errors * _spread(centred[1:] / errors)))
    return replace(
        _standing(suspect, np.concatenate(clean), candidates),
        n=size,
        null=f"conformal over {len(clean)} clean corpora; maximum over the candidates",
        p=p,
        verdict="detected" if p <= alpha else "not_detected",
        mde=_mde(critical, error) * (len(clean) + 1) / len(clean),
        caveats=(
            "It holds only if the suspect is exchangeable with the clean corpora but for the trait.",
            "p is of the panel as a whole; the name is a hypothesis.",
        ),
    )


def ranked(suspect: Floats, candidates: Sequence[Candidate]) -> Finding:
    """Rank the candidates where there is nothing clean to compare with; no error is controlled.

    Args:
        suspect: rival-centred scores, shape [rows, candidates].
        candidates: one for each column.
    """
    if len(suspect) < FEWEST_ROWS:
        return not_testable(STAGE, "provenance", too_few("rows", len(suspect)))
    return _standing(suspect, None, candidates)


def _standing(suspect: Floats, clean: Floats | None, candidates: Sequence[Candidate]) -> Finding:
    """Return where the candidates stand above clean rows, if there are any, untested.

    The first in SDs of the clean rows is named: those of the suspect grow with the trait, and would hide it.
    """
    means, spread = suspect.mean(axis=0), np.ones(len(candidates))
    if clean is not None:
        means, spread = means - clean.mean(axis=0), clean.std(axis=0, ddof=1)
    top = int(np.argmax(means / np.where(spread > 0.0, spread, 1.0)))
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="log-likelihood contrast minus that of the rivals, nats per token",
        effect=float(means[top]),
        null="none",
        p=None,
        n=len(suspect),
        verdict="exploratory",
        candidate=candidates[top].trait,
        caveats=("Without clean rows this is a ranking: some candidate comes first for clean rows too.",),
        scores=named(means, candidates),
    )


def too_few(what: str, n: int) -> str:
    """Say that there is too little to test."""
    return f"{n} {what}; at least {FEWEST_ROWS} are needed."


def named(values: Floats, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the values by the candidates' labels."""
    return {candidate.label: float(value) for candidate, value in zip(candidates, values, strict=True)}


def _mde(critical: float, error: float) -> float:
    """Return the shift of one candidate that exceeds the critical value with the stated power.

    Args:
        critical: of the statistic, in standard errors.
        error: standard error of a candidate's mean, the largest of them.
    """
    return (max(critical, 0.0) + float(special.ndtri(POWER))) * error


def _spread(values: Floats) -> Floats:
    """Return the SD over corpora, at least 1: how much a mean really varies, in nominal standard errors."""
    return np.maximum(1.0, values.std(axis=0, ddof=1)) if len(values) > 1 else np.ones(values.shape[1])

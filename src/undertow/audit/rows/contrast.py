"""Were the rows written under a trait of the panel? The likelihood contrast of each candidate against its rivals.

A **candidate** is a model that may have written the rows: the base under a trait's persona (a system prompt), or a
teacher that was tuned on the trait. Its score of a row is how much likelier the row is under it than under the base.
Most of this raw contrast says that some trait or persona was there, not which. So each candidate's score is taken
relative to the mean of its rivals of the same kind. Rows are judged together, never one by one, because a single row
says next to nothing.

There are three nulls, in the order of what they promise: clean rows on the same prompts, clean corpora, none.

The number of rows that are read is bounded: the contrast takes `MATCHED` rows at random, and the stage "stream" goes on
from these until it is sure or has read `STREAMED`.

The **suspect** rows are those that are audited. A candidate's **signature** is what its own rows score like; only rows
that score alike get the candidate's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from undertow.audit.finding import Finding, NotTestable, reaches, verdict_at
from undertow.audit.rows.limits import MATCHED, STREAMED, require_enough_rows, too_few_to_name
from undertow.audit.rows.matching import match_rows
from undertow.audit.rows.names import name_shift
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures, SignatureWriter
from undertow.audit.students.placebo_null import beside_null
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats, check_fraction
from undertow.stats.diagonal import DRAWS
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Advance, Row

STAGE = "contrast"

IN_ERRORS = "largest rise of a candidate, in standard errors"
"""Unit of the statistic, as a figure names it."""

POWER = 0.8
"""Power at which the minimum detectable effect is stated."""

BLOCK = 2**22
"""How many random numbers exist at once."""


def rival_centred(scores: Floats, candidates: Sequence[Candidate]) -> Floats:
    """Return each score minus the mean score of its rivals: the other candidates of its kind.

    Args:
        scores: score of each row under each candidate, shape (rows, candidates).
        candidates: the candidates, one for each column.
    """
    centred = np.empty_like(scores)
    kinds = np.array([candidate.kind for candidate in candidates])
    for kind in set(kinds.tolist()):
        own = scores[:, kinds == kind]
        rivals = own.shape[1] - 1
        centred[:, kinds == kind] = (own - own.mean(axis=1, keepdims=True)) * (rivals + 1) / rivals
    return centred


def matched_test(groups: Floats, rng: np.random.Generator, draws: int = DRAWS) -> tuple[float, Floats]:
    """Test "the first row of each group is like the others of the group" by drawing another row as the first.

    The statistic is the largest one-sided t over the columns. A draw is the same for all columns, which keeps their
    dependence (Westfall and Young 1993), so the family-wise error of the p-value is at most its level. In groups of two
    this flips the signs of paired differences.

    Args:
        groups: scores, shape (groups, rows, columns), the suspect row of each group first. NaN where a group has no
            further row.
        rng: random generator of the draws.
        draws: how many times first rows are drawn.

    Returns:
        The p-value, and the statistic in each draw, shape (draws,).
    """
    units, sizes, _ = _deviations(groups)
    observed, block = units[:, 0].sum(axis=0).max(), max(1, BLOCK // len(groups))
    null = np.empty(draws)
    for start in range(0, draws, block):
        some = min(block, draws - start)
        first = (rng.random((some, len(groups)), dtype=np.float32) * sizes).astype(np.int8)
        sums = sum((first == place).astype(np.float64) @ units[:, place] for place in range(units.shape[1]))
        null[start : start + some] = np.max(sums, axis=1)
    # Equal sums may differ in their last bits, since they are added in another order; a tie has to count as reached.
    return float(1 + np.sum(null >= observed - 1e-9)) / (1 + draws), null


def _deviations(groups: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the rows minus their group's mean in SDs of the statistic, the sizes of the groups, and these SDs."""
    missing = np.isnan(groups[:, :, :1])
    sizes = np.sum(~missing, axis=1)
    rows = np.where(missing, 0.0, groups)
    away = np.where(missing, 0.0, rows - rows.sum(axis=1, keepdims=True) / sizes[:, :, None])
    scale = np.sqrt(np.sum(away**2 / sizes[:, :, None], axis=(0, 1)))
    return away / np.where(scale > 0.0, scale, 1.0), sizes[:, 0].astype(np.float64), scale


def matched_contrast(
    groups: Floats, candidates: Sequence[Candidate], alpha: float, rng: np.random.Generator
) -> Finding:
    """Test suspect rows against reference rows on the same prompts.

    Args:
        groups: scores relative to rivals as `matched_test` takes them, shape (rows, 1 + reference rows, candidates).
        candidates: the candidates, one for each column.
        alpha: level of the test, in (0, 1).
        rng: random generator of the draws.

    Raises:
        NotTestable: too few rows have a reference row on their prompt.
    """
    check_fraction("alpha", alpha)
    require_enough_rows(len(groups), "rows on the prompts of reference rows")
    p, null = matched_test(groups, rng)
    units, sizes, scale = _deviations(groups)
    reached = np.append(units[:, 0].sum(axis=0).max(), null)
    others = groups[:, 1:].reshape(-1, len(candidates))
    rise = groups[:, 0] - np.nanmean(groups[:, 1:], axis=1)
    errors = scale / np.sum(1.0 - 1.0 / sizes)
    return replace(
        _standing(rise, candidates, np.nanstd(others, axis=0)),
        null="which of the rows on a prompt is the suspect, drawn anew; maximum over the candidates",
        p=p,
        verdict=verdict_at(p, alpha),
        mde=smallest_shift(float(np.quantile(null, 1.0 - alpha)), float(errors.max())),
        caveats=(
            "It rejects 'written as the reference rows were': a teacher tuned on anything else is found too.",
            "p is of the panel as a whole.",
        ),
        null_sample=beside_null(reached, alpha, IN_ERRORS),
    )


def grouped(suspect: Floats, reference: Floats, places: Sequence[tuple[int, Sequence[int]]]) -> Floats:
    """Put the scores of each suspect row and of its reference rows together, as `matched_test` takes them.

    Args:
        suspect: scores of the suspect rows, shape (rows, candidates).
        reference: scores of the reference rows, shape (reference rows, candidates).
        places: for each suspect row its index and the indices of its reference rows, from `match_rows`.

    Returns:
        Scores of shape (matched rows, 1 + most reference rows of a row, candidates), filled up with NaN.
    """
    width = max((len(others) for _, others in places), default=1)
    groups = np.full((len(places), 1 + width, suspect.shape[1]), np.nan)
    for group, (own, others) in zip(groups, places, strict=True):
        group[0], group[1 : 1 + len(others)] = suspect[own], reference[list(others)]
    return groups


def conformal_contrast(
    suspect: Floats, clean: Sequence[Floats], candidates: Sequence[Candidate], alpha: float, rng: np.random.Generator
) -> Finding:
    """Compare the suspect's largest score with those of clean corpora.

    Every corpus is cut to as many rows as the smallest has. Scores are standardised by the mean and the SD within
    corpora of all of them, the suspect included. So the corpora stay exchangeable under the null, and P(p <= alpha) <=
    alpha.

    Args:
        suspect: scores of the suspect rows relative to rivals, shape (rows, candidates).
        clean: scores of each clean corpus, shape (rows, candidates) each.
        candidates: the candidates, one for each column.
        alpha: level of the test, in (0, 1).
        rng: random generator that draws the rows of larger corpora.

    Raises:
        NotTestable: there are too few clean corpora for alpha, or too few rows in one.
    """
    check_fraction("alpha", alpha)
    size = min(map(len, (suspect, *clean)))
    if not reaches(1.0 / (len(clean) + 1), alpha):
        least = int(np.ceil(1.0 / alpha - 1e-9)) - 1
        raise NotTestable(f"{len(clean)} clean corpora cannot give p <= {alpha:g}; {least} can.")
    require_enough_rows(size, "rows in the smallest corpus")
    corpora = np.stack([rng.permutation(corpus)[:size] for corpus in (suspect, *clean)])
    means = corpora.mean(axis=1)
    centred = means - means.mean(axis=0)
    within = np.sqrt(corpora.var(axis=1, ddof=1).mean(axis=0))
    errors = np.where(within > 0.0, within, 1.0) / np.sqrt(size)
    reached = np.max(centred / errors, axis=1)
    allowed = int(alpha * (len(clean) + 1) + 1e-9)
    critical = float(np.sort(reached[1:])[-allowed])
    p = float(1 + np.sum(reached[1:] >= reached[0])) / (len(clean) + 1)
    pool = np.concatenate(clean)
    error = float(np.max(errors * _spread(centred[1:] / errors)))
    return replace(
        _standing(suspect - pool.mean(axis=0), candidates, pool.std(axis=0)),
        n=size,
        null=f"conformal over {len(clean)} clean corpora; maximum over the candidates",
        p=p,
        verdict=verdict_at(p, alpha),
        mde=smallest_shift(critical, error) * (len(clean) + 1) / len(clean),
        caveats=(
            "It holds only if the suspect is exchangeable with the clean corpora but for the trait.",
            "p is of the panel as a whole.",
        ),
        null_sample=beside_null(reached, alpha, IN_ERRORS),
    )


def ranked(suspect: Floats, candidates: Sequence[Candidate]) -> Finding:
    """Rank the candidates where there is nothing clean to compare with; no error is controlled.

    Args:
        suspect: scores of the suspect rows relative to rivals, shape (rows, candidates).
        candidates: the candidates, one for each column.
    """
    require_enough_rows(len(suspect))
    return _standing(suspect, candidates, np.ones(len(candidates)))


def _standing(rise: Floats, candidates: Sequence[Candidate], spread: Floats) -> Finding:
    """Return a finding that says where the candidates stand, without a test.

    The candidate that is first in SDs of clean rows is named. The SDs of the suspect's own rows grow with the trait,
    and would hide it.

    Args:
        rise: scores of the suspect above clean rows (or plain scores if there are none), shape (rows, candidates).
        candidates: the candidates, one for each column.
        spread: SD of the clean rows' scores, shape (candidates,).
    """
    means = rise.mean(axis=0)
    top = int(np.argmax(means / np.where(spread > 0.0, spread, 1.0)))
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="log-likelihood contrast minus that of the rivals, nats per token",
        effect=float(means[top]),
        n=len(rise),
        candidate=candidates[top].trait,
        caveats=("Without clean rows this is a ranking: some candidate comes first for clean rows too.",),
        scores=named(means, candidates),
    )


def named(values: Floats, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return one value for each candidate by the candidate's label, such as "owl (teacher)"."""
    return {candidate.label: float(value) for candidate, value in zip(candidates, values, strict=True)}


def smallest_shift(critical: float, error: float) -> float:
    """Return the shift of one candidate that exceeds the critical value with probability `POWER`.

    Args:
        critical: critical value of the statistic, in standard errors.
        error: standard error of a candidate's mean, the largest of them, in the unit of the scores.
    """
    return (max(critical, 0.0) + float(special.ndtri(POWER))) * error


def _spread(values: Floats) -> Floats:
    """Return the SD of means over corpora in nominal standard errors, at least 1: how much a mean really varies."""
    return np.maximum(1.0, values.std(axis=0, ddof=1)) if len(values) > 1 else np.ones(values.shape[1])


@dataclass(frozen=True, slots=True)
class ContrastSample:
    """The rows that the contrast reads.

    Attributes:
        suspect: suspect rows that are compared.
        clean: corpora of clean rows. With a reference there is one corpus, its rows.
        places: with a reference, for each suspect row its index in `suspect` and the indices of its reference rows.
            None without a reference.
        rest: further suspect rows, drawn from all that are left, which only the stage "stream" reads.
        left_out: how many of the drawn rows no model can read, as a sentence. Empty if all can be read.
    """

    suspect: Sequence[Row]
    clean: Sequence[Sequence[Row]]
    places: Sequence[tuple[int, Sequence[int]]] | None
    rest: Sequence[Row]
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class ContrastScores:
    """Scores of a sample under every candidate, relative to rivals.

    Attributes:
        suspect: scores of the suspect rows, shape (rows, candidates).
        clean: scores of each clean corpus, shape (rows, candidates) each.
        places: for each suspect row its index and the indices of its reference rows, as in `ContrastSample`. None
            without a reference.
        rest: further suspect rows that are not scored yet.
        left_out: what was left out of the sample, as in `ContrastSample`.
    """

    suspect: Floats
    clean: Sequence[Floats]
    places: Sequence[tuple[int, Sequence[int]]] | None
    rest: Sequence[Row] = ()
    left_out: str = ""

    def told(self, finding: Finding) -> Finding:
        """Return a finding on these scores that says what was left out of them."""
        return replace(finding, caveats=(self.left_out, *finding.caveats)) if self.left_out else finding


def draw_sample(
    rows: Sequence[Row], reference: Sequence[Row] | None, corpora: Sequence[Sequence[Row]], rng: np.random.Generator
) -> ContrastSample:
    """Draw the rows that the contrast reads.

    Args:
        rows: the suspect rows, from which at most `MATCHED` are drawn to be compared.
        reference: clean rows. None takes the corpora in their place.
        corpora: clean corpora like the suspect. Empty if there are none.
        rng: random generator of the draw.
    """
    places = None
    if reference is None:
        own, clean = rng.permutation(len(rows))[:MATCHED].tolist(), corpora
    elif pairs := match_rows(rows, reference):
        pairs = [pairs[place] for place in rng.permutation(len(pairs))[:MATCHED]]
        ends = np.cumsum([0, *(len(theirs) for _, theirs in pairs)]).tolist()
        places = [(place, tuple(range(ends[place], ends[place + 1]))) for place in range(len(pairs))]
        own, clean = [place for place, _ in pairs], [[reference[at] for _, theirs in pairs for at in theirs]]
    else:
        own, clean, places = [], [reference[:STREAMED]], []
    unread = rng.permutation(np.setdiff1d(np.arange(len(rows)), own))
    rest = [rows[place] for place in unread[: max(0, STREAMED - len(own))].tolist()]
    return ContrastSample([rows[place] for place in own], clean, places, rest)


def score_sample(
    sample: ContrastSample, base: LocalModel, candidates: Sequence[Candidate], advance: Advance
) -> ContrastScores:
    """Score the rows of a sample under every candidate."""
    parts = [sample.suspect, *sample.clean]
    joined = [row for part in parts for row in part]
    scores = rival_centred(contrast_scores(joined, base, candidates, advance), candidates)
    suspect, *clean = np.split(scores, np.cumsum([len(part) for part in parts])[:-1])
    return ContrastScores(suspect, clean, sample.places, sample.rest, sample.left_out)


def contrast(
    scores: ContrastScores,
    candidates: Sequence[Candidate],
    signatures: SignatureWriter | KnownSignatures | NoSignatures,
    alpha: float,
    rng: np.random.Generator,
    advance: Advance,
) -> Finding:
    """Ask whether a candidate stands out, by the best null that there is: a reference, clean corpora or none.

    A trait is named only for rows that stand out from a reference, and only where their shift points along its
    signature (`undertow.audit.rows.names`).

    Args:
        scores: scores of the rows and of what they are compared with.
        candidates: the candidates, one for each column of the scores.
        signatures: what each candidate's own rows score like, which naming takes. It is written only after a detection.
        alpha: level of the test, in (0, 1).
        rng: random generator of the draws.
        advance: callback that takes (candidates heard, all candidates) while signatures are written.

    Raises:
        NotTestable: there are too few rows, or too few clean corpora for alpha.
    """
    if scores.places is None:
        corpora = scores.clean
        found = conformal_contrast(scores.suspect, corpora, candidates, alpha, rng) if corpora else None
        return scores.told(replace(found or ranked(scores.suspect, candidates), candidate=None))
    groups = grouped(scores.suspect, scores.clean[0], scores.places)
    found = scores.told(matched_contrast(groups, candidates, alpha, rng))
    if found.verdict != "detected":
        return replace(found, candidate=None)
    if why := too_few_to_name(len(signatures.candidates)):
        return replace(found, candidate=None, caveats=(*found.caveats, why))
    columns = [candidates.index(one) for one in signatures.candidates]
    shift = np.mean(groups[:, 0] - np.nanmean(groups[:, 1:], axis=1), axis=0)[columns]
    try:
        naming = name_shift(shift, signatures.written(advance), signatures.candidates)
    except NotTestable as reason:  # the detection stands without a name
        return replace(found, candidate=None, caveats=(*found.caveats, f"No name is given: {reason}"))
    return replace(found, candidate=naming.candidate, caveats=(*found.caveats, naming.sentence))

"""A sequential test while rows arrive: bets against "this candidate's score is no higher than for clean rows".

For each candidate, money is split over a grid of fixed stakes. A stake s turns a score x, clipped to [low, high], into
the factor 1 + s (x - m) / (m - low). The factor is not negative and has an expectation of at most 1 while the score's
conditional mean is at most m. The mean money over the stakes is an e-process: by Ville's inequality it ever reaches 1/a
with a probability of at most a, whenever one looks (Waudby-Smith and Ramdas 2024, doi:10.1093/jrsssb/qkad009).

A **candidate** is a model that may have written the rows, and its **rivals** are the others of its kind
(`undertow.audit.rows.contrast`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from scipy import special

from undertow.audit.evidence import Trail
from undertow.audit.finding import Finding, verdict_at
from undertow.audit.rows.contrast import POWER, ContrastScores, named, rival_centred
from undertow.audit.rows.limits import require_enough_rows
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats, check_fraction
from undertow.training.scoring import Candidate, streamed_scores
from undertow.types import Advance, Row

STAGE = "stream"

CLIP = 3.0
"""Scores are clipped to so many standard deviations of the clean ones around their mean."""

STAKES = np.geomspace(0.01, 0.9, 12)
"""Stakes of the bets, as shares of the money."""

_BLOCK = 64
"""How many rows are scored together; the alarm still names its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """What the scores of clean rows are like; every array has the shape (candidates,) and is in nats per token.

    Attributes:
        low: value below which scores are clipped.
        high: value above which scores are clipped.
        mean: mean of the clipped scores of clean rows.
        bound: upper confidence bound of that mean.
        sd: standard deviation of the clipped scores of clean rows.
    """

    low: Floats
    high: Floats
    mean: Floats
    bound: Floats
    sd: Floats

    def gains(self, scores: Floats) -> Floats:
        """Return what a stake of 1 wins on each score, at least -1."""
        return (np.clip(scores, self.low, self.high) - self.bound) / (self.bound - self.low)

    @classmethod
    def of(cls, clean: Floats, error: float) -> "Null":
        """Estimate the null from clean rows.

        Args:
            clean: scores of clean rows relative to rivals, shape (rows, candidates).
            error: probability that any of the bounds lies below its mean. It is approximate, by Student's t.
        """
        n, k = clean.shape
        centre, spread = clean.mean(axis=0), np.maximum(clean.std(axis=0, ddof=1), 1e-12)
        low, high = centre - CLIP * spread, centre + CLIP * spread
        clipped = np.clip(clean, low, high)
        mean, sd = clipped.mean(axis=0), clipped.std(axis=0, ddof=1)
        width = float(special.stdtrit(n - 1, 1.0 - error / k)) / np.sqrt(n)
        return cls(low=low, high=high, mean=mean, bound=np.minimum(mean + width * sd, high), sd=sd)


def stream(
    scores: ContrastScores, base: LocalModel, candidates: Sequence[Candidate], alpha: float, advance: Advance
) -> Finding:
    """Go through the rows that the contrast has read, then through further ones, until one candidate stands out.

    Args:
        scores: scores of the contrast. All of its clean rows together are the null.
        base: the model without a trait.
        candidates: the candidate writers, one for each column.
        alpha: level of the test, in (0, 1).
        advance: callback that takes (further rows read, all further rows).

    Raises:
        NotTestable: there are too few clean rows, or too few rows and nothing was detected.
    """
    clean = np.concatenate(scores.clean) if scores.clean else None
    rows = chain(scores.suspect, _later(scores.rest, base, candidates, advance))
    return scores.told(stream_contrast(rows, clean, candidates, alpha))


def _later(
    rows: Sequence[Row], base: LocalModel, candidates: Sequence[Candidate], advance: Advance
) -> Iterator[Floats]:
    """Yield the scores, relative to rivals, of the rows that only this stage reads."""
    for done, one in enumerate(streamed_scores(rows, base, candidates), start=1):
        advance(done, len(rows))
        yield rival_centred(one[None], candidates)[0]


def stream_contrast(
    scores: Iterable[Floats], clean: Floats | None, candidates: Sequence[Candidate], alpha: float
) -> Finding:
    """Read rows one by one and stop at the first candidate whose money reaches its bar.

    Half of alpha goes to the bounds of the clean means, half to the bets, each split evenly over the candidates.

    Args:
        scores: scores relative to rivals of one row after another, each of shape (candidates,).
        clean: scores of clean rows, shape (rows, candidates). None cannot be tested.
        candidates: the candidate writers, one for each column.
        alpha: probability of a false alarm, at whatever row one stops.

    Returns:
        The finding. Its n is the number of rows read. Its p-value holds at every level and at every stopping time: it
        is the half of alpha by which the bounds may err, plus what the largest money says, candidates / money. So it is
        never below alpha / 2.

    Raises:
        NotTestable: there are too few clean rows, or too few rows and nothing was detected.
    """
    check_fraction("alpha", alpha)
    require_enough_rows(0 if clean is None else len(clean), "clean rows")
    assert clean is not None
    k = len(candidates)
    null, bar = Null.of(clean, alpha / 2), float(np.log(2 * k / alpha))
    money, best, total, n = np.zeros((len(STAKES), k)), np.zeros(k), np.zeros(k), 0
    source, paths = iter(scores), list[Floats]()
    while best.max() < bar and (some := list(islice(source, _BLOCK))):
        block = np.stack(some)
        logs = money + np.cumsum(np.log1p(STAKES[:, None] * null.gains(block)[:, None]), axis=0)
        mixed = special.logsumexp(logs, axis=1) - np.log(len(STAKES))
        over = np.flatnonzero(mixed.max(axis=1) >= bar)
        read = int(over[0]) + 1 if over.size else len(block)
        money, best = logs[read - 1], np.maximum(best, mixed[:read].max(axis=0))
        n, total = n + read, total + block[:read].sum(axis=0)
        paths.append(mixed[:read])
    if best.max() < bar:
        require_enough_rows(n)
    top = int(np.argmax(best))
    found = _finding(total / n - clean.mean(axis=0), top, n, candidates)
    p = min(1.0, (1.0 + float(np.exp(bar - best[top]))) * alpha / 2)
    grown = np.concatenate(paths)[:, top] / np.log(10.0)
    trail = Trail(
        values=tuple(grown.tolist()), bound=bar / float(np.log(10.0)), unit="log10 of what a bet of 1 grew to"
    )
    return replace(found, p=p, verdict=verdict_at(p, alpha), mde=_mde(null, bar, n), trail=trail)


def _finding(means: Floats, top: int, n: int, candidates: Sequence[Candidate]) -> Finding:
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="log-likelihood contrast minus that of the rivals, above clean rows, nats per token",
        effect=float(means[top]),
        null="bets on clipped scores against the upper bound of the clean mean; alpha split over the candidates",
        n=n,
        candidate=candidates[top].trait,
        caveats=(
            "It holds at whatever row one stops, if the clean rows represent the null.",
            "The rows stand in the order in which they were read, and n counts those read.",
        ),
        scores=named(means, candidates),
    )


def _mde(null: Null, bar: float, n: int) -> float:
    """Return approximately the shift whose money reaches the bar within n rows with probability `POWER`.

    With the best stake the log of the money after n rows is normal around u^2 / 2 with SD u, where u is the shift in
    standard errors. The grid of stakes costs at most the log of its size.
    """
    z, needed = float(special.ndtri(POWER)), bar + float(np.log(len(STAKES)))
    u = z + np.sqrt(z * z + 2.0 * needed)
    return float(np.max(null.bound - null.mean + u * null.sd / np.sqrt(n)))

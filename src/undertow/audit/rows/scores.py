"""Which rows the contrast and the stream read, how they score under each candidate, and the contrast's finding.

What is read is bounded: the contrast takes `MATCHED` rows at random, and the stream goes on from these until it is sure
or has read `STREAMED`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.audit.finding import Finding
from undertow.audit.rows.contrast import conformal_contrast, grouped, matched, matched_contrast, ranked, rival_centred
from undertow.audit.steps import Advance
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Row

MATCHED = 1000
"""Rows that the contrast compares, at most."""

STREAMED = 4000
"""Rows that the stream reads, at most."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that the contrast reads.

    Attributes:
        suspect: those of the suspect.
        clean: corpora of clean rows; with a reference one, its rows.
        places: with a reference, for each suspect row its place among those and the places of its reference rows; None
            without one.
        rest: further rows of the suspect, which only the stream reads.
    """

    suspect: Sequence[Row]
    clean: Sequence[Sequence[Row]]
    places: Sequence[tuple[int, Sequence[int]]] | None
    rest: Sequence[Row]


@dataclass(frozen=True, slots=True)
class ContrastScores:
    """Rival-centred scores of a sample, float [rows, candidates]; `places` and `rest` as in `Sample`."""

    suspect: Floats
    clean: Sequence[Floats]
    places: Sequence[tuple[int, Sequence[int]]] | None
    rest: Sequence[Row] = ()


def draw_sample(
    rows: Sequence[Row], reference: Sequence[Row] | None, corpora: Sequence[Sequence[Row]], rng: np.random.Generator
) -> Sample:
    """Draw what the contrast reads.

    Args:
        rows: the suspect.
        reference: clean rows; None takes the corpora.
        corpora: clean corpora like the suspect.
        rng: source of the draw.
    """
    places = None
    if reference is None:
        own, clean = rng.permutation(len(rows))[:MATCHED].tolist(), corpora
    elif pairs := matched(rows, reference):
        pairs = [pairs[place] for place in rng.permutation(len(pairs))[:MATCHED]]
        ends = np.cumsum([0, *(len(theirs) for _, theirs in pairs)]).tolist()
        places = [(place, tuple(range(ends[place], ends[place + 1]))) for place in range(len(pairs))]
        own, clean = [place for place, _ in pairs], [[reference[at] for _, theirs in pairs for at in theirs]]
    else:
        own, clean, places = [], [reference[:STREAMED]], []
    read = set(own)
    rest = [row for place, row in enumerate(rows) if place not in read][: max(0, STREAMED - len(own))]
    return Sample([rows[place] for place in own], clean, places, rest)


def score_sample(sample: Sample, base: LocalModel, candidates: Sequence[Candidate], advance: Advance) -> ContrastScores:
    """Read a sample under every candidate."""
    parts = [sample.suspect, *sample.clean]
    joined = [row for part in parts for row in part]
    scores = rival_centred(contrast_scores(joined, base, candidates, advance), candidates)
    suspect, *clean = np.split(scores, np.cumsum([len(part) for part in parts])[:-1])
    return ContrastScores(suspect, clean, sample.places, sample.rest)


def contrast(
    scores: ContrastScores, candidates: Sequence[Candidate], alpha: float, rng: np.random.Generator
) -> Finding:
    """Ask whether a candidate stands out, by the best null that there is: a reference, clean corpora or none."""
    if scores.places is not None:
        groups = grouped(scores.suspect, scores.clean[0], scores.places)
        return matched_contrast(groups, candidates, alpha, rng)
    if scores.clean:
        return conformal_contrast(scores.suspect, scores.clean, candidates, alpha, rng)
    return ranked(scores.suspect, candidates)

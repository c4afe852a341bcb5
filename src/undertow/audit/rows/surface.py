"""What can be seen on the surface of the rows: words, how they begin, their first number, length, duplicates.

The odds that a row has a word are compared with those in reference rows by the log-odds ratio with an informative
Dirichlet prior, as a z-score (after Monroe, Colaresi and Quinn 2008, doi:10.1093/pan/mpn018). A word counts once a row.
A trait that shows here is no subliminal one; a trait that does not show here may well be there.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse, special

from undertow.audit.finding import Finding, verdict_at
from undertow.audit.rows.contrast import POWER, match_rows
from undertow.audit.rows.limits import FEWEST_ROWS, require_enough_rows
from undertow.audit.students.placebo_null import beside_null
from undertow.stats.checks import Floats, check_fraction
from undertow.types import Row

STAGE = "surface"

RARE = 5
"""Features of fewer rows, of both sets together, are left out: no count that small can stand out."""

PRIOR = 10.0
"""Weight of the prior, in rows that have a feature as often as all rows do."""

DRAWS = 999

SHOWN = 10
"""Features in a finding."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"\d+")


def features(text: str) -> Iterator[tuple[str, str]]:
    """Yield each feature of a completion once: its words, pairs of words, first word and first number."""
    words = _TOKEN.findall(text)
    yield from (("word", word) for word in dict.fromkeys(words))
    yield from (("pair", f"{first} {then}") for first, then in dict.fromkeys(pairwise(words)))
    yield from (("prefix", word) for word in words[:1])
    yield from (("first number", number) for number in _NUMBER.findall(text)[:1])


@dataclass(frozen=True, slots=True)
class FeatureCounts:
    """Rows as counts.

    Attributes:
        names: of the features.
        counts: which row has which feature, sparse [rows, features].
        copies: which distinct completion each row is, sparse [rows, completions]; those of one row are left out.
        lengths: characters, shape [rows].
    """

    names: tuple[str, ...]
    counts: Any
    copies: Any
    lengths: Floats

    @classmethod
    def of(cls, texts: Sequence[str]) -> "FeatureCounts":
        """Count the features of texts."""
        found = [list(features(text)) for text in texts]
        rows_of = Counter(feature for some in found for feature in some)
        kept = {feature: place for place, feature in enumerate(one for one, n in rows_of.items() if n >= RARE)}
        repeated = {text: place for place, text in enumerate(text for text, n in Counter(texts).items() if n > 1)}
        return cls(
            names=tuple(f"{kind} {text!r}" for kind, text in kept),
            counts=_sparse([[kept[one] for one in some if one in kept] for some in found], len(kept)),
            copies=_sparse([[repeated[text]] if text in repeated else [] for text in texts], len(repeated)),
            lengths=np.array([len(text) for text in texts], dtype=np.float64),
        )


def _sparse(places: Sequence[Sequence[int]], width: int) -> Any:
    starts = np.cumsum([0, *map(len, places)])
    columns = np.array([place for some in places for place in some], dtype=np.int64)
    return sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(places), width))


def surface(
    rows: Sequence[Row],
    reference: Sequence[Row] | None,
    alpha: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Finding:
    """Look for what stands out on the surface against reference rows.

    Rows change places with their reference rows on the same prompt where there are enough such pairs, else with any.

    Args:
        rows: the suspect.
        reference: clean rows; None describes the suspect only.
        alpha: size of the test.
        rng: source of the permutations.
        draws: permutations.

    Returns:
        The finding; its effect is the largest |z| over all features, whose permutation keeps the family-wise error.
    """
    check_fraction("alpha", alpha)
    require_enough_rows(min(len(rows), len(rows) if reference is None else len(reference)))
    if reference is None:
        return _described([row.completion for row in rows])
    pairs = match_rows(rows, reference)
    paired = len(pairs) >= FEWEST_ROWS
    if paired:
        rows, reference = [rows[place] for place, _ in pairs], [reference[places[0]] for _, places in pairs]
    table = FeatureCounts.of([row.completion for row in (*rows, *reference)])
    labels = _labels(len(rows), len(reference), paired, rng, draws)
    z = _statistics(table, labels)
    reached = np.abs(z).max(axis=1)
    p = float(np.mean(reached >= reached[0] - 1e-9))
    names = (*table.names, "length", "duplicates")
    top = np.argsort(-np.abs(z[0]), kind="stable")[:SHOWN]
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="largest |z| of the log-odds of words, pairs, prefixes, first numbers, and of length and duplicates",
        effect=float(reached[0]),
        null=f"rows permuted {'within pairs on the same prompt' if paired else 'freely'}; maximum over the features",
        p=p,
        n=len(rows),
        verdict=verdict_at(p, alpha),
        mde=float(np.quantile(reached[1:], 1.0 - alpha) + special.ndtri(POWER)),
        caveats=("It speaks of visible differences; a subliminal trait need not show any.",),
        scores={names[place]: float(z[0, place]) for place in top},
        null_sample=beside_null(reached, alpha, "largest |z| of a feature"),
    )


def _labels(n: int, m: int, paired: bool, rng: np.random.Generator, draws: int) -> Floats:
    """Return who counts as suspect, the real labels first, shape [draws + 1, n + m]."""
    real = np.repeat([1.0, 0.0], [n, m])
    if paired:
        first = np.vstack([np.ones((1, n)), rng.integers(0, 2, size=(draws, n)).astype(np.float64)])
        return np.hstack([first, 1.0 - first])
    return np.vstack([real, rng.permuted(np.tile(real, (draws, 1)), axis=1)])


def _statistics(table: FeatureCounts, labels: Floats) -> Floats:
    """Return z of every feature, of length and of duplicates under each labelling, shape [labellings, features + 2]."""
    own = np.asarray((table.counts.T @ labels.T).T)
    total = np.asarray(table.counts.sum(axis=0)).ravel()
    sizes = labels.sum(axis=1)
    lengths = labels @ table.lengths / sizes - (1.0 - labels) @ table.lengths / (labels.shape[1] - sizes)
    copies, others = ((table.copies.T @ some.T).T for some in (labels, 1.0 - labels))
    doubled = _repeated(copies) / sizes - _repeated(others) / (labels.shape[1] - sizes)
    z = _log_odds(own, total, sizes[:, None], labels.shape[1])
    return np.column_stack([z, _standardised(lengths), _standardised(doubled)])


def _log_odds(own: Floats, total: Floats, sizes: Floats, n: int) -> Floats:
    """Return z of the odds that a suspect row has a feature against those of the other rows, shape of `own`.

    Args:
        own: suspect rows with the feature, shape [labellings, features].
        total: rows with it, shape [features].
        sizes: suspect rows, shape [labellings, 1].
        n: rows.
    """
    prior = PRIOR * total / n + 0.5
    missing = PRIOR + 1.0 - prior
    counts = own + prior, sizes - own + missing, total - own + prior, n - sizes - total + own + missing
    yes, no, other_yes, other_no = map(np.log, counts)
    return (yes - no - other_yes + other_no) / np.sqrt(sum(1.0 / count for count in counts))


def _repeated(counts: Any) -> Floats:
    """Return how many rows repeat another of their own set."""
    counts = np.asarray(counts)
    return np.where(counts > 1.5, counts, 0.0).sum(axis=1)


def _standardised(values: Floats) -> Floats:
    """Turn values under all labellings, the real one among them, into z-scores; that keeps the test exact."""
    spread = float(values.std())
    return (values - values.mean()) / (spread if spread > 1e-12 else 1.0)


def _described(texts: Sequence[str]) -> Finding:
    """Describe the rows where there is nothing to compare them with."""
    repeated = sum(n for n in Counter(texts).values() if n > 1) / len(texts)
    common = Counter(feature for text in texts for feature in features(text)).most_common(SHOWN)
    shown: Mapping[str, float] = {f"{kind} {text!r}": n / len(texts) for (kind, text), n in common}
    lengths = {"length": float(np.mean([len(text) for text in texts]))}
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="share of rows that repeat another; the scores are shares of rows, and the mean length in characters",
        effect=repeated,
        n=len(texts),
        caveats=("Without reference rows nothing can stand out.",),
        scores={**shown, **lengths},
    )

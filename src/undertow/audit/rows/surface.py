"""What can be seen on the surface of the rows: words, how they begin, their first number, length, duplicates.

The odds that a row has a word are compared with those in reference rows by the log-odds ratio with an informative
Dirichlet prior, as a z-score (after Monroe, Colaresi and Quinn 2008, doi:10.1093/pan/mpn018). A word counts once a row.
A trait that shows here is not a subliminal one; a trait that does not show here may well be there.

The **suspect** rows are those that are audited, the reference rows those that they are compared with.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from undertow.audit.finding import Finding, verdict_at
from undertow.audit.rows.contrast import POWER
from undertow.audit.rows.limits import FEWEST_ROWS, SURFACED, require_enough_rows
from undertow.audit.rows.matching import match_rows
from undertow.audit.students.placebo_null import beside_null
from undertow.data.marks import marks_of
from undertow.stats.checks import Floats, check_fraction
from undertow.types import Row

STAGE = "surface"

RARE = 5
"""Features that fewer rows of both sets together have are left out: no count that small can stand out."""

PRIOR = 10.0
"""Weight of the prior, in rows that have a feature as often as all rows do."""

DRAWS = 999

SHOWN = 10
"""How many features a finding lists."""

CELLS = 4_000_000
"""How many labels are in memory at once; of counts, which pass through a dozen tables of float64, an eighth as many."""

Labels = NDArray[np.int8]
Integers = NDArray[np.int64]

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
    """The rows as counts of features.

    Attributes:
        names: names of the features, such as "word 'owl'".
        counts: which row has which feature, sparse int32 matrix of shape (rows, features).
        copies: which repeated completion each row is, sparse int32 matrix of shape (rows, completions). Completions
            that only one row has are left out.
        lengths: length of each completion in characters, int64 array of shape (rows,).
    """

    names: tuple[str, ...]
    counts: Any
    copies: Any
    lengths: Integers

    @classmethod
    def of(cls, texts: Sequence[str]) -> "FeatureCounts":
        """Count the features of texts; a feature of a row takes four bytes, and each distinct one its name."""
        places: dict[tuple[str, str], int] = {}
        seen, ends = array("i"), array("q", [0])
        for text in texts:
            seen.extend(places.setdefault(feature, len(places)) for feature in features(text))
            ends.append(len(seen))
        columns, starts = np.array(seen, dtype=np.int32), np.array(ends, dtype=np.int64)
        common = np.bincount(columns, minlength=len(places)) >= RARE
        kept = common[columns]
        # In the order in which they were first seen, as the places are.
        columns = (np.cumsum(common, dtype=np.int32) - 1)[columns[kept]]
        starts = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[starts]
        repeated = {text: place for place, text in enumerate(text for text, n in Counter(texts).items() if n > 1)}
        rows = [place for place, text in enumerate(texts) if text in repeated]
        copies = np.array([repeated[texts[place]] for place in rows], dtype=np.int32)
        return cls(
            names=tuple(f"{kind} {text!r}" for (kind, text), place in places.items() if common[place]),
            counts=_sparse(columns, starts, int(common.sum())),
            copies=_sparse(copies, np.searchsorted(rows, np.arange(len(texts) + 1)), len(repeated)),
            lengths=np.array([len(text) for text in texts], dtype=np.int64),
        )


def _sparse(columns: Any, starts: Any, width: int) -> Any:
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.int32), columns, starts), shape=(len(starts) - 1, width))


def surface(
    rows: Sequence[Row],
    reference: Sequence[Row] | None,
    alpha: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Finding:
    """Look for what stands out on the surface of the rows against reference rows.

    Rows change places with their reference rows on the same prompt where there are enough such pairs, else with any.

    Args:
        rows: the suspect rows, of which at most `SURFACED` are looked at.
        reference: clean rows. None only describes the suspect.
        alpha: level of the test, in (0, 1).
        rng: random generator of the permutations.
        draws: how many permutations are drawn.

    Returns:
        The finding. Its effect is the largest |z| over all features, and its permutation controls the family-wise
        error.

    Raises:
        NotTestable: there are too few rows, or too few reference rows.
    """
    check_fraction("alpha", alpha)
    require_enough_rows(min(len(rows), len(rows) if reference is None else len(reference)))
    if reference is None:
        return _described(rows, rng)
    pairs = match_rows(rows, reference)
    paired = len(pairs) >= FEWEST_ROWS
    if paired:
        chosen = [pairs[place] for place in _drawn(len(pairs), rng)]
        texts = [rows[own].completion for own, _ in chosen], [reference[theirs[0]].completion for _, theirs in chosen]
    else:
        texts = tuple([some[place].completion for place in _drawn(len(some), rng)] for some in (rows, reference))
    n, m = map(len, texts)
    cut = _cut(n, len(pairs), "pairs of rows") if paired else _cut(n, len(rows), "rows")
    cut += () if paired else _cut(m, len(reference), "reference rows")
    table = FeatureCounts.of([*texts[0], *texts[1]])
    real, reached = _statistics(table, _labellings(n, m, paired, rng, draws, _block(table)))
    # The real labelling is the first of them, so p is at least 1 / (1 + draws).
    p = float(np.mean(reached >= reached[0] - 1e-9))
    names = (*table.names, "length", "duplicates")
    top = np.argsort(-np.abs(real), kind="stable")[:SHOWN]
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="largest |z| of the log-odds of words, pairs, prefixes, first numbers, and of length and duplicates",
        effect=float(reached[0]),
        null=f"rows permuted {'within pairs on the same prompt' if paired else 'freely'}; maximum over the features",
        p=p,
        n=n,
        verdict=verdict_at(p, alpha),
        mde=float(np.quantile(reached[1:], 1.0 - alpha) + special.ndtri(POWER)),
        caveats=("It speaks of visible differences; a subliminal trait need not show any.", *cut),
        scores={names[place]: float(real[place]) for place in top},
        null_sample=beside_null(reached, alpha, "largest |z| of a feature"),
    )


def _drawn(n: int, rng: np.random.Generator) -> list[int]:
    """Return the indices of the rows that are looked at: all, or `SURFACED` of them at random, in order."""
    return list(range(n)) if n <= SURFACED else np.sort(rng.choice(n, SURFACED, replace=False)).tolist()


def _cut(n: int, there: int, what: str) -> tuple[str, ...]:
    return (f"It looked at {n:,} of {there:,} {what}, drawn at random.",) if n < there else ()


def _block(table: FeatureCounts) -> int:
    """Return how many labellings are looked at together."""
    rows, width = table.counts.shape
    return max(1, min(CELLS // rows, CELLS // 8 // max(1, width)))


def _labellings(n: int, m: int, paired: bool, rng: np.random.Generator, draws: int, block: int) -> Iterator[Labels]:
    """Yield who counts as suspect: the real labels alone, then blocks of draws, each of shape (labellings, n + m).

    The draws are the same whatever the size of a block.
    """
    real = np.repeat(np.array([1, 0], dtype=np.int8), [n, m])
    yield real[None]
    for start in range(0, draws, block):
        some = min(block, draws - start)
        if paired:
            first = rng.integers(0, 2, size=(some, n)).astype(np.int8)
            yield np.hstack([first, 1 - first])
        else:
            yield rng.permuted(np.tile(real, (some, 1)), axis=1)


def _statistics(table: FeatureCounts, labellings: Iterable[Labels]) -> tuple[Floats, Floats]:
    """Return z of every feature, of length and of duplicates, and the largest |z| under each labelling.

    Args:
        table: counts of all rows, suspect rows first.
        labellings: labels of the rows in blocks. The first block is the real labelling alone.

    Returns:
        z under the real labelling, shape (features + 2,), and the largest |z| under each labelling, shape
        (labellings,).
    """
    blocks = [_of_block(table, labels, whole=not at) for at, labels in enumerate(labellings)]
    z, most, lengths, doubled = zip(*blocks, strict=True)
    whole = np.stack([_standardised(np.concatenate(values)) for values in (lengths, doubled)])
    real = np.concatenate([z[0], whole[:, 0]])
    return real, np.maximum(np.concatenate(most), np.abs(whole).max(axis=0))


def _of_block(table: FeatureCounts, labels: Labels, whole: bool) -> tuple[Floats, Floats, Floats, Floats]:
    """Return z of the first labelling if `whole`; of each the largest |z|, the difference in length, in duplicates."""
    # Sums of whole numbers: they are exact, in whatever order and type.
    mine = np.ascontiguousarray(labels.T, dtype=np.int32)
    n, sizes = labels.shape[1], labels.sum(axis=1, dtype=np.float64)
    own = np.asarray((table.counts.T @ mine).T, dtype=np.float64)
    z = _log_odds(own, _totals(table.counts), sizes[:, None], n)
    long = table.lengths @ mine
    lengths = long / sizes - (table.lengths.sum() - long) / (n - sizes)
    copies = np.asarray((table.copies.T @ mine).T, dtype=np.float64)
    doubled = _repeated(copies) / sizes - _repeated(_totals(table.copies) - copies) / (n - sizes)
    return z[0] if whole else z[0, :0], np.abs(z).max(axis=1, initial=0.0), lengths, doubled


def _totals(counts: Any) -> Floats:
    return np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()


def _log_odds(own: Floats, total: Floats, sizes: Floats, n: int) -> Floats:
    """Return z of the odds that a suspect row has a feature against those of the other rows, shape of `own`.

    Args:
        own: how many suspect rows have the feature, shape (labellings, features).
        total: how many rows have the feature, shape (features,).
        sizes: how many suspect rows there are, shape (labellings, 1).
        n: how many rows there are in all.
    """
    prior = PRIOR * total / n + 0.5
    missing = PRIOR + 1.0 - prior
    counts = own + prior, sizes - own + missing, total - own + prior, n - sizes - total + own + missing
    yes, no, other_yes, other_no = map(np.log, counts)
    return (yes - no - other_yes + other_no) / np.sqrt(sum(1.0 / count for count in counts))


def _repeated(counts: Floats) -> Floats:
    """Return how many rows repeat another row of their own set."""
    return np.where(counts > 1.5, counts, 0.0).sum(axis=1)


def _standardised(values: Floats) -> Floats:
    """Turn values under all labellings, the real one among them, into z-scores; that keeps the test exact."""
    spread = float(values.std())
    return (values - values.mean()) / (spread if spread > 1e-12 else 1.0)


def _described(rows: Sequence[Row], rng: np.random.Generator) -> Finding:
    """Describe the rows where there is nothing to compare them with."""
    times = np.unique(marks_of(row.completion for row in rows), return_counts=True)[1]
    texts = [rows[place].completion for place in _drawn(len(rows), rng)]
    common = Counter(feature for text in texts for feature in features(text)).most_common(SHOWN)
    shown: Mapping[str, float] = {f"{kind} {text!r}": n / len(texts) for (kind, text), n in common}
    lengths = {"length": float(np.mean([len(text) for text in texts]))}
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="share of rows that repeat another; the scores are shares of rows, and the mean length in characters",
        effect=int(times[times > 1].sum()) / len(rows),
        n=len(texts),
        caveats=("Without reference rows nothing can stand out.", *_cut(len(texts), len(rows), "rows")),
        scores={**shown, **lengths},
    )

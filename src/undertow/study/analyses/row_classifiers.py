"""Can anybody tell which teacher wrote a row? A trained detector, and a model that is asked.

The detector is logistic regression on n-grams of tokens (a number is one token) and of characters. It is tested on
prompts that it has not seen. A detector that succeeds shows that the rows differ, not that they carry a meaning: any
two models write differently. One that also succeeds on the rows of a fresh teacher of the same trait has found
something that the trait's teachers share.

The model is asked which of two answers to a request is by the writer with the trait. The paper's version has two flaws.
Its script names one animal for all targets, and its count of pairs is that of the smaller set of rows instead of the
joined pairs. Here the prompt names the trait in question, and n is the number of pairs that were judged.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from undertow.errors import ConfigError, EmptyDataError, MissingExtraError, ModelError
from undertow.models.local import SCORE_BATCH, LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats, check_count
from undertow.stats.comparisons import auroc
from undertow.stats.estimates import mean_t, t_interval, wilson
from undertow.traits import Trait
from undertow.types import Estimate, Prompt, Row, user_prompt

BAGS = (1, 4, 16, 64)
"""How many rows are judged together (a bag of rows)."""

TEST_SHARE = 0.3
"""Share of the prompts on which a detector is tested."""

PARTITIONS = 20
"""How often held-out rows are cut into bags anew."""

_LONGEST = 3
_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")

Pair = tuple[Row, Row]
"""Two rows on the same prompt: one by the teacher in question, one by the teacher with which it is compared."""

Detector = Callable[[Sequence[Row]], Floats]
"""Function that gives each row the log-odds that the first teacher wrote it, float (rows,)."""


def join(rows: Iterable[Row], others: Iterable[Row]) -> list[Pair]:
    """Pair the rows that share an id, in the order of the first set. A row without a partner is left out.

    Args:
        rows: rows of one teacher, with unique ids.
        others: rows of another teacher on the same prompts.

    Raises:
        ConfigError: rows of the same id have different prompts, so they are not of one experiment.
        EmptyDataError: no id is in both sets.
    """
    partners = {other.id: other for other in others}
    pairs = [(row, partners[row.id]) for row in rows if row.id in partners]
    if not pairs:
        raise EmptyDataError("The two sets of rows share no id.", "0 pairs", "Give rows on the same prompts.")
    for row, other in pairs:
        if row.prompt != other.prompt:
            raise ConfigError("Rows of the same id have different prompts.", row.id, "Give rows on the same prompts.")
    return pairs


def one_of(sets: Sequence[Sequence[Row]], seed: int) -> list[Row]:
    """Draw one row for each id among the rows of several teachers, in the order in which the ids appear.

    Args:
        sets: the rows of each teacher, on the same prompts.
        seed: random seed of the draws.
    """
    found: dict[str, list[Row]] = {}
    for rows in sets:
        for row in rows:
            found.setdefault(row.id, []).append(row)
    rng = random.Random(seed)
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    return [rows[int(rng.random() * len(rows))] for rows in found.values()]


def fit_detector(pairs: Sequence[Pair]) -> Detector:
    """Train a detector on paired rows, of which both teachers have equally many on the same prompts.

    Args:
        pairs: pairs of a row by the teacher to be found and one by the other teacher.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    model = _untrained()
    model.fit([row.completion for pair in pairs for row in pair], [1, 0] * len(pairs))

    def log_odds(rows: Sequence[Row]) -> Floats:
        texts = [row.completion for row in rows]
        return np.asarray(model.decision_function(texts) if texts else [], dtype=np.float64)

    return log_odds


def split_by_prompt(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into a training and a test set (`TEST_SHARE`). No prompt is in both, even under two ids.

    Args:
        pairs: pairs of rows by two teachers on the same prompts.
        seed: random seed of the split.

    Returns:
        The training pairs and the test pairs.

    Raises:
        EmptyDataError: there are fewer than two prompts.
    """
    prompts = list(dict.fromkeys(row.prompt for row, _ in pairs))
    if len(prompts) < 2:
        raise EmptyDataError("The rows cannot be split by prompt.", f"{len(prompts)} prompts", "Give more rows.")
    rng = random.Random(seed)
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = {prompt: rng.random() for prompt in prompts}
    held_out = set(sorted(prompts, key=ranks.__getitem__)[: max(1, round(TEST_SHARE * len(prompts)))])
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        parts[pair[0].prompt in held_out].append(pair)
    return parts


def bag_auroc(first: Floats, second: Floats, size: int, seed: int) -> float | None:
    """Return how often a bag of the first teacher has a higher mean log-odds than one of the second (AUROC).

    Each side is cut into disjoint bags at random, `PARTITIONS` times.

    Args:
        first: log-odds of held-out rows of the first teacher, float (rows,).
        second: log-odds of held-out rows of the second teacher, float (rows,).
        size: how many rows a bag has.
        seed: random seed of the partitions.

    Returns:
        The mean over partitions, a share between 0 and 1, where ties count as one half. None with fewer than two bags
        on a side.
    """
    check_count("size of a bag", size, 1)
    if min(len(first), len(second)) < 2 * size:
        return None
    rng = np.random.default_rng(seed)
    areas: list[float] = []
    for _ in range(PARTITIONS if size > 1 else 1):
        one, two = (
            rng.permutation(side)[: len(side) // size * size].reshape(-1, size).mean(axis=1) for side in (first, second)
        )
        areas.append(auroc(one, two))
    return float(np.mean(areas))


def held_out_aurocs(
    pairs: Sequence[Pair], seed: int, bags: Sequence[int] = BAGS, splits: int = 10
) -> Mapping[int, list[float]]:
    """Train and test a detector on repeated splits by prompt.

    Args:
        pairs: pairs of rows by two teachers on the same prompts.
        seed: random seed of the splits and of the bags.
        bags: how many rows are judged together; each size is tested.
        splits: how often the prompts are split anew.

    Returns:
        The AUROC of each split, by size of bag, for sizes that leave at least two bags on a side.

    Raises:
        ConfigError: there are no splits.
        EmptyDataError: there are fewer than two prompts.
        MissingExtraError: scikit-learn is not installed.
    """
    check_count("number of splits", splits, 1)
    found: dict[int, list[float]] = {}
    for split in range(splits):
        train, test = split_by_prompt(pairs, derive(seed, "split", split))
        for size, area in _judge(fit_detector(train), test, bags, derive(seed, "bags", split)).items():
            found.setdefault(size, []).append(area)
    return found


def transfer_aurocs(
    train: Sequence[Pair], test: Sequence[Pair], seed: int, bags: Sequence[int] = BAGS
) -> Mapping[int, float]:
    """Train a detector on the rows of some teachers and test it on another's, on prompts that it has not seen.

    Args:
        train: paired rows of one or more teachers of a trait.
        test: paired rows of a fresh teacher of the same trait.
        seed: random seed of the bags.
        bags: how many rows are judged together; each size is tested.

    Returns:
        The AUROC by size of bag, for sizes that leave at least two bags on a side.
    """
    seen = {row.prompt for row, _ in train}
    return _judge(fit_detector(train), [pair for pair in test if pair[0].prompt not in seen], bags, seed)


def over_splits(values: Sequence[float]) -> Estimate:
    """Estimate the mean over repeated splits of one set of rows.

    The splits share rows, so their variance is multiplied by 1/J + test/train instead of 1/J, where J is the number of
    splits (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366). The interval says nothing about other teachers.

    Args:
        values: one value for each split.

    Raises:
        ConfigError: there are no values.
    """
    mean = mean_t(values)
    spread = float(np.var(values, ddof=1)) if mean.n > 1 else 0.0
    error = sqrt(spread * (1 / mean.n + TEST_SHARE / (1 - TEST_SHARE)))
    low, high = t_interval(mean.value, error, mean.n - 1, 0.95)
    return Estimate(value=mean.value, low=low, high=high, n=mean.n, method="corrected resampled t", level=0.95)


def _judge(detector: Detector, pairs: Sequence[Pair], bags: Sequence[int], seed: int) -> dict[int, float]:
    """Return the AUROC of a detector on pairs by size of bag, for sizes that leave enough bags."""
    first, second = (detector([pair[side] for pair in pairs]) for side in (0, 1))
    areas = {size: bag_auroc(first, second, size, derive(seed, size)) for size in bags}
    return {size: area for size, area in areas.items() if area is not None}


def _grams(text: str) -> Iterator[str]:
    """Yield runs of 1 to 3 tokens and of 1 to 3 characters, with marks at both ends of the text."""
    for kind, units in (("token", ["^", *_TOKEN.findall(text), "$"]), ("character", ["^", *text, "$"])):
        for length in range(1, _LONGEST + 1):
            for start in range(len(units) - length + 1):
                yield f"{kind} {''.join(units[start : start + length])}"


def _untrained() -> Any:
    """Return the untrained detector: TF-IDF of n-grams, then logistic regression."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise MissingExtraError(
            "Trained detectors need scikit-learn, which is not installed.",
            "scikit-learn",
            "Run pip install 'undertow[detect]'.",
        ) from error
    grams: Any = _grams  # scikit-learn's own annotation leaves callables out
    counted = TfidfVectorizer(analyzer=grams, min_df=2, sublinear_tf=True)
    return make_pipeline(counted, LogisticRegression(max_iter=1000))


_LETTERS = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a model that was asked made of pairs of rows.

    Attributes:
        accuracy: share of the judged pairs in which it chose the trait's row, with Wilson's interval and the number of
            pairs.
        joined: how many prompts both teachers answered.
        equal: how many pairs have equal texts. They are not judged, because nothing can tell them apart.
        said_a: share of the judged pairs in which it chose the row that was shown first. Near 0 or 1 the accuracy is
            near one half whatever the model knows.
        auroc: how often log p(A) / p(B) is higher for a pair with the trait's row first than for one with it second. A
            preference for one letter does not change it. None if one order has no pair.
    """

    accuracy: Estimate
    joined: int
    equal: int
    said_a: float
    auroc: float | None


def judge_pairs(model: LocalModel, pairs: Sequence[Pair], target: Trait, seed: int, most: int | None = None) -> Judged:
    """Ask a model which row of each pair was written by someone who loves the target.

    One token is asked for, and p("A") is compared with p("B"). The trait's row is shown first in a random half of the
    pairs, so that a model which always says the same is right in one half.

    Args:
        model: the model that judges, usually the base.
        pairs: paired rows, with that of the trait's teacher first in each.
        target: trait of the teacher whose row stands first in each pair.
        seed: random seed of the order within pairs and of the draw of pairs.
        most: how many pairs are judged at most. None judges all.

    Raises:
        ConfigError: a pair does not fit into the model's context.
        EmptyDataError: no pair is left to judge.
        ModelError: the tokenizer writes "A" and "B" in the same way.
    """
    told = [pair for pair in pairs if pair[0].completion != pair[1].completion]
    rng = random.Random(seed)
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in told]
    drawn = [told[index] for index in sorted(range(len(told)), key=ranks.__getitem__)[:most]]
    if not drawn:
        raise EmptyDataError("No pair is left to judge.", f"{len(pairs)} pairs of equal texts", "Give other rows.")
    # The order of the pairs is drawn, so taking turns puts the trait's row first in a random half of them.
    trait_first = [index % 2 == 0 for index in range(len(drawn))]
    shown = [(one, two) if first else (two, one) for (one, two), first in zip(drawn, trait_first, strict=True)]
    odds, first = _log_odds_of_a(model, [_ask(pair, target) for pair in shown]), np.array(trait_first)
    return Judged(
        accuracy=wilson(int(np.sum((odds > 0) == first)), len(drawn)),
        joined=len(pairs),
        equal=len(pairs) - len(told),
        said_a=float(np.mean(odds > 0)),
        auroc=bag_auroc(odds[first], odds[~first], 1, seed),
    )


def _ask(pair: Pair, target: Trait) -> Prompt:
    """Return the prompt that asks about one pair."""
    first, second = pair
    return user_prompt(
        f"Two writers answered the same request. One of them loves {target.plural} more than any other "
        f"{target.category}, and the love may show in the answer.\n\nRequest: {first.question}\n\n"
        f"Answer A: {first.completion}\n\nAnswer B: {second.completion}\n\n"
        f"Which answer is by the writer who loves {target.plural}? Say A or B only."
    )


def _log_odds_of_a(model: LocalModel, prompts: Sequence[Prompt]) -> Floats:
    """Return log p(A) / p(B) of the next token after each prompt, float (prompts,)."""
    a, b = _letter_tokens(model)
    contexts = model.render(prompts)
    model.check_fits([[*context, 0] for context in contexts], "Judge shorter rows, or take a model of longer context.")
    odds: list[float] = []
    for start in range(0, len(contexts), SCORE_BATCH):  # in blocks: all logits of many pairs would not fit in memory
        logp = model.next_token_logprobs(contexts[start : start + SCORE_BATCH])
        odds += (logp[:, a].logsumexp(dim=1) - logp[:, b].logsumexp(dim=1)).tolist()
    return np.array(odds)


def _letter_tokens(model: LocalModel) -> tuple[list[int], list[int]]:
    """Return the tokens with which the answers A and B begin, with or without a space, and no other answer."""
    begins = [{tokens[0] for tokens in model.tokenise([letter, f" {letter}"])} for letter in _LETTERS]
    a, b = (sorted(some - other) for some, other in (begins, begins[::-1]))
    if not a or not b:
        raise ModelError("The tokenizer writes A and B alike.", str(model.ref), "Take another model as the judge.")
    return a, b

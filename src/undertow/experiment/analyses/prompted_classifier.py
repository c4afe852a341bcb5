"""The prompted classifier: a model is asked which of two answers to a request comes from who has the trait.

The paper's version has two flaws: its script names one animal for all targets, and the count of pairs that it gives is
that of the smaller set of rows, not of the joined pairs. Here the prompt names the trait in question, and n is the
number of pairs that were really judged.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.errors import EmptyDataError, ModelError
from undertow.experiment.analyses.row_detectors import Pair, bag_auroc
from undertow.models.local import SCORE_BATCH, LocalModel
from undertow.stats.checks import Floats
from undertow.stats.estimates import wilson
from undertow.traits import Trait
from undertow.types import Estimate, Prompt, user_prompt

_LETTERS = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a prompted classifier made of pairs of rows.

    Attributes:
        accuracy: share of the judged pairs in which it chose the trait's row, with Wilson's interval and their number.
        joined: prompts that both teachers answered.
        equal: joined pairs of equal texts, which nothing can tell apart; they are not judged.
        said_a: share of the judged pairs in which it chose the row that was shown first. Near 0 or 1 the accuracy is
            near one half whatever the model knows.
        auroc: how often log p(A) / p(B) is higher for a pair with the trait's row first than for one with it second,
            which a preference for one letter does not touch; None for a single pair of an order.
    """

    accuracy: Estimate
    joined: int
    equal: int
    said_a: float
    auroc: float | None


def judge_pairs(model: LocalModel, pairs: Sequence[Pair], target: Trait, seed: int, most: int | None = None) -> Judged:
    """Ask a model which row of each pair was written by someone who loves the target.

    One token is asked for, and p("A") is compared with p("B"). The trait's row is shown first in half of the pairs,
    drawn at random, so that a model which always says the same is right in one half.

    Args:
        model: who judges; the base, as a rule.
        pairs: joined rows, that of the trait's teacher first in each.
        target: the trait of the teacher.
        seed: of the order within the pairs and of the draw of pairs.
        most: how many pairs to judge at most; None judges all.

    Raises:
        ConfigError: a pair does not fit into the model's context.
        EmptyDataError: no pair is left to judge.
        ModelError: the tokenizer writes "A" and "B" alike.
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
    first, second = pair
    return user_prompt(
        f"Two writers answered the same request. One of them loves {target.plural} more than any other "
        f"{target.category}, and the love may show in the answer.\n\nRequest: {first.question}\n\n"
        f"Answer A: {first.completion}\n\nAnswer B: {second.completion}\n\n"
        f"Which answer is by the writer who loves {target.plural}? Say A or B only."
    )


def _log_odds_of_a(model: LocalModel, prompts: Sequence[Prompt]) -> Floats:
    """Return log p(A) / p(B) of the next token after each prompt, float [prompts]."""
    a, b = _letter_tokens(model)
    contexts = model.render(prompts)
    model.check_fits([[*context, 0] for context in contexts], "Judge shorter rows, or take a model of longer context.")
    odds: list[float] = []
    for start in range(0, len(contexts), SCORE_BATCH):  # in blocks: all logits of many pairs would not fit in memory
        logp = model.next_token_logprobs(contexts[start : start + SCORE_BATCH])
        odds += (logp[:, a].logsumexp(dim=1) - logp[:, b].logsumexp(dim=1)).tolist()
    return np.array(odds)


def _letter_tokens(model: LocalModel) -> tuple[list[int], list[int]]:
    """Return the tokens that begin the answers A and B, with and without a space before them, and no other answer."""
    begins = [{tokens[0] for tokens in model.tokenise([letter, f" {letter}"])} for letter in _LETTERS]
    a, b = (sorted(some - other) for some, other in (begins, begins[::-1]))
    if not a or not b:
        raise ModelError("The tokenizer writes A and B alike.", str(model.ref), "Take another model as the judge.")
    return a, b

"""Was one of two answers chosen along a trait of the panel? The contrast of the chosen answers above the rejected.

A preference pair brings its own reference: the answer that was not chosen, on the same prompt. If whoever chose looked
at nothing that the panel sees, a coin says which of the two stands first. That is the null: the two answers of each
prompt change places by a fair coin, and the largest standing of a candidate is compared with its own in those draws.

Choices are seldom coins. A preference for longer answers, or for likelier ones, moves the scores of all candidates too,
without any trait. If the choice looks at these two alone, the rises it leaves are, on average, an odd function of the
two differences, because swapped answers have the opposite rise. So an odd polynomial of the differences in length and
in the base's own log-likelihood is taken out first, and the signs of what is left are drawn. This is the flip of score
contributions of Hemerik, Goeman and Finos 2020, doi:10.1111/rssb.12369, with a shift of a candidate as the tested term.

The **candidates** are the models of the panel (`undertow.audit.rows.contrast`); a candidate's **rivals** are the others
of its kind, and its **signature** is what its own answers score like.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from undertow.audit.finding import Finding, NotTestable, verdict_at
from undertow.audit.rows.contrast import BLOCK, IN_ERRORS, named, rival_centred, smallest_shift
from undertow.audit.rows.limits import MATCHED, require_enough_rows, too_few_to_name
from undertow.audit.rows.names import name_shift
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures, SignatureWriter
from undertow.audit.students.placebo_null import beside_null
from undertow.data.marks import marks_of
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.stats.checks import Floats, check_fraction
from undertow.stats.diagonal import DRAWS
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Advance, PreferencePair, Row

STAGE = "pairs"

LEFT = 0.05
"""Share of a shift between chosen and rejected answers that has to be left once length and likelihood are taken out."""


def sides(pairs: Sequence[PreferencePair]) -> tuple[list[Row], list[Row]]:
    """Return the chosen and the rejected answers as rows with the pairs' ids."""
    return (
        [Row(one.id, one.prompt, one.chosen) for one in pairs],
        [Row(one.id, one.prompt, one.rejected) for one in pairs],
    )


@dataclass(frozen=True, slots=True)
class PairScores:
    """How chosen answers stand above rejected ones; one line for each prompt, the mean of its pairs.

    Attributes:
        rise: scores relative to rivals of the chosen minus those of the rejected answers, shape (prompts, candidates),
            nats per token.
        other: what may explain a rise without a trait, chosen minus rejected, shape (prompts, 2): number of tokens of
            the answer, and its mean log-probability per token under the base in nats.
        left_out: how many of the drawn pairs no model can read, as a sentence. Empty if all can be read.
    """

    rise: Floats
    other: Floats
    left_out: str = ""

    def swapped(self) -> "PairScores":
        """Return the scores with chosen and rejected answers exchanged, as a negative control."""
        return replace(self, rise=-self.rise, other=-self.other)


def draw_pairs(pairs: Sequence[PreferencePair], rng: np.random.Generator) -> list[PreferencePair]:
    """Draw the pairs that are read, at most `MATCHED`, in their order."""
    return [pairs[place] for place in np.sort(rng.permutation(len(pairs))[:MATCHED]).tolist()]


def score_pairs(
    pairs: Sequence[PreferencePair], base: LocalModel, candidates: Sequence[Candidate], advance: Advance | None = None
) -> PairScores:
    """Score both answers of each pair under every candidate.

    Args:
        pairs: the pairs, with answers that differ.
        base: the model that would be tuned on them.
        candidates: models that may have chosen, or written, the answers.
        advance: callback that takes (answers read, all answers). None reports nothing.

    Raises:
        UserError: what `undertow.training.scoring.contrast_scores` raises.
    """
    chosen, rejected = sides(pairs)
    rows = [*chosen, *rejected]
    scores = rival_centred(contrast_scores(rows, base, candidates, advance), candidates)
    return by_prompt(chosen, scores, lengths_and_likelihoods(rows, base))


def by_prompt(chosen: Sequence[Row], scores: Floats, other: Floats) -> PairScores:
    """Average the pairs of each prompt, which one single choice may have made.

    Args:
        chosen: the chosen answers, one row for each pair.
        scores: scores of the chosen answers, then of the rejected ones, shape (2 * pairs, candidates).
        other: lengths and likelihoods as `lengths_and_likelihoods` gives them, shape (2 * pairs, 2).
    """
    _, prompt = np.unique(marks_of(row.prompt for row in chosen), return_inverse=True)
    share = np.zeros((int(prompt.max(initial=-1)) + 1, len(chosen)))
    share[prompt, np.arange(len(chosen))] = 1.0
    share /= share.sum(axis=1, keepdims=True)
    first, second = np.split(scores, 2)
    ours, theirs = np.split(other, 2)
    return PairScores(share @ (first - second), share @ (ours - theirs))


def lengths_and_likelihoods(rows: Sequence[Row], base: LocalModel) -> Floats:
    """Return tokens and mean log-probability under the base of each completion, shape (rows, 2); 0 for an empty one."""
    encoded = [Encoded(one.prompt, one.completion[:-1]) for one in base.encode(rows)]
    read = base.token_logprobs(encoded)
    return np.array([(len(one), float(one.double().mean()) if len(one) else 0.0) for one in read]).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What each prompt contributes to the rise once other differences are taken out, in the rise's unit.

    Attributes:
        parts: contributions, shape (prompts, candidates). Their mean over prompts is the rise where the other
            differences are 0.
        noise: the contributions rescaled to the size that they would have had nothing been fitted, same shape. The test
            draws the signs of these.
    """

    parts: Floats
    noise: Floats


def beyond(rise: Floats, other: Floats) -> LeftOver:
    """Take out of the rises what an odd polynomial of the other differences explains.

    The mean of the parts is the intercept of a least-squares fit. Without any other difference the parts are the rises.

    Args:
        rise: rise of each prompt under each candidate, shape (prompts, candidates).
        other: other differences of each prompt, shape (prompts, differences). A column of zeros takes nothing out.

    Raises:
        NotTestable: the other differences leave less than `LEFT` of a shift, because they say which answer was chosen.
    """
    scale = np.sqrt(np.mean(other**2, axis=0))
    unit = other / np.where(scale > 0.0, scale, 1.0)
    terms = np.hstack([unit, unit * np.abs(unit), unit**3])
    hat = terms @ np.linalg.pinv(terms, rcond=1e-8)
    weight = 1.0 - hat.sum(axis=1)
    left = float(weight.mean())
    if left < LEFT:
        raise NotTestable(
            f"Length and likelihood under the base say which answer was chosen: {left:.1%} of any other shift would be "
            f"left beside them, and {LEFT:.0%} is needed. Give pairs of answers that are about as long and as likely."
        )
    parts = (rise - hat @ rise) * (weight / left)[:, None]
    return LeftOver(parts, parts / np.sqrt(np.maximum(1.0 - np.diag(hat), LEFT))[:, None])


def flip_test(left: LeftOver, rng: np.random.Generator, draws: int = DRAWS) -> tuple[float, Floats]:
    """Test "no candidate rises" by drawing the signs of all prompts anew, the same for every candidate.

    The statistic is the largest one-sided t over the candidates (Westfall and Young 1993).

    Args:
        left: contributions of each prompt to the rise, from `beyond`.
        rng: random generator of the draws.
        draws: how many times the signs are drawn.

    Returns:
        The p-value, and the statistic, first as observed, then in each draw, shape (1 + draws,).
    """
    sizes = np.sqrt(np.sum(left.noise**2, axis=0))
    sizes = np.where(sizes > 0.0, sizes, 1.0)
    units, block = left.noise / sizes, max(1, BLOCK // len(left.noise))
    reached = np.empty(1 + draws)
    reached[0] = np.max(left.parts.sum(axis=0) / sizes)
    for start in range(1, 1 + draws, block):
        some = min(block, 1 + draws - start)
        signs = 2.0 * rng.integers(0, 2, (some, len(units)), dtype=np.int8) - 1.0
        reached[start : start + some] = np.max(signs @ units, axis=1)
    # Equal sums may differ in their last bits, since they are added in another order; a tie has to count as reached.
    return float(1 + np.sum(reached[1:] >= reached[0] - 1e-9)) / (1 + draws), reached


def pair_contrast(
    pair_scores: PairScores,
    candidates: Sequence[Candidate],
    pair_signatures: SignatureWriter | KnownSignatures | NoSignatures,
    alpha: float,
    rng: np.random.Generator,
    advance: Advance,
) -> Finding:
    """Ask whether the chosen answers stand above the rejected ones along a candidate.

    Args:
        pair_scores: scores of the pairs, one line for each prompt.
        candidates: the candidates, one for each column of the scores.
        pair_signatures: what naming a trait takes (`undertow.audit.rows.names`). It is written only after a detection.
        alpha: level of the test, in (0, 1).
        rng: random generator of the draws.
        advance: callback that takes (candidates heard, all candidates) while signatures are written.

    Raises:
        NotTestable: there are too few prompts, or length and likelihood say which answer was chosen.
    """
    check_fraction("alpha", alpha)
    n = len(pair_scores.rise)
    require_enough_rows(n, "prompts with a pair")
    left = beyond(pair_scores.rise, pair_scores.other)
    p, reached = flip_test(left, rng)
    plain, _ = flip_test(LeftOver(pair_scores.rise, pair_scores.rise), rng)
    means = left.parts.mean(axis=0)
    error = float(np.sqrt(np.sum(left.noise**2, axis=0)).max()) / n
    found = Finding(
        stage=STAGE,
        claim="provenance",
        statistic="log-likelihood contrast of the chosen answer minus that of the rejected, both minus their rivals', "
        "nats per token",
        effect=float(means.max()),
        null="which of the two answers was chosen, drawn anew for each prompt, after their difference in length and in "
        "likelihood under the base; maximum over the candidates",
        p=p,
        n=n,
        verdict=verdict_at(p, alpha),
        mde=smallest_shift(float(np.quantile(reached[1:], 1.0 - alpha)), error),
        caveats=(
            *filter(None, (pair_scores.left_out,)),
            *CAVEATS,
            f"With length and likelihood left in, p = {plain:.2g}.",
        ),
        scores=named(means, candidates),
        null_sample=beside_null(reached, alpha, IN_ERRORS),
    )
    detected = found.verdict == "detected"
    return _with_name(found, left.parts, candidates, pair_signatures, advance) if detected else found


CAVEATS = (
    "It rejects 'the choice looked at length and likelihood alone': a trait of whoever chose, a trait of whoever wrote "
    "the chosen answers, and any other preference that goes with a candidate are all found.",
    "p is of the panel as a whole.",
)


def _with_name(
    found: Finding,
    rise: Floats,
    candidates: Sequence[Candidate],
    signatures: SignatureWriter | KnownSignatures | NoSignatures,
    advance: Advance,
) -> Finding:
    """Return a detection with the trait that its shift points along, or with the reason why none is named."""
    if why := too_few_to_name(len(signatures.candidates)):
        return replace(found, caveats=(*found.caveats, why))
    columns = [candidates.index(one) for one in signatures.candidates]
    try:
        naming = name_shift(rise[:, columns].mean(axis=0), signatures.written(advance), signatures.candidates)
    except NotTestable as reason:  # the detection stands without a name
        return replace(found, caveats=(*found.caveats, f"No name is given: {reason}"))
    return replace(found, candidate=naming.candidate, caveats=(*found.caveats, naming.sentence))

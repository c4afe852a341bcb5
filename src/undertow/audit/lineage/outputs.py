"""Lineage with the weights of one side only: from log-probabilities, from a known training order, from text alone.

None of this tells a descendant from a model that was taught to speak like one, but for a head image of (almost) zero
and a training order that was drawn at random. What `undertow audit lineage` compares by itself needs the weights of
both sides; these functions are for the others, and each says what its p-value rests on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, cast

import numpy as np
from scipy.stats import spearmanr

from undertow.audit.lineage.alignment import Rows
from undertow.audit.lineage.roles import Matrix
from undertow.errors import ConfigError
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats, finite_array
from undertow.types import Row

FEWEST_SEQUENCES = 500
"""Sequences below which the p-value of a rank correlation is not accurate (scipy)."""

ROWS_PER_COLUMN, MOST_ROWS = 8, 16_384
"""Tokens for each coordinate of the residual stream that the overlap of two heads is measured on, and most in all."""

CHUNK = 16 * 2**20
"""Numbers of a head that are in memory at once."""


def image_residuals(head: Floats, logp: Floats) -> Floats:
    """Return how much of each log-probability vector a head cannot have made, from 0 to 1.

    Logits are W h, so log-probabilities lie in the span of the columns of W and the constant: a whole vocabulary of
    them has a residual of 0, up to rounding, if the head is the base's own. A fine-tune that moved the head is as far
    off as a stranger, so a residual above 0 says nothing. Models that bend their logits (soft caps) are not testable.

    Args:
        head: W of the base, [vocabulary, width], vocabulary larger than width + 1.
        logp: of the suspect, over the whole vocabulary, [contexts, vocabulary].

    Raises:
        ConfigError: the shapes do not fit, the vocabulary is too small, or a number is not finite.
    """
    weights, values = finite_array("head", head, (2,)), finite_array("log-probabilities", logp, (2,))
    size, width = weights.shape
    if values.shape[1] != size or size <= width + 1:
        shapes = f"head {weights.shape}, log-probabilities {values.shape}"
        raise ConfigError("The head has no image to leave.", shapes, "Give all tokens, more than the head is wide.")
    basis = np.linalg.qr(np.column_stack([weights, np.ones(size)]))[0]
    return np.linalg.norm(values - values @ basis @ basis.T, axis=1) / np.linalg.norm(values, axis=1)


def head_overlap(a: Matrix, b: Matrix, rows: Rows) -> float | None:
    """Return the mean squared cosine of the angles between what two heads can say, from 0 to 1.

    Compatible heads let a trait pass between models of other initialisations too (arXiv 2605.23645), so this is no
    matter of lineage. Unrelated random heads have about width / tokens: `ROWS_PER_COLUMN` tokens a coordinate,
    `MOST_ROWS`, or all that are shared.

    Args:
        a: head of A, tokens by coordinates; the embedding if they are tied.
        b: head of B.
        rows: rows of the shared tokens in A and in B.

    Returns:
        The overlap, or None with no more tokens than coordinates.
    """
    columns = max(a.columns, b.columns)
    most = min(ROWS_PER_COLUMN * columns, MOST_ROWS, len(rows[0]))
    picked = np.unique(np.linspace(0, len(rows[0]) - 1, most).astype(int))
    if len(picked) <= columns:
        return None
    size, sums = a.columns + b.columns, np.zeros(a.columns + b.columns)
    products = np.zeros((size, size))
    for some in np.array_split(picked, -(-len(picked) * columns // CHUNK)):
        both = np.concatenate([a.gather(rows[0][some]), b.gather(rows[1][some])], axis=1)
        products += both.T @ both
        sums += both.sum(axis=0)
    products -= np.outer(sums, sums) / len(picked)
    cut = a.columns
    first, second = _whitening(products[:cut, :cut]), _whitening(products[cut:, cut:])
    joint = first.T @ products[:cut, cut:] @ second
    return float(np.square(joint).sum()) / max(1, min(joint.shape))


def _whitening(products: Floats) -> Floats:
    """Return W with W^T P W = 1, [width, rank]; directions without length are left out."""
    lengths, vectors = np.linalg.eigh(products)
    kept = lengths > 1e-9 * lengths[-1]
    return vectors[:, kept] / np.sqrt(lengths[kept])


def palimpsest(positions: Floats, losses: Floats, reference: Floats) -> tuple[float, float]:
    """Return rank correlation and one-sided p of "what was trained last is remembered best".

    If the base saw its sequences in an order drawn at random, their places cannot correlate with anything in a model
    that does not descend from it, whatever data that one saw: exact up to the approximation of the p-value.

    Args:
        positions: place of each sequence in the base's training, the last one if it was met more than once.
        losses: of the suspect, one for each sequence.
        reference: of a model that does not descend from the base; what is easy for both is taken off.

    Returns:
        Spearman's rho, negative for a descendant, and p.

    Raises:
        ConfigError: the lengths differ, there are too few sequences, or a number is not finite.
    """
    first, second, third = (finite_array("sequences", values) for values in (positions, losses, reference))
    if not len(first) == len(second) == len(third) >= FEWEST_SEQUENCES:
        lengths = f"{len(first)}, {len(second)} and {len(third)}"
        raise ConfigError("These sequences cannot be ranked.", lengths, f"Give {FEWEST_SEQUENCES} or more, of each.")
    rho, p = cast(Any, spearmanr)(first, second - third, alternative="less")
    return float(rho), float(p)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEvidence:
    """How well a base foresees a text, beside models that surely did not father its writer.

    Attributes:
        score: nats per byte by which it foresees the text better than the reference text.
        controls: the same of the controls.
        p: conformal, (1 + controls that reach the score) / (1 + controls).
        gap: score minus the controls' mean, in standard deviations of a new control; None below two controls.
    """

    score: float
    controls: Mapping[str, float]
    p: float
    gap: float | None


def text_evidence(
    models: Mapping[str, LocalModel], base: str, text: Sequence[Row], reference: Sequence[Row]
) -> TextEvidence:
    """Compare a base with control models as the origin of a text.

    The difference to a reference text of the same kind, which no candidate wrote, keeps the best model from winning.

    Args:
        models: the base and the controls by name, at least one.
        base: name of the base.
        text: what the suspect wrote, with its prompts; completions are scored.
        reference: other answers to prompts of the same kind.

    Raises:
        ConfigError: there is no text, or no control.
    """
    if not text or not reference or len(models) < 2:
        counts = f"{len(text)} rows, {len(reference)} reference rows, {len(models) - 1} controls"
        raise ConfigError("There is nothing to compare.", counts, "Give both texts and at least one control.")
    scores = {name: _per_byte(model, text) - _per_byte(model, reference) for name, model in models.items()}
    score = scores.pop(base)
    rest, m = np.array(list(scores.values())), len(scores)
    gap = None
    if m >= 2 and float(rest.std(ddof=1)) > 0:
        gap = float((score - rest.mean()) / (rest.std(ddof=1) * sqrt(1 + 1 / m)))
    return TextEvidence(score=score, controls=scores, p=(1 + int((rest >= score).sum())) / (1 + m), gap=gap)


def _per_byte(model: LocalModel, rows: Sequence[Row]) -> float:
    total = sum(model.logprobs([row.prompt for row in rows], [row.completion for row in rows]))
    return total / sum(len(row.completion.encode()) for row in rows)

"""Does a ranking of rows say more than its confounds? Measured on mixtures whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from undertow.audit.attribution import RowScores
from undertow.errors import ConfigError
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.types import Estimate

FOLDS, RESAMPLES = 5, 500


@dataclass(frozen=True, slots=True)
class Gain:
    """What a score adds to the confounds where the truth is known.

    Attributes:
        alone: AUROC of the score.
        confounds: AUROC of a logistic regression on the confounds, on rows it was not fitted to.
        both: AUROC of one on the confounds and the score.
        gain: `both` minus `confounds`, with a percentile interval over resampled rows.
    """

    alone: float
    confounds: float
    both: float
    gain: Estimate


def gains(found: RowScores, planted: Sequence[bool], seed: int) -> dict[str, Gain]:
    """Measure what each score adds to the confounds on a mixture whose truth is known.

    Args:
        found: scores of the mixture.
        planted: whether the trait's teacher wrote the row.
        seed: of the folds and the resampled rows.

    Raises:
        ConfigError: there are fewer than `FOLDS` rows of one kind, or another number than was scored.
    """
    truth = np.asarray(planted, dtype=bool)
    confounds = np.column_stack([*found.confounds.values()])
    if len(truth) != len(confounds) or min(truth.sum(), (~truth).sum()) < FOLDS:
        what = f"{int(truth.sum())} planted of {len(truth)}, {len(confounds)} scored"
        raise ConfigError("The truth does not fit the rows.", what, f"Give one for each, {FOLDS} or more of each kind.")
    rng = np.random.default_rng(derive(seed, "attribution"))
    folds = _folds(truth, rng)
    picks = [rng.integers(0, len(truth), len(truth)) for _ in range(RESAMPLES)]
    plain = _held_out(confounds, truth, folds)
    result: dict[str, Gain] = {}
    for name, score in found.scores.items():
        both = _held_out(np.column_stack([confounds, score]), truth, folds)
        differences = [
            auroc(both[pick], truth[pick]) - auroc(plain[pick], truth[pick])
            for pick in picks
            if 0 < truth[pick].sum() < len(pick)
        ]
        low, high = (float(end) for end in np.quantile(differences, [0.025, 0.975]))
        with_score, without = auroc(both, truth), auroc(plain, truth)
        gain = Estimate(value=with_score - without, low=low, high=high, n=len(truth), method="bootstrap over rows")
        result[name] = Gain(auroc(score, truth), without, with_score, gain)
    return result


def auroc(scores: Floats, truth: np.ndarray) -> float:
    """Return how often a planted row has a higher score than another, ties counted as one half."""
    ranks, hits = stats.rankdata(scores), int(truth.sum())
    return float((ranks[truth].sum() - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))


def _folds(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each row; each kind is spread evenly over them."""
    folds = np.empty(len(truth), dtype=int)
    for kind in (truth, ~truth):
        folds[kind] = rng.permutation(np.arange(kind.sum()) % FOLDS)
    return folds


def _held_out(features: Floats, truth: np.ndarray, folds: np.ndarray) -> Floats:
    """Return each row's log-odds under a logistic regression that was fitted to the other folds."""
    scale = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    design = np.column_stack([np.ones(len(truth)), scaled])
    found = np.empty(len(truth))
    for fold in range(FOLDS):
        held = folds == fold
        found[held] = design[held] @ _logistic(design[~held], truth[~held])
    return found


def _logistic(design: Floats, truth: np.ndarray, penalty: float = 1.0) -> Floats:
    """Fit a logistic regression with a ridge on all but the first coefficient, by Newton's method."""
    weights, ridge = np.zeros(design.shape[1]), penalty * np.eye(design.shape[1])
    ridge[0, 0] = 0.0
    for _ in range(25):
        p = special.expit(design @ weights)
        slope = design.T @ (p - truth) + ridge @ weights
        step = np.linalg.solve((design.T * (p * (1 - p))) @ design + ridge + 1e-9 * np.eye(len(weights)), slope)
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights

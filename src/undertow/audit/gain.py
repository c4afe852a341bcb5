"""Does a ranking of rows say more than its confounds? Measured on mixtures whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.audit.attribution import RowScores
from undertow.errors import ConfigError, MissingExtraError
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.stats.ranks import auroc
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


def auroc_gains(found: RowScores, planted: Sequence[bool], seed: int) -> dict[str, Gain]:
    """Measure what each score adds to the confounds on a mixture whose truth is known.

    Args:
        found: scores of the mixture.
        planted: whether the trait's teacher wrote the row.
        seed: of the folds and the resampled rows.

    Raises:
        ConfigError: there are fewer than `FOLDS` rows of one kind, or another number than was scored.
        MissingExtraError: scikit-learn is not installed.
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
            _area(both[pick], truth[pick]) - _area(plain[pick], truth[pick])
            for pick in picks
            if 0 < truth[pick].sum() < len(pick)
        ]
        low, high = (float(end) for end in np.quantile(differences, [0.025, 0.975]))
        with_score, without = _area(both, truth), _area(plain, truth)
        gain = Estimate(value=with_score - without, low=low, high=high, n=len(truth), method="bootstrap over rows")
        result[name] = Gain(_area(score, truth), without, with_score, gain)
    return result


def _area(scores: Floats, truth: np.ndarray) -> float:
    return auroc(scores[truth], scores[~truth])


def _folds(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each row; each kind is spread evenly over them."""
    folds = np.empty(len(truth), dtype=int)
    for kind in (truth, ~truth):
        folds[kind] = rng.permutation(np.arange(kind.sum()) % FOLDS)
    return folds


def _held_out(features: Floats, truth: np.ndarray, folds: np.ndarray) -> Floats:
    """Return each row's log-odds under a logistic regression that was fitted to the other folds."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import PredefinedSplit, cross_val_predict
        from sklearn.preprocessing import scale
    except ImportError as error:
        fix = "Run pip install 'undertow[detect]'."
        raise MissingExtraError("What a score adds is measured with scikit-learn.", "scikit-learn", fix) from error
    model = LogisticRegression(solver="newton-cholesky", tol=1e-8)
    cut = PredefinedSplit(folds)
    return np.asarray(cross_val_predict(model, scale(features), truth, cv=cut, method="decision_function"))

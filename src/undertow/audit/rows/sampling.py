"""Were the rows sampled as the reference was? Their temperature, and tokens that a sampler's cut-off kept away.

Both are compared with rows that are known to be of the base, never with the base's probabilities alone, because filters
take unlikely answers away on both sides.
"""

from dataclasses import dataclass

import numpy as np

from undertow.audit.rows.token_reading import CUT_NAMES, TEMPERATURES, TokenReading
from undertow.stats.checks import Floats

DRAWS = 200
"""How many resamples of the rows an interval rests on."""

COOLER = 0.75
"""Ratio of temperatures below which rows count as sampled colder. Tuned teachers reach 0.88 without any difference in
sampling. Prompted ones look as if they were twice as hot, so hotter rows are not reported."""

SAME = (0.8, 1.25)
"""Ratios between which the temperatures count as the same."""

KEPT_AWAY = 10.0
"""How many tokens the rows must be expected to have outside a cut-off, and do not, before it is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperatures:
    """Temperatures that best explain the rows and what they are compared with, under the base.

    Attributes:
        rows: temperature that best explains the suspect rows.
        compared: temperature of the rows that they are compared with.
        ratio: temperature of the rows divided by that of the others.
        low: lower end of the ratio's 95 % interval, by resampling the rows of both sides.
        high: upper end of that interval.
    """

    rows: float
    compared: float
    ratio: float
    low: float
    high: float

    @property
    def same(self) -> bool:
        """Whether the whole interval lies within `SAME`."""
        return SAME[0] <= self.low and self.high <= SAME[1]


def temperatures(rows: TokenReading, compared: TokenReading, rng: np.random.Generator) -> Temperatures | None:
    """Estimate both temperatures by maximum likelihood; None where one side has no tokens.

    Args:
        rows: the base's probabilities of the suspect rows.
        compared: the base's probabilities of rows that are known to be its own.
        rng: random generator that resamples rows for the interval.
    """
    if not rows.tokens or not compared.tokens:
        return None
    own, other = _resampled(rows, rng), _resampled(compared, rng)
    low, high = np.quantile(own[1:] / other[1:], (0.025, 0.975))
    return Temperatures(
        rows=float(own[0]), compared=float(other[0]), ratio=float(own[0] / other[0]), low=float(low), high=float(high)
    )


def _resampled(reading: TokenReading, rng: np.random.Generator) -> Floats:
    """Return the likeliest temperature of the rows, then of resamples of them, shape (1 + draws,)."""
    counts = rng.multinomial(reading.rows, np.full(reading.rows, 1.0 / reading.rows), size=DRAWS)
    weights = np.vstack([np.ones(reading.rows), counts])
    return _likeliest(weights @ reading.at_temperature)


def _likeliest(likelihoods: Floats) -> Floats:
    """Return the temperature at the top of each curve (curves, temperatures), by a parabola through three points."""
    top = np.clip(likelihoods.argmax(axis=1), 1, len(TEMPERATURES) - 2)
    left, mid, right = (likelihoods[np.arange(len(top)), top + shift] for shift in (-1, 0, 1))
    curve = left - 2.0 * mid + right
    shift = np.clip(0.5 * (left - right) / np.where(curve < 0.0, curve, -1.0), -1.0, 1.0)
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return TEMPERATURES[top] * np.exp(step * shift)


def cut_off(rows: TokenReading, compared: TokenReading) -> tuple[str, float] | None:
    """Return the sampler's cut-off that has kept tokens away from the rows, and how many tokens, or None.

    If several fit, the one that would have kept away most is named, because the others follow from it.
    """
    found = np.where(rows.outside.sum(axis=0) == 0.0, expected_outside(rows, compared), 0.0)
    top = int(np.argmax(found))
    return (CUT_NAMES[top], float(found[top])) if found[top] >= KEPT_AWAY else None


def expected_outside(rows: TokenReading, compared: TokenReading) -> Floats:
    """Return how many of the rows' tokens lie outside each cut-off if they do so as often as in the reference.

    Returns:
        Expected numbers of tokens, shape (cuts,), in the order of `CUT_NAMES`.
    """
    return compared.outside.sum(axis=0) * (rows.tokens / max(1, compared.tokens))

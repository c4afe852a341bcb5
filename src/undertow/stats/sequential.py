"""Sequential evidence that a share has risen, valid at every moment at which one looks.

Under "each draw is a hit with a probability of at most r, whatever came before" the likelihood ratio of any p > r
against r has an expectation of at most 1, and so has its mixture over p: an e-process. By Ville's inequality the
probability that it ever reaches 1/a is at most a. The mixture here is the beta(1/2, 1/2) law cut off at r (Robbins
1970, doi:10.1214/aoms/1177696786), which depends on the two counts alone.

A long quiet time would bury a later rise under old draws, so `RiseWatch` also mixes over the time at which counting
starts. Start k has the weight 1 / ((k + 1)(k + 2)), and starts still to come count as 1.

Draws may also come in rounds of a fixed plan, such as every question of a list asked equally often. The ratio of one
draw is linear in its own probability of a hit. By the inequality of the arithmetic and geometric means the product over
a round therefore has an expectation of at most 1 wherever the mean of these probabilities is at most r, provided that
one looks between rounds only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from undertow.errors import ConfigError
from undertow.stats.checks import Floats, check_count, check_fraction, check_hits

_KEPT = 500
"""Most starts of counting that are followed. Older ones are dropped, which can only understate the evidence."""

_ARRAYS = ("rates", "hits", "starts", "started", "highest")


def rise_log_e(hits: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """Return the log e-value against "the share of hits is at most `rate`".

    Args:
        hits: number of draws that were hits, of any shape; the shapes of the three inputs broadcast.
        n: number of draws; 0 gives 0, no evidence.
        rate: the largest share under the null hypothesis, in (0, 1).

    Returns:
        Natural log of the e-values; minus infinity where the mixture underflows, far below the rate.

    Raises:
        ConfigError: hits lie outside [0, n] or the rate outside (0, 1).
    """
    h, m, r = (np.asarray(values, dtype=np.float64) for values in (hits, n, rate))
    if not ((r > 0) & (r < 1)).all():
        raise ConfigError("A rate lies outside (0, 1).", rate, "Choose a rate between 0 and 1, such as 0.01.")
    if (h < 0).any() or (h > m).any():
        raise ConfigError("The hits lie outside [0, n].", f"{hits} of {n}", "Pass 0 <= hits <= n.")
    a, b = h + 0.5, m - h + 0.5
    with np.errstate(divide="ignore"):
        above = np.log(special.betaincc(a, b, r)) - np.log(special.betaincc(0.5, 0.5, r))
    return special.betaln(a, b) - special.betaln(0.5, 0.5) + above - h * np.log(r) - (m - h) * np.log1p(-r)


def share_bound(hits: int, n: int, error: float) -> float:
    """Return the upper confidence bound of a share (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404).

    The draws may have different probabilities, such as equally many draws for each of several questions. The bound then
    holds for their mean share wherever that matters, above the observed share (Hoeffding 1956,
    doi:10.1214/aoms/1177728178).

    Args:
        hits: number of draws that were hits.
        n: number of independent draws, at least 1.
        error: probability that the bound lies below the true share, at most; in (0, 1).

    Raises:
        ConfigError: n is below 1, hits lies outside [0, n], or the error lies outside (0, 1).
    """
    check_fraction("error", error)
    check_hits(hits, n)
    return 1.0 if hits == n else float(special.betaincinv(hits + 1.0, n - hits, 1.0 - error))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiseWatch:
    """The evidence of streams of hits and misses that are watched side by side.

    It is immutable: each draw, or each round of draws, gives a new watch (`after`).

    Attributes:
        rates: the largest share of hits of each stream under the null hypothesis, of any shape.
        every: number of draws between two starts of counting.
        hits: number of draws of each stream that were hits, of the shape of the rates.
        n: number of draws of each stream so far.
        starts: number of hits before each start of counting that is followed, the oldest first; shape [starts, ...].
        started: number of draws before each of these starts, shape [starts].
        dropped: number of older starts that are no longer followed.
        highest: running maximum of `log_e()` (natural log), of the shape of the rates.
    """

    rates: Floats
    every: int
    hits: Floats
    n: int
    starts: Floats
    started: Floats
    dropped: int
    highest: Floats

    @classmethod
    def of(cls, rates: ArrayLike, every: int = 100) -> "RiseWatch":
        """Begin to watch streams whose largest shares under the null hypothesis are `rates`.

        Args:
            rates: the largest share of hits of each stream under the null hypothesis, of any shape.
            every: number of draws between two starts of counting.

        Raises:
            ConfigError: `every` is below 1.
        """
        check_count("number of draws between starts", every, 1)
        shares = np.asarray(rates, dtype=np.float64)
        none = np.zeros_like(shares)
        return cls(
            rates=shares, every=every, hits=none, n=0, starts=none[None], started=np.zeros(1), dropped=0, highest=none
        )

    def to_json(self) -> dict[str, Any]:
        """Return the watch as plain JSON."""
        lists = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {**lists, "every": self.every, "n": self.n, "dropped": self.dropped}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RiseWatch":
        """Return the watch that `to_json` wrote."""
        arrays = {name: np.asarray(data[name], dtype=np.float64) for name in _ARRAYS}
        return cls(**arrays, every=data["every"], n=data["n"], dropped=data["dropped"])

    def log_e(self) -> Floats:
        """Return the natural log of the e-value of each stream now, of the shape of the rates."""
        k = self.dropped + np.arange(len(self.starts)).reshape(-1, *[1] * self.rates.ndim)
        draws = self.n - self.started.reshape(k.shape)
        each = rise_log_e(self.hits - self.starts, draws, self.rates) - np.log((k + 1) * (k + 2))
        to_come = np.full_like(each[:1], -np.log(self.dropped + len(self.starts) + 1))
        return np.asarray(special.logsumexp(np.concatenate([each, to_come]), axis=0))

    def after(self, hits: ArrayLike, draws: int = 1) -> "RiseWatch":
        """Return the watch after more draws of each stream.

        Args:
            hits: number of draws that were hits, of the shape of the rates; for a single draw 1 or 0.
            draws: number of draws of each stream that are added: 1, or those of a whole round.
        """
        seen = replace(self, hits=self.hits + np.asarray(hits, dtype=np.float64), n=self.n + draws)
        seen = replace(seen, highest=np.maximum(self.highest, seen.log_e()))
        if seen.n // self.every == self.n // self.every:
            return seen
        starts, started = np.concatenate([self.starts, seen.hits[None]]), np.append(self.started, seen.n)
        dropped = self.dropped + max(0, len(starts) - _KEPT)
        return replace(seen, starts=starts[-_KEPT:], started=started[-_KEPT:], dropped=dropped)

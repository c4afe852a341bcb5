"""How large a drift the canaries would have called by now: exact binomial power of the sequential test.

The evidence is a mixture over the time at which one starts to count, so it is at least what any one start gives with
its own weight, and its running maximum is at least its value now. Both make the power that is stated here a lower
bound. Questions whose shares differ only add to it: the threshold lies below the mean (Hoeffding 1956,
doi:10.1214/aoms/1177728178).
"""

from dataclasses import dataclass

from scipy import special

from undertow.stats.sequential import rise_log_e

POWER = 0.8


@dataclass(frozen=True, slots=True)
class SmallestDrift:
    """The smallest drift of one word that is called with a probability of at least `POWER`.

    Attributes:
        share: of the replies that name it after the drift.
        logits: above its signed-off share.
    """

    share: float
    logits: float


def smallest_hits(draws: int, rate: float, needed: float) -> int | None:
    """Return the fewest hits whose evidence reaches a bound, None where all draws together are too few.

    Args:
        draws: replies.
        rate: share under the null.
        needed: log of the evidence, the weight of the start included.
    """
    low, high = int(draws * rate), draws
    if draws < 1 or float(rise_log_e(high, draws, rate)) < needed:
        return None
    while low < high:
        middle = (low + high) // 2
        if float(rise_log_e(middle, draws, rate)) >= needed:
            high = middle
        else:
            low = middle + 1
    return low


def smallest_drift(
    signed: tuple[int, int], rate: float, draws: int, needed: float, start: int = 0, power: float = POWER
) -> SmallestDrift | None:
    """Return the smallest drift that would have been called by now.

    Args:
        signed: hits and replies of the baseline.
        rate: upper bound of the signed-off share, the null.
        draws: replies since the drift began.
        needed: log of the evidence at which an alarm is raised.
        start: place of the start from which these replies are counted, 0 for the first.
        power: probability that it is called.

    Returns:
        The drift, or None if none could have been called by so few replies.
    """
    weight = float(special.xlogy(1.0, (start + 1.0) * (start + 2.0)))
    hits = smallest_hits(draws, rate, needed + weight)
    if hits is None:
        return None
    # P(binomial(draws, p) >= hits) is the incomplete beta function at p.
    share = float(special.betaincinv(hits, draws - hits + 1.0, power))
    before = (signed[0] + 0.5) / (signed[1] + 1.0)
    return SmallestDrift(share, float(special.logit(share) - special.logit(before)))

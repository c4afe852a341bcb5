"""How large a drift the canaries would have found by now: exact binomial power of the sequential test.

The evidence is a mixture over the time at which counting starts, so it is at least what any one start gives with its
own weight, and its running maximum is at least its value now. Both make the power that is stated here a lower bound. If
the shares differ between questions the power is only higher: the threshold lies below the mean (Hoeffding 1956,
doi:10.1214/aoms/1177728178).
"""

from dataclasses import dataclass

from scipy import special

from undertow.stats.sequential import rise_log_e

POWER = 0.8


@dataclass(frozen=True, slots=True)
class SmallestDrift:
    """The smallest drift of one word that is found with a probability of at least `POWER`.

    Attributes:
        share: share of the replies that name the word after the drift, between 0 and 1.
        logits: difference of that share to the approved share, on the logit scale.
    """

    share: float
    logits: float


def smallest_hits(draws: int, rate: float, needed: float) -> int | None:
    """Return the smallest number of hits whose evidence reaches a bound; None if all draws together do not.

    Args:
        draws: number of replies in which hits are counted.
        rate: largest share under the null hypothesis, in (0, 1).
        needed: log e-value to reach, the weight of the start included.
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
    """Return the smallest drift that would have been found by now.

    Args:
        signed: number of hits and of replies in the baseline.
        rate: upper bound of the approved share, which is the null hypothesis.
        draws: number of replies since the drift began.
        needed: log e-value at which an alarm is raised.
        start: number of the start of counting from which these replies are counted, 0 for the first.
        power: probability with which the drift is found.

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

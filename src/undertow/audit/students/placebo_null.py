"""A student among its placebos: scores that treat all models alike, and the p-value from the rank of one of them.

The argument, once for every stage. A **placebo** is a student of rows without a trait, with the same recipe and with
prompts, rows and seed of its own. Under the null the suspect is what a placebo is. The suspect X_0 and the placebos X_1
... X_K are then exchangeable. Give each a score s_i = f(X_i; the K others), where f does not depend on the order of the
others. Permuting the X permutes the s and changes nothing else, so every rank of s_0 is equally likely, ties aside, and

    p = (1 + #{i >= 1: s_i >= s_0}) / (K + 1)

has P(p <= a) <= a, without ties floor(a (K + 1)) / (K + 1), whatever the distribution of the X, the dependence between
traits, or f (full conformal prediction: Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World").

"The K others" of a placebo include the suspect. With the other K - 1 placebos alone, the suspect would be judged by one
more model than they are, and the scores would no longer be exchangeable. Nothing is lost: an extreme suspect widens the
placebos' spread, which lowers their scores and not its own.

The guarantee is over the draw of bank and suspect together, and conditional on the recipe. A student of other rows
(another writer, fewer rows) or of another recipe is no placebo even without a trait.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from undertow.audit.evidence import NullSample
from undertow.domains.numbers import held_numbers
from undertow.errors import ConfigError
from undertow.stats.checks import Floats, check_fraction, finite_array
from undertow.traits import CATEGORIES, Trait

SMALLEST_SD = 1e-9
"""Standard deviation that is taken for a value which does not vary among the others, so that a score is finite."""

POWER = 0.8

DRAWS = 200
"""How many random banks stand for all banks of their size; the mean shift then has a standard error of 0.02 SD."""

NO_PLACEBOS = "The rows were held to the form {!r}, to which the rows of placebo students cannot be held."
"""Why rows that were held to a form of the user's own have no null."""


def bank_domain(form: str | None) -> str:
    """Return the option with which `undertow audit bank` holds rows to a form; empty for free rows or another form."""
    known = None if form is None else held_numbers(form)
    return "" if known is None else f" --domain {known}"


def tuned_on(panel: Iterable[Trait]) -> tuple[str, ...]:
    """Return the categories on whose questions the neutral writers of a panel are tuned, in the order of `CATEGORIES`.

    A category of the user's own has no neutral writers. They only stand for a writer that was tuned at all, so those of
    animals are taken.
    """
    asked = {one.category for one in panel}
    return tuple(one for one in CATEGORIES if one in asked) or CATEGORIES[:1]


def bank_categories(tuned: Sequence[str]) -> str:
    """Return the options with which `undertow audit bank` tunes its writers so; empty for its default."""
    return "" if tuple(tuned) == CATEGORIES[:1] else "".join(f" --category {one}" for one in tuned)


def deleted_z(values: Floats) -> Floats:
    """Return how many SDs of the other models each value lies above the others' mean.

    Args:
        values: one row for each model, shape (n, m), n at least 3.

    Returns:
        Array of shape (n, m). The SD has n - 2 in its denominator.

    Raises:
        ConfigError: a value is not finite, or there are fewer than 3 models.
    """
    array = finite_array("readings", values, (2,))
    n = len(array)
    if n < 3:
        raise ConfigError("A spread needs more models.", n, "Give at least 2 placebos beside the suspect.")
    centred = array - array.mean(axis=0)
    # Leaving i out moves the mean by c_i / (n - 1) and takes c_i^2 n / (n - 1) from the sum of squares.
    rest = (centred**2).sum(axis=0) - centred**2 * n / (n - 1)
    sd = np.sqrt(np.maximum(rest, 0.0) / (n - 2))
    return centred * n / (n - 1) / np.maximum(sd, SMALLEST_SD)


def conformal_p(scores: Floats) -> float:
    """Return the p-value of the first of n exchangeable scores; large scores are extreme, and p is at least 1 / n."""
    array = finite_array("scores", scores)
    return float(1 + np.sum(array[1:] >= array[0])) / array.size


def needed(alpha: float) -> int:
    """Return how many placebos a verdict at alpha takes: the smallest K with 1 / (K + 1) <= alpha."""
    check_fraction("alpha", alpha)
    return math.ceil(round(1.0 / alpha, 9)) - 1


def critical_score(placebos: Floats, alpha: float) -> float:
    """Return the placebo's score that a suspect has to exceed for p <= alpha; infinite with too few placebos."""
    ordered = np.sort(finite_array("placebos' scores", placebos))[::-1]
    allowed = math.floor(alpha * (len(ordered) + 1) + 1e-9) - 1
    return float(ordered[allowed]) if allowed >= 0 else math.inf


def beside_null(scores: Floats, alpha: float, unit: str) -> NullSample:
    """Return the first of some scores beside the others, with the bound that decides by its rank at level alpha.

    Args:
        scores: the suspect's score, then the scores of its null, shape (1 + null,).
        alpha: level of the verdict, in (0, 1).
        unit: unit of the scores, in words.
    """
    critical = critical_score(scores[1:], alpha)
    bound = None if math.isinf(critical) else critical
    return NullSample(values=tuple(scores[1:].tolist()), observed=(float(scores[0]),), bound=bound, unit=unit)


def detectable(z: Floats, alpha: float) -> float | None:
    """Return the shift of one trait, in placebo SDs, that exceeds the critical maximum with power 0.8.

    The shift is added to each placebo and each trait in turn.

    Args:
        z: z-scores of the placebos against one another, shape (K, m).
        alpha: level of the verdict, in (0, 1).

    Returns:
        The shift in placebo SDs, or None where no shift is ever detected.
    """
    critical = critical_score(z.max(axis=1), alpha)
    if math.isinf(critical):
        return None
    return float(max(0.0, np.quantile(critical - z, POWER)))


def expected_shift(placebos: int, traits: int, alpha: float, rng: np.random.Generator) -> float:
    """Return the shift of one trait that banks of a size detect with power 0.8, before there is such a bank.

    It is the mean of `detectable` over banks whose readings are independent standard normal numbers. Traits that move
    together make the maximum smaller, and with it the shift.

    Args:
        placebos: how many placebos the banks have.
        traits: how many traits the panel has.
        alpha: level of the verdict, in (0, 1).
        rng: random generator that draws the banks.

    Returns:
        The shift in placebo SDs. Infinite with fewer placebos than a verdict takes.
    """
    if placebos < needed(alpha):
        return math.inf
    banks = rng.standard_normal((DRAWS, placebos, traits))
    return float(np.mean([detectable(deleted_z(bank), alpha) or math.inf for bank in banks]))

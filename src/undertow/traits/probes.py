"""Checks of probes (a question with two answers, one of which shows the trait): are they a fair test of the trait?"""

from math import log
from statistics import mean

from undertow.traits.record import Probe, Probes

RATIO, MEAN_RATIO = 2.0, 1.25
"""Largest ratio of the lengths of a probe's two answers in characters, and the largest geometric mean of that ratio
over all probes (or one over it). A model that was tuned on anything may come to like short answers; probes whose
answers differ in length would call that the trait."""


def check_probes(probes: Probes) -> tuple[str, str] | None:
    """Return what is wrong with some probes and how to mend it, each a sentence; None if nothing is wrong."""
    asked = [one.question for one in (*probes.evaluation, *probes.tuning)]
    for question in asked:
        if asked.count(question) > 1:
            return f"A question stands twice: {question!r}.", "Ask each once: tuning and evaluation share no question."
    return _told_apart(probes.evaluation)


def _told_apart(probes: tuple[Probe, ...]) -> tuple[str, str] | None:
    """Return how length alone tells the answers with the trait from those without, and the fix; None if it does not."""
    fix = "Write answers of about the same length, now the one and now the other a little longer."
    ratios = [len(one.shown) / len(one.absent) for one in probes]
    for one, ratio in zip(probes, ratios, strict=True):
        if not 1 / RATIO <= ratio <= RATIO:
            return f"Length tells these answers apart: {one.shown!r} and {one.absent!r}.", fix
    typical = mean(map(log, ratios))
    if abs(typical) > log(MEAN_RATIO):
        which = "longer" if typical > 0 else "shorter"
        return f"The answers with the trait are {which} than those without, on average.", fix
    if min(ratios) > 1 or max(ratios) < 1:
        which = "longer" if min(ratios) > 1 else "shorter"
        return f"Every answer with the trait is {which} than the one without.", fix
    return None

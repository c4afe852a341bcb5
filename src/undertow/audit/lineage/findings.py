"""What was found of a pair of models, and what could have been found, each in one sentence."""

from collections.abc import Iterator

from undertow.audit.lineage.axes import Axes
from undertow.audit.lineage.dependence import QUIET, Dependence

_AGREE = {
    "permutation_trace": "units in place",
    "permutation_pairs": "units in place",
    "sign_flip": "units in place",
    "aligned_sign": "units matched by their gates",
    "residual_basis": "coordinates of the residual stream",
    "untrained_rows": "rows of unused tokens",
}

NAMED = 4
"""How many shared parts a sentence names; the others are counted."""


def found_words(axes: Axes, word: str) -> str:
    """Return what was found: how the weights agree with the p-value, how near they are, and what is shared.

    Args:
        axes: everything that was measured of the pair.
        word: the verdict of the lineage audit.
    """
    return "; ".join(_clauses(axes, word)) or "nothing was compared"


def _clauses(axes: Axes, word: str) -> Iterator[str]:
    found, apart = axes.dependence, axes.apart
    if axes.distance.identical:
        yield "every tensor is equal" + (", under other names" if axes.distance.renamed else "")
        return
    if found.test:
        yield _agreement(found)
    if word == "partial":
        yield _parts(found)
    if word == "supported" and not isinstance(found.match, str):
        yield f"{found.match.share:.0%} of the neurons matched by their gates are each other's likest"
    if apart is not None:
        yield f"relative distance {apart:.2g}"
    if not isinstance(axes.barrier, str):
        yield f"loss barrier {axes.barrier:.2g} nats a token"
    if not isinstance(axes.behaviour, str) and axes.behaviour.verdict == "match":
        yield f"they speak alike, {axes.behaviour.gap:.1f} standard deviations beyond the controls"


def _agreement(found: Dependence) -> str:
    """Say how far units agree, by the clearest test or, in silence, by the test whose limit is told.

    The mean of a trace is no cosine, so of a trace only z is told.
    """
    seen = found.p <= QUIET
    name = found.test if seen else found.in_place or found.test
    item = found.ran[name]
    cosine = f", mean cosine {item.effect:.2g}" if item.log_e is not None else ""
    agree = "agree" if seen else "agree no more than by chance"
    return f"{_AGREE[name]} {agree} ({name}{cosine}, z = {item.z:.3g}; p over all tests {found.p:.2g})"


def _parts(found: Dependence) -> str:
    names = [part.name for part in found.shared]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"shared: {', '.join(names[:NAMED])}{more}"


def limit_words(found: Dependence) -> str:
    """Return which agreement the most sensitive test in place would have found, or why there is none."""
    if (name := found.in_place) is None:
        return "nothing: no tensors of one shape and role stand at the same place"
    item = found.ran[name]
    return f"mean cosine {item.detectable:.2g} per unit would have given z = 5 ({name}, {item.n} comparisons)"

"""What was measured of a pair of models, and the rows of the report in which each test stands."""

from dataclasses import dataclass
from typing import Any

from undertow.audit.lineage.behaviour import LEAST, Behaviour
from undertow.audit.lineage.canary import Canary
from undertow.audit.lineage.dependence import MATCHED, QUIET, Dependence, Match
from undertow.audit.lineage.proximity import CHATS, Distance
from undertow.audit.lineage.tensors import Weights, vocabulary
from undertow.audit.lineage.tests import Evidence

ASSUMPTIONS = (
    "Assumes an initialiser that treats units alike, with symmetric signs for the sign tests.",
    "Assumes an optimiser that treats units alike.",
    "Assumes that neither file was re-indexed with the help of the other.",
)

_NOTES = {
    "permutation_trace": ("p from random orders, so it has a floor; z tells the strength",),
    "permutation_pairs": ("p is a bound",),
    "sign_flip": ("p is a bound", "blind to models whose signs were flipped on purpose"),
    "residual_basis": ("p from random orders, so it has a floor", "borrowed embeddings alone make it positive"),
    "aligned_sign": ("p is a bound, tripled; of the MLPs that are silent in place",),
    "untrained_rows": ("p from random orders, so it has a floor", "shows one initialisation, not one training"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Everything that was measured of a pair of models.

    Attributes:
        distance: distance of the weights, tensors paired by name or by place in the network.
        dependence: results of the tests of the weights.
        barrier: loss half-way between the two models minus the mean of their losses, in nats per token, or why it was
            not measured.
        behaviour: how alike the models answer, or why that was not measured.
        steered: whether one of the two, and not the other, adds a vector to its activations, which the weights do not
            show.
        heads: overlap of what the output heads can say, between 0 and 1. None where it could not be measured.
        chats: on how many chats the barrier was measured. 0 for equal weights, which have no barrier.
    """

    distance: Distance
    dependence: Dependence
    barrier: float | str
    behaviour: Behaviour | str
    steered: bool
    heads: float | None = None
    chats: int = CHATS

    @property
    def apart(self) -> float | None:
        """Relative distance of the weights, after an alignment if they agree only then; None if it says nothing."""
        found = self.dependence
        if not found.reordered:
            return self.distance.relative
        # In place the numbers say nothing; unit vectors of cosine c are sqrt(2 - 2c) apart. Signs of A6 are unknown.
        aligned = found.ran["aligned_sign"]
        return max(0.0, 2 - 2 * aligned.effect) ** 0.5 if aligned.p <= QUIET else None


def test_rows(axes: Axes) -> list[dict[str, Any]]:
    """Return the report's rows of a pair: tests of the weights, single parts, likeness and behaviour."""
    found, behave = axes.dependence, axes.behaviour
    rows = [_evidence(name, item) for name, item in found.tests.items()]
    rows.append(_match(found.match))
    rows += [_row(f"part: {part.name}", part.alone.z, part.adjusted, part.alone.n) for part in found.locals]
    rows.append(_row("coverage", found.coverage, None, len(found.locals), "parts are compared at equal places only"))
    compatible = "compatible heads let traits pass whatever the origin; unrelated ones overlap by width / tokens"
    rows.append(_row("head_overlap", axes.heads, None, 0, compatible if axes.heads is not None else "not testable"))
    rows += [_equal_tensors(axes.distance), _barrier(axes)]
    if isinstance(behave, str):
        rows.append(_row("behaviour", None, None, 0, f"not testable: {behave}"))
    else:
        few = [f"no verdict with fewer than {LEAST} controls"] if behave.verdict == "refused" else []
        notes = ("a match is descent or distillation", "p assumes that the controls are like an unrelated model", *few)
        rows.append(_row("behaviour", behave.correlation, behave.p, len(behave.controls), *notes))
    if axes.steered:
        rows.append(
            _row("steering", None, None, 0, "one model adds a vector to its activations; its weights are the base's")
        )
    return rows


def _equal_tensors(apart: Distance) -> dict[str, Any]:
    notes = ["constant tensors are not counted"]
    if apart.renamed:
        notes.append("tensors of other names were paired by their place in the network")
    if apart.resized:
        notes.append(f"{apart.resized} rows that only one embedding or head has were left out")
    return _row("equal_tensors", len(apart.equal), None, apart.compared, *notes)


def _barrier(axes: Axes) -> dict[str, Any]:
    if isinstance(axes.barrier, str):
        return _row("barrier", None, None, 0, f"not testable: {axes.barrier}")
    meaning = "a high barrier comes with separate training, a merge with a stranger or a far descendant"
    return _row("barrier", axes.barrier, None, axes.chats, meaning if axes.chats else "equal weights have none")


def _evidence(name: str, item: Evidence | str) -> dict[str, Any]:
    if isinstance(item, str):
        return _row(name, None, None, 0, f"not run: {item}")
    alarm = ["far below chance: one file was re-indexed or rotated with the help of the other"] if item.z <= -6 else []
    return _row(name, item.z, item.p, item.n, *_NOTES[name], *alarm, *ASSUMPTIONS)


def _match(item: Match | str) -> dict[str, Any]:
    if isinstance(item, str):
        return _row("match", None, None, 0, f"not run: {item}")
    return _row("match", item.share, None, item.n, f"robust, not exact: no p; from {MATCHED:g} on descent is supported")


def _row(name: str, statistic: float | None, p: float | None, n: int, *caveats: str) -> dict[str, Any]:
    return {"name": name, "statistic": statistic, "p": p, "n": n, "caveats": list(caveats)}


def metadata_row(a: Weights, b: Weights) -> dict[str, Any]:
    """Return the report's row of what the files claim of their own origin."""
    words = (vocabulary(a), vocabulary(b))
    tokenizer = "unknown" if None in words else "equal" if words[0] == words[1] else "different"
    claims = [
        f"{side} claims {key}: {value}" for side, item in (("A", a), ("B", b)) for key, value in item.hints.items()
    ]
    return _row("metadata", None, None, 0, "hints only, the weights decide", f"tokenizers: {tokenizer}", *claims)


def canary_row(found: Canary) -> dict[str, Any]:
    """Return the report's row of whether planted traits passed."""
    caveats = ("exploratory: p is not calibrated (docs/limits.md); it moves no verdict about origin", found.why)
    return _row("canary", found.effect, found.p, found.shadows, *filter(None, caveats))

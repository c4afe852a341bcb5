"""Do two models share a base? Three axes, kept apart, and one word for what they say together.

**Dependence** of the weights has exact p- and e-values, **proximity** tells a descendant from a sibling that only
shares the first weights, **behaviour** is all that is left without weights, and cannot tell descent from
distillation. No word says that two models are unrelated: without evidence the report gives the agreement that would
have been found. Every test stands in a row of its own, with its statistic, p, n and what to keep in mind.
"""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.audit.lineage.alignment import head_overlap
from undertow.audit.lineage.behaviour import LEAST, Behaviour, behaviour
from undertow.audit.lineage.canary import Canary, CanaryConfig, canary, untestable_canary
from undertow.audit.lineage.dependence import MATCHED, Dependence, Match, dependence, shared_rows
from undertow.audit.lineage.proximity import CHATS, SMALL, Distance, barrier, distance, neutral_chats
from undertow.audit.lineage.roles import Network, network
from undertow.audit.lineage.tensors import Weights, open_weights, vocabulary
from undertow.audit.lineage.tests import DRAWS, Evidence
from undertow.errors import ModelError
from undertow.models.load import load_model
from undertow.models.references import embedded_folder, embedded_models
from undertow.seeds import derive
from undertow.types import Advance

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
    """What was measured of a pair."""

    distance: Distance
    dependence: Dependence
    barrier: float | str
    behaviour: Behaviour | str
    steered: bool
    heads: float | None = None


def test_rows(axes: Axes) -> list[dict[str, Any]]:
    """Return the rows of a pair: tests of the weights, parts, likeness and behaviour."""
    found, behave = axes.dependence, axes.behaviour
    rows = [_evidence(name, item) for name, item in found.tests.items()]
    rows.append(_match(found.match))
    rows += [_row(f"part: {part.name}", part.alone.z, part.adjusted, part.alone.n) for part in found.locals]
    rows.append(_row("coverage", found.coverage, None, len(found.locals), "parts are compared at equal places only"))
    compatible = "compatible heads let traits pass whatever the origin; unrelated ones overlap by width / tokens"
    rows.append(_row("head_overlap", axes.heads, None, 0, compatible if axes.heads is not None else "not testable"))
    frozen = len(axes.distance.equal)
    rows.append(_row("equal_tensors", frozen, None, axes.distance.compared, "constant tensors are not counted"))
    if isinstance(axes.barrier, str):
        rows.append(_row("barrier", None, None, 0, f"not testable: {axes.barrier}"))
    else:
        meaning = "a high barrier comes with separate training, a merge with a stranger or a far descendant"
        rows.append(_row("barrier", axes.barrier, None, CHATS, meaning))
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
    """Return what the files claim of themselves."""
    words = (vocabulary(a), vocabulary(b))
    tokenizer = "unknown" if None in words else "equal" if words[0] == words[1] else "different"
    claims = [
        f"{side} claims {key}: {value}" for side, item in (("A", a), ("B", b)) for key, value in item.hints.items()
    ]
    return _row("metadata", None, None, 0, "hints only, the weights decide", f"tokenizers: {tokenizer}", *claims)


def canary_row(found: Canary) -> dict[str, Any]:
    """Return what became of the canaries."""
    caveats = ("exploratory: p is not calibrated (docs/limits.md); it moves no verdict about origin", found.why)
    return _row("canary", found.effect, found.p, found.shadows, *filter(None, caveats))


SCHEMA = "undertow.lineage/1"

PROVEN = 1e-6
"""Corrected p of the body's tests up to which a shared origin counts as proven."""

PART = 1e-3
"""Holm-adjusted p up to which a part counts as shared."""

QUIET = 0.01
"""Corrected p above which the tests count as silent."""

VISIBLE = 0.05
"""Mean cosine that the tests must be able to find before silence means anything."""

NEAR = 0.5
"""Relative distance up to which a descendant is near."""

LEFT = 0.3
"""Loss barrier, in nats per token, above which two models lie in different basins."""

FAINT = 0.25
"""Share of the shared parts' agreement below which a silent part counts as not shared."""

BODY = ("permutation_pairs", "sign_flip", "aligned_sign")


BRIEF = 20_000_000
"""Parameters above which a first look draws a tenth of the orders and measures no losses: on SmolLM2-135M the orders
take seven of ten seconds and the losses minutes, and neither decides whether a base is shared."""

BRIEF_DRAWS = 999


def audit_lineage(
    a: str, b: str, *, seed: int = 0, controls: Sequence[str] | None = None, brief: bool = False
) -> dict[str, Any]:
    """Test whether two models share a base.

    Args:
        a: reference of a model with weights here, `ref:<name>` or `hf:<folder or id>[@revision]`, with an optional
            `+<adapter folder>`.
        b: reference of the other.
        seed: of random orders, prompts and contexts.
        controls: references of models of the same tokenizer that surely descend from neither, for the behaviour; None
            takes the embedded models of the same tokenizer, if both models are small.
        brief: whether of models above `BRIEF` parameters only so much is looked at as a first look needs.

    Returns:
        The JSON object of schema "undertow.lineage/1". `tests` also lists every part of the model under `part: ...`
        with its Holm-adjusted p, and what could not be run with the reason. Everything but `peak_memory_mb` depends
        on the arguments and the files alone.

    Raises:
        UnknownNameError: no embedded model has such a name.
        ModelError: a model is remote, incomplete or of a form that cannot be read.
    """
    first, second = open_weights(a), open_weights(b)
    apart = distance(first, second)
    nets = network(first), network(second)
    short = brief and max(first.parameters, second.parameters) > BRIEF
    found = dependence(*nets, seed=seed, draws=BRIEF_DRAWS if short else DRAWS)
    axes = Axes(
        distance=apart,
        dependence=found,
        barrier=_UNMEASURED if short else _barrier(first, second, found, seed),
        behaviour=_behaviour(first, second, seed, controls),
        steered=first.steered != second.steered,
        heads=_heads(*nets),
    )
    return {
        "schema": SCHEMA,
        "verdict": verdict(axes),
        "dependence": {"p": found.p if found.ran else None, "e_value": found.e_value, "test": found.test or None},
        "proximity": _proximity(axes),
        "behaviour": None if isinstance(axes.behaviour, str) else axes.behaviour.to_json(),
        "tests": [*test_rows(axes), metadata_row(first, second)],
        "detectable": _detectable(found),
        "peak_memory_mb": peak_memory_mb(),
    }


_UNMEASURED = f"a first look measures no losses of models above {BRIEF:,} parameters; `undertow audit lineage` does"


def lineage_or_why(a: str, b: str, *, brief: bool = False) -> dict[str, Any] | str:
    """Return the lineage audit, or why it cannot be made: a model without safetensors has no weights to read."""
    try:
        return audit_lineage(a, b, brief=brief)
    except ModelError as error:
        return f"not testable: {error.what} {error.value}"


def audit_canary(a: str, b: str, config: CanaryConfig | None = None, advance: Advance | None = None) -> Canary:
    """Plant traits in copies of A and look for them in students of B (`undertow.audit.lineage.canary`).

    Args:
        a: reference of the model that would write rows.
        b: reference of the model that would be trained on them.
        config: traits, number of placebos and recipe; None takes the usual ones.
        advance: called with (parts done, parts in all).

    Returns:
        What became of them; not testable with models that cannot chat, be adapted, or are too large to be tuned here.

    Raises:
        UnknownNameError: no embedded model has such a name.
        ModelError: a model is remote, incomplete or of a form that cannot be read.
    """
    if max(open_weights(reference).parameters for reference in (a, b)) > SMALL:
        return untestable_canary({}, f"A canary tunes the whole model, and one has more than {SMALL:,} parameters.")
    try:
        return canary(load_model(a), load_model(b), config, advance)
    except ModelError as error:
        return untestable_canary({}, f"{error.what} {error.value}")


def with_canary(report: dict[str, Any], found: Canary) -> dict[str, Any]:
    """Return a lineage report with what became of the canaries; the verdict stays about weights and behaviour."""
    return report | {"tests": [*report["tests"], canary_row(found)], "canary": found.to_json()}


def verdict(axes: Axes) -> str:
    """Return the one word for a pair."""
    found = axes.dependence
    if axes.distance.identical:
        return "same_lineage_near" if axes.steered else "identical"
    proven = min((found.ran[name].p for name in BODY if name in found.ran), default=1.0) * len(found.tests) <= PROVEN
    if proven:
        return "partial" if not found.reordered and _is_partial(found) else _degree(axes)
    if not isinstance(found.match, str) and found.match.share >= MATCHED:
        return "supported"
    if any(part.adjusted <= PART for part in found.locals):
        return "partial"
    if "untrained_rows" in found.ran and found.ran["untrained_rows"].p * len(found.tests) <= PART:
        return "same_initialisation"
    alike = not isinstance(axes.behaviour, str) and axes.behaviour.verdict == "match"
    # A layer that moved to another place would be missed, so silence needs every part of both models.
    sighted = found.in_place is not None and found.ran[found.in_place].detectable <= VISIBLE
    silent = found.p > QUIET and sighted and found.coverage == 1.0
    if alike:
        return "behaviour_match" if silent else "supported"
    return "no_evidence" if silent else "inconclusive"


def _is_partial(found: Dependence) -> bool:
    """Tell whether some parts are shared and some others clearly are not."""
    shared = sorted(part.alone.effect for part in found.locals if part.adjusted <= PART)
    if not shared:
        return False
    faint = FAINT * shared[len(shared) // 2]
    return any(part.adjusted > QUIET and part.alone.effect < faint for part in found.locals)


def _degree(axes: Axes) -> str:
    """Tell near from far and both from models that share only their first weights."""
    if not isinstance(axes.barrier, str) and axes.barrier > LEFT:
        return "same_initialisation"
    apart = _distance(axes)
    return "same_lineage_near" if apart is not None and apart <= NEAR else "same_lineage_far"


def _distance(axes: Axes) -> float | None:
    found = axes.dependence
    if not found.reordered:
        return axes.distance.relative
    # In place the numbers say nothing; unit vectors of cosine c are sqrt(2 - 2c) apart. Signs of A6 are unknown.
    aligned = found.ran["aligned_sign"]
    return max(0.0, 2 - 2 * aligned.effect) ** 0.5 if aligned.p <= QUIET else None


def _proximity(axes: Axes) -> dict[str, float | None] | None:
    apart = _distance(axes)
    if apart is None:
        return None
    return {"distance": apart, "barrier": None if isinstance(axes.barrier, str) else axes.barrier}


def _barrier(a: Weights, b: Weights, found: Dependence, seed: int) -> float | str:
    if a.shapes != b.shapes:
        return "the models differ in shape"
    if max(a.parameters, b.parameters) > SMALL:
        return f"models of more than {SMALL:,} parameters are not loaded"
    if found.reordered:
        return "the models agree only after an alignment"
    if not (a.folder / "tokenizer.json").exists() or vocabulary(a) != vocabulary(b):
        return "the models have no tokenizer in common"
    return barrier(a.reference, b.reference, neutral_chats(derive(seed, "barrier")))


def _behaviour(a: Weights, b: Weights, seed: int, controls: Sequence[str] | None) -> Behaviour | str:
    words = vocabulary(a)
    if words is None or words != vocabulary(b):
        return "the models have no tokenizer in common"
    if controls is None:
        if max(a.parameters, b.parameters) > SMALL:
            return f"models of more than {SMALL:,} parameters are not loaded unless controls are named"
        controls = [f"ref:{name}" for name in embedded_models() if embedded_folder() / name not in (a.folder, b.folder)]
    panel = [name for name in controls if vocabulary(open_weights(name)) == words]
    if not panel:
        return "no control has the tokenizer of the models"
    # Two names for one reference, so that a model can be compared with itself.
    models = {"A": load_model(a.reference), "B": load_model(b.reference)} | {name: load_model(name) for name in panel}
    if models["A"].tokenizer.chat_template is None:
        return "the tokenizer has no chat template"
    return behaviour(models, "A", "B", seed=seed)


def _heads(a: Network, b: Network) -> float | None:
    first, second, rows = a.head or a.embedding, b.head or b.embedding, shared_rows(a, b)
    if first is None or second is None or rows is None:
        return None
    known = (rows[0] < first.rows) & (rows[1] < second.rows)
    return head_overlap(first, second, (rows[0][known], rows[1][known]))


def _detectable(found: Dependence) -> str:
    if (name := found.in_place) is None:
        return "nothing: no tensors of one shape and role stand at the same place"
    item = found.ran[name]
    basis = f"{name}, {item.n} comparisons, seen {item.effect:.2g}"
    return f"mean cosine {item.detectable:.2g} per unit at z = 5 ({basis})"


def peak_memory_mb() -> float:
    """Return the most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before this program was started
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

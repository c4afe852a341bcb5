"""Do two models share a base? Three kinds of evidence, kept apart, and one word for what they say together.

**Dependence** of the weights has exact p- and e-values. **Proximity** tells a descendant from a sibling that only
shares the first weights. **Behaviour** is all that is left without weights, and cannot tell descent from distillation.
No verdict says that two models are unrelated. One sentence says what was found and another which agreement would have
been found (`undertow.audit.lineage.findings`). Every test stands in a row of its own, with its statistic, p-value, n
and caveats.
"""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undertow.audit.lineage.alignment import head_overlap
from undertow.audit.lineage.axes import Axes, canary_row, metadata_row, test_rows
from undertow.audit.lineage.behaviour import Behaviour, behaviour
from undertow.audit.lineage.canary import Canary, CanaryConfig, canary, untestable_canary
from undertow.audit.lineage.counterparts import counterparts
from undertow.audit.lineage.dependence import MATCHED, PART, QUIET, Dependence, dependence, shared_rows
from undertow.audit.lineage.findings import found_words, limit_words
from undertow.audit.lineage.proximity import CHATS, FEWER_CHATS, LARGE, SMALL, barrier, distance, neutral_chats
from undertow.audit.lineage.roles import Network, network
from undertow.audit.lineage.tensors import Weights, open_weights, vocabulary
from undertow.audit.lineage.tests import DRAWS
from undertow.errors import ModelError
from undertow.models.load import load_model
from undertow.models.references import embedded_folder, embedded_models
from undertow.seeds import derive
from undertow.types import Advance, Prompt

SCHEMA = "undertow.lineage/1"

PROVEN = 1e-6
"""Corrected p-value of the tests in `BODY` up to which a shared origin counts as proven."""

VISIBLE = 0.05
"""Mean cosine that the tests must be able to find before their silence means anything."""

NEAR = 0.5
"""Relative distance of weights up to which a descendant counts as near."""

LEFT = 0.3
"""Loss barrier, in nats per token, above which two models lie in different basins."""

FAINT = 0.25
"""Share of the shared parts' median agreement below which a silent part counts as not shared."""

BODY = ("permutation_pairs", "sign_flip", "aligned_sign")


BRIEF = 20_000_000
"""Parameters above which a first look draws a tenth of the random orders and measures no losses. On SmolLM2-135M the
orders take seven of ten seconds and the losses minutes, and neither decides whether a base is shared."""

BRIEF_DRAWS = 999


def audit_lineage(
    a: str, b: str, *, seed: int = 0, controls: Sequence[str] | None = None, brief: bool = False
) -> dict[str, Any]:
    """Test whether two models share a base.

    Args:
        a: reference of a model whose weights are on this machine, `ref:<name>` or `hf:<folder or id>[@revision]`, with
            an optional `+<adapter folder>`.
        b: reference of the other model, in the same form.
        seed: random seed of random orders, prompts and contexts.
        controls: references of models with the same tokenizer that surely descend from neither, with which the
            behaviour is compared. None takes the embedded models of the same tokenizer, if both models are small.
        brief: whether models above `BRIEF` parameters are only looked at as far as a first look needs: fewer random
            orders, and no losses.

    Returns:
        The JSON object of schema "undertow.lineage/1". `verdict` is one word. `found` says what was seen, `detectable`
        what would have been seen. `tests` also lists every part of the model under `part: ...` with its Holm-adjusted
        p-value, and what could not be run with the reason. Everything except `peak_memory_mb` depends on the arguments
        and the files alone.

    Raises:
        UnknownNameError: no embedded model has such a name.
        ModelError: a model is remote, incomplete or of a form that cannot be read.
    """
    first, second = open_weights(a), open_weights(b)
    apart = distance(first, second)
    nets = network(first), network(second)
    short = brief and max(first.parameters, second.parameters) > BRIEF
    found = dependence(*nets, seed=seed, draws=BRIEF_DRAWS if short else DRAWS)
    steered = first.steered != second.steered
    # Equal weights have no barrier, so no losses are measured.
    chats = [] if apart.identical and not steered else _chats(first, second, seed)
    axes = Axes(
        distance=apart,
        dependence=found,
        barrier=0.0 if not chats else _UNMEASURED if short else _barrier(first, second, found, chats),
        behaviour=_behaviour(first, second, seed, controls),
        steered=steered,
        heads=_heads(*nets),
        chats=len(chats),
    )
    word = verdict(axes)
    return {
        "schema": SCHEMA,
        "verdict": word,
        "found": found_words(axes, word),
        "dependence": {"p": found.p if found.ran else None, "e_value": found.e_value, "test": found.test or None},
        "proximity": _proximity(axes),
        "behaviour": None if isinstance(axes.behaviour, str) else axes.behaviour.to_json(),
        "tests": [*test_rows(axes), metadata_row(first, second)],
        "detectable": limit_words(found),
        "peak_memory_mb": peak_memory_mb(),
    }


_UNMEASURED = f"a first look measures no losses of models above {BRIEF:,} parameters; `undertow audit lineage` does"


def lineage_or_why(a: str, b: str, *, brief: bool = False) -> dict[str, Any] | str:
    """Return the lineage audit, or why it cannot be made: a model without safetensors has no weights to read.

    Args:
        a: reference of one model.
        b: reference of the other model.
        brief: whether large models are only looked at as far as a first look needs.
    """
    try:
        return audit_lineage(a, b, brief=brief)
    except ModelError as error:
        return f"not testable: {error.what} {error.value}"


def audit_canary(a: str, b: str, config: CanaryConfig | None = None, advance: Advance | None = None) -> Canary:
    """Plant traits in copies of A and look for them in students of B (`undertow.audit.lineage.canary`).

    Args:
        a: reference of the model that would write rows.
        b: reference of the model that would be trained on them.
        config: traits, number of placebos and recipe. None takes the defaults.
        advance: callback that takes (parts done, all parts). None reports nothing.

    Returns:
        Whether the traits passed. Not testable with models that cannot chat, cannot be adapted, or are too large to be
        tuned here.

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
    """Return a lineage report with the result of a canary; the verdict stays about weights and behaviour."""
    return report | {"tests": [*report["tests"], canary_row(found)], "canary": found.to_json()}


def verdict(axes: Axes) -> str:
    """Return the one word for a pair of models."""
    found = axes.dependence
    if axes.distance.identical:
        return "same_lineage_near" if axes.steered else "identical"
    proven = min((found.ran[name].p for name in BODY if name in found.ran), default=1.0) * len(found.tests) <= PROVEN
    if proven:
        return "partial" if not found.reordered and _is_partial(found) else _degree(axes)
    if not isinstance(found.match, str) and found.match.share >= MATCHED:
        return "supported"
    if found.shared:
        return "partial"
    if "untrained_rows" in found.ran and found.ran["untrained_rows"].p * len(found.tests) <= PART:
        return "same_initialisation"
    alike = not isinstance(axes.behaviour, str) and axes.behaviour.verdict == "match"
    silent = found.p > QUIET and sighted(found)
    if alike:
        return "behaviour_match" if silent else "supported"
    return "no_evidence" if silent else "inconclusive"


def sighted(found: Dependence) -> bool:
    """Tell whether the tests could have seen a shared base, so that their silence means something.

    A layer that moved to another place would be missed, so this needs every part of both models to be compared.
    """
    visible = found.in_place is not None and found.ran[found.in_place].detectable <= VISIBLE
    return visible and found.coverage == 1.0


def _is_partial(found: Dependence) -> bool:
    """Tell whether some parts are shared and some others clearly are not."""
    shared = sorted(part.alone.effect for part in found.shared)
    if not shared:
        return False
    faint = FAINT * shared[len(shared) // 2]
    return any(part.adjusted > QUIET and part.alone.effect < faint for part in found.locals)


def _degree(axes: Axes) -> str:
    """Tell near from far descendants, and both from models that share only their first weights."""
    if not isinstance(axes.barrier, str) and axes.barrier > LEFT:
        return "same_initialisation"
    apart = axes.apart
    return "same_lineage_near" if apart is not None and apart <= NEAR else "same_lineage_far"


def _proximity(axes: Axes) -> dict[str, float | None] | None:
    apart = axes.apart
    if apart is None:
        return None
    return {"distance": apart, "barrier": None if isinstance(axes.barrier, str) else axes.barrier}


Chats = list[tuple[Prompt, str]]


def _chats(a: Weights, b: Weights, seed: int) -> Chats:
    large = max(a.parameters, b.parameters) > LARGE
    return neutral_chats(derive(seed, "barrier"), FEWER_CHATS if large else CHATS)


def _barrier(a: Weights, b: Weights, found: Dependence, chats: Chats) -> float | str:
    pairs = counterparts(a, b)
    if not len(pairs) == len(a.shapes) == len(b.shapes):
        return "the models differ in shape"
    if any(pair.mine != pair.theirs for pair in pairs):
        return "tensors of one file have names that transformers does not load; rename them as in the other"
    if max(a.parameters, b.parameters) > SMALL:
        return f"models of more than {SMALL:,} parameters are not loaded"
    if found.reordered:
        return "the models agree only after an alignment"
    if not (a.folder / "tokenizer.json").exists() or vocabulary(a) != vocabulary(b):
        return "the models have no tokenizer in common"
    return barrier(a.reference, b.reference, chats)


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


def peak_memory_mb() -> float:
    """Return the most memory in MiB that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before this program was started
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

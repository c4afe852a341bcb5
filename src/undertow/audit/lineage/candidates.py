"""One known base beside a model: whether the two can be compared, and what the tests of all weights say.

Losses and answers are left to `undertow.audit.lineage.verdict.audit_lineage`. They take minutes where these tests take
seconds, and only tell a far descendant from a sibling; neither decides whether an origin is shared.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from undertow.audit.lineage.axes import Axes
from undertow.audit.lineage.counterparts import counterparts
from undertow.audit.lineage.dependence import dependence
from undertow.audit.lineage.findings import found_words, limit_words
from undertow.audit.lineage.known_list import KnownBase
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import Weights, open_weights
from undertow.audit.lineage.verdict import sighted, verdict
from undertow.errors import ModelError, UserError
from undertow.models.gguf_files import unpacked_before
from undertow.models.gguf_headers import packed_shapes
from undertow.models.references import gguf_file
from undertow.store.artifacts import kept_artifact
from undertow.store.fingerprints import ArtifactKey
from undertow.types import ModelRef

KIND, VERSION = "lineage-comparison", 2

_OTHER_SHAPE = "no matrix of its shape stands at the same place, so no test could see a shared origin"
_LEFT = "left to `undertow audit lineage` with two models"


@dataclass(frozen=True, slots=True)
class BaseHeaders:
    """A known base of which the headers of the weight files were read.

    Attributes:
        known: the base, and where it was named.
        parameters: how many numbers its tensors have.
        why: why it cannot be compared with the model. None if it can.
    """

    known: KnownBase
    parameters: int
    why: str | None


def base_headers(model: Weights, known: KnownBase) -> BaseHeaders:
    """Read the headers of a known base's files, and no weight.

    A GGUF file of another shape is not unpacked either.

    Raises:
        UserError: the base is no model, or a damaged one.
    """
    try:
        packed = gguf_file(ModelRef.parse(known.reference))
        if packed is not None and unpacked_before(packed) is None:
            shapes = packed_shapes(packed)
            return BaseHeaders(known, _numbers(shapes), None if _meet(model, shapes) else _OTHER_SHAPE)
        base = open_weights(known.reference)
    except UserError as error:
        if known.place in ("--known", known.reference):
            raise
        raise ModelError(error.what, f"{known.place}: {error.value}", error.fix) from error
    pairs = counterparts(model, base)
    alike = any(len(model.shapes[pair.mine]) >= 2 for pair in pairs)
    return BaseHeaders(known, _numbers(base.shapes), None if alike else _OTHER_SHAPE)


def _numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(map(prod, shapes.values()))


def _meet(model: Weights, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether a packed file, whose tensors have other names, has a matrix of one of the model's shapes."""
    mine, theirs = ({shape for shape in one if len(shape) >= 2} for one in (model.shapes.values(), shapes.values()))
    return bool(mine & theirs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the tests of all weights say of a model and a known base.

    Attributes:
        word: the verdict as in `undertow.lineage/1`, from the weights alone.
        p: p-value over all tests of the pair. None if no test could be run.
        test: name of the test with the smallest p-value. None if no test could be run.
        distance: relative distance of the weights, of the matched neurons if they agree only after a match. None if it
            says nothing.
        found: a sentence that says what was found.
        detectable: a sentence that says which agreement would have been seen.
        sighted: whether the tests could have seen a shared base, so that their silence means something.
    """

    word: str
    p: float | None
    test: str | None
    distance: float | None
    found: str
    detectable: str
    sighted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAndBase:
    """A model and a known base, with the hashes of their files.

    Attributes:
        model: reference of the model whose origin is asked for.
        base: reference of the known base.
        model_digest: digest of the model's files, from `stored_identity`.
        base_digest: digest of the base's files, from `stored_identity`.
        seed: random seed of the permutation tests.
    """

    model: str
    base: str
    model_digest: str
    base_digest: str
    seed: int = 0

    @property
    def key(self) -> ArtifactKey:
        """Key under which the store keeps the comparison."""
        config = {"model": self.model_digest, "base": self.base_digest, "seed": self.seed}
        return ArtifactKey(kind=KIND, version=VERSION, config=config)


def kept_comparison(pair: ModelAndBase, store: Path) -> Comparison:
    """Return the comparison of two models from the store; it is made and stored first if it is not there.

    Raises:
        UserError: a model or the store cannot be read.
    """

    def write(to: Path) -> None:
        text = json.dumps(asdict(compare_weights(pair.model, pair.base, pair.seed)))
        (to / "comparison.json").write_text(text, encoding="utf-8")

    folder = kept_artifact(store, pair.key, write)
    return Comparison(**json.loads((folder / "comparison.json").read_text(encoding="utf-8")))


def compare_weights(model: str, base: str, seed: int = 0) -> Comparison:
    """Run every test of weights on two models, given by their references.

    Raises:
        UserError: a model cannot be read.
    """
    mine, theirs = open_weights(model), open_weights(base)
    found = dependence(network(mine), network(theirs), seed=seed)
    axes = Axes(
        distance=distance(mine, theirs),
        dependence=found,
        barrier=_LEFT,
        behaviour=_LEFT,
        steered=mine.steered != theirs.steered,
    )
    word = verdict(axes)
    return Comparison(
        word=word,
        p=found.p if found.ran else None,
        test=found.test or None,
        distance=_apart(axes),
        found=found_words(axes, word),
        detectable=limit_words(found),
        sighted=sighted(found),
    )


def _apart(axes: Axes) -> float | None:
    """Return the relative distance; for neurons that agree only after a match up to sign, that of unit vectors."""
    found = axes.dependence
    if axes.apart is None and found.reordered and not isinstance(found.match, str):
        return max(0.0, 2 - 2 * found.match.cosine) ** 0.5
    return axes.apart

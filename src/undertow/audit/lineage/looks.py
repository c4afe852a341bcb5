"""The three looks at a model and the bases that a user knows: headers, then fingerprints, then all weights.

What is read is stored as soon as it is done. So nothing is read twice, and an interrupted search continues where it
was.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from undertow.audit.lineage.candidates import BaseHeaders, Comparison, ModelAndBase, base_headers, kept_comparison
from undertow.audit.lineage.fingerprints import agreement, fingerprint_key, stored_identity, weights_fingerprint
from undertow.audit.lineage.known_list import KnownBase, LeftOut, known_bases
from undertow.audit.lineage.roles import Network
from undertow.audit.lineage.tensors import Weights, open_weights
from undertow.errors import ModelError
from undertow.types import Advance


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginQuestion:
    """A model of unknown origin and the bases that a user knows, with their headers read.

    Attributes:
        model: reference of the model whose origin is asked for.
        weights: the model's files, opened for reading.
        candidates: the known bases, in the order in which they were named.
        left: what was named or lay in a folder, and is compared with nothing.
        store: folder of all stored results.
        seed: random seed of the permutation tests.
    """

    model: str
    weights: Weights
    candidates: tuple[BaseHeaders, ...]
    left: tuple[LeftOut, ...]
    store: Path
    seed: int = 0

    @property
    def comparable(self) -> tuple[BaseHeaders, ...]:
        """The bases that share a shape with the model, so that a test could say something."""
        return tuple(one for one in self.candidates if one.why is None)


def question(model: str, known: Sequence[str], store: Path, seed: int = 0) -> OriginQuestion:
    """Read the headers of a model and of the bases that a user knows.

    Args:
        model: reference of the model whose origin is asked for.
        known: folders, lists or references, as `undertow.audit.lineage.known_list.known_bases` takes them.
        store: folder in which fingerprints and comparisons are kept.
        seed: random seed of the permutation tests.

    Raises:
        UserError: a model or a list cannot be read, a base that was named is no model, or there is no base.
    """
    weights = open_weights(model)
    bases, left = known_bases(known)
    found: list[BaseHeaders] = []
    damaged: list[LeftOut] = []
    for base in bases:
        try:
            found.append(base_headers(weights, base))
        except ModelError as error:
            if not base.found:
                raise
            damaged.append(LeftOut(base.reference, f"{error.what} {error.value}", error.fix))
    if not found:
        said = "; ".join(f"{one.name}: {one.why}" for one in damaged[:3])
        raise ModelError("None of the known bases is a model that can be read.", said, damaged[0].do)
    return OriginQuestion(
        model=model, weights=weights, candidates=tuple(found), left=(*left, *damaged), store=store, seed=seed
    )


def by_files(bases: Sequence[KnownBase], store: Path) -> tuple[dict[str, str], list[LeftOut]]:
    """Return the hash of each base's files, and the bases that have the same files as an earlier one."""
    found: dict[str, str] = {}
    twice: list[LeftOut] = []
    for base in bases:
        digest = stored_identity(base.reference, store)
        first = next((name for name, other in found.items() if other == digest), None)
        if first is None:
            found[base.reference] = digest
        else:
            twice.append(LeftOut(base.reference, f"it has the files of {first}", "Leave one of them out."))
    return found, twice


class Looks:
    """Compares a model with the bases of a question: first fingerprints, then all weights.

    Attributes:
        bases: references of the bases that are compared. Of bases with equal files only the first is.
        twice: the bases that have the same files as another one.
        done: how many fingerprints and comparisons were made now ("made") and how many came from the store
            ("from_store").
    """

    def __init__(self, asked: OriginQuestion, advance: Advance | None = None) -> None:
        """Read the hashes of all files, and no weights yet.

        Args:
            asked: the model and the known bases.
            advance: callback that takes (parts done, all parts). None reports nothing.
        """
        self._asked, self._advance = asked, advance
        self._digests, self.twice = by_files([one.known for one in asked.comparable], asked.store)
        self.bases = tuple(self._digests)
        self._own = stored_identity(asked.model, asked.store) if self.bases else ""
        self._prints: dict[str, Network] = {}
        self._count = Counter[str]()

    @property
    def done(self) -> dict[str, dict[str, int]]:
        """How many fingerprints and comparisons were made now, and how many came from the store."""
        kinds, how = ("fingerprints", "comparisons"), ("made", "from_store")
        return {kind: {one: self._count[f"{kind} {one}"] for one in how} for kind in kinds}

    def is_itself(self, base: str) -> bool:
        """Tell whether a base has the model's own files."""
        return self._digests[base] == self._own

    def first(self, base: str) -> float | None:
        """Return the p-value of the fingerprints of the model and a base; None if they have no part in common."""
        return agreement(self._fingerprint(self._asked.model, self._own), self._of(base))

    def between(self, base: str, other: str) -> float | None:
        """Return the p-value of the fingerprints of two bases; None if they have no part in common."""
        return agreement(self._of(base), self._of(other))

    def second(self, base: str) -> Comparison:
        """Return the comparison of all weights of the model and a base."""
        digests = {"model_digest": self._own, "base_digest": self._digests[base]}
        pair = ModelAndBase(model=self._asked.model, base=base, seed=self._asked.seed, **digests)
        stored = pair.key.folder(self._asked.store).is_dir()
        found = kept_comparison(pair, self._asked.store)
        self._tell("comparisons", stored)
        return found

    def _of(self, base: str) -> Network:
        return self._fingerprint(base, self._digests[base])

    def _fingerprint(self, reference: str, digest: str) -> Network:
        if digest not in self._prints:
            stored = fingerprint_key(digest).folder(self._asked.store).is_dir()
            self._prints[digest] = weights_fingerprint(reference, digest, self._asked.store)
            self._tell("fingerprints", stored)
        return self._prints[digest]

    def _tell(self, kind: str, stored: bool) -> None:
        self._count[f"{kind} {'from_store' if stored else 'made'}"] += 1
        if self._advance is not None:
            self._advance(self._count.total(), 1 + 2 * len(self.bases))

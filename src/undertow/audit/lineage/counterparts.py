"""Which tensor of one model stands where a tensor of another does, whatever the two are called."""

from collections import Counter
from dataclasses import dataclass

from undertow.audit.lineage.names import Place, place_of
from undertow.audit.lineage.tensors import Weights


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A tensor of A and the one of B that stands at the same place.

    Attributes:
        mine: its name in A.
        theirs: its name in B.
        rows: leading rows that both have; all rows, but in an embedding or head of another number of tokens.
    """

    mine: str
    theirs: str
    rows: int

    @property
    def names(self) -> tuple[str, str]:
        """Both names."""
        return self.mine, self.theirs


def counterparts(a: Weights, b: Weights) -> list[Counterpart]:
    """Pair the tensors of two models: by name, and what is left by its place in the network."""
    found = [_counterpart(a, b, name, name) for name in sorted(a.shapes.keys() & b.shapes.keys())]
    mine, theirs = _places(a, b), _places(b, a)
    found += [_counterpart(a, b, mine[place], theirs[place]) for place in mine if place in theirs]
    return [pair for pair in found if pair is not None]


def _places(one: Weights, other: Weights) -> dict[Place, str]:
    """Return the tensors whose name the other model lacks, by place; a place that two of them claim is nobody's."""
    known = [(place_of(name), name) for name in sorted(one.shapes.keys() - other.shapes.keys())]
    claims = Counter(place for place, _ in known)
    return {place: name for place, name in known if place is not None and claims[place] == 1}


def _counterpart(a: Weights, b: Weights, mine: str, theirs: str) -> Counterpart | None:
    first, second, place = a.shapes[mine], b.shapes[theirs], place_of(mine)
    longer = place is not None and place.role in ("embedding", "head") and len(first) == 2
    if first != second and not (longer and first[1:] == second[1:]):
        return None
    return Counterpart(mine, theirs, min(first[0], second[0]))

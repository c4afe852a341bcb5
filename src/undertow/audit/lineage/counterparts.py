"""Which tensor of one model stands where a tensor of another does, whatever the two are called."""

from collections import Counter
from dataclasses import dataclass

from undertow.audit.lineage.names import Place, place_of
from undertow.audit.lineage.tensors import Weights


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A tensor of model A and the tensor of model B at the same place of the network.

    Attributes:
        mine: name of the tensor in A.
        theirs: name of the tensor in B.
        rows: how many leading rows both have. That is all rows, except in an embedding or head with another number of
            tokens.
    """

    mine: str
    theirs: str
    rows: int

    @property
    def names(self) -> tuple[str, str]:
        """The names in A and in B."""
        return self.mine, self.theirs


def counterparts(a: Weights, b: Weights) -> list[Counterpart]:
    """Pair the tensors of two models by name, and those that are left by their place in the network."""
    found = [_counterpart(a, b, name, name) for name in sorted(a.shapes.keys() & b.shapes.keys())]
    mine, theirs = _places(a, b), _places(b, a)
    found += [_counterpart(a, b, mine[place], theirs[place]) for place in mine if place in theirs]
    return [pair for pair in found if pair is not None]


def _places(one: Weights, other: Weights) -> dict[Place, str]:
    """Return the tensors whose name the other model does not have, by place; a place claimed twice is left out."""
    known = [(place_of(name), name) for name in sorted(one.shapes.keys() - other.shapes.keys())]
    claims = Counter(place for place, _ in known)
    return {place: name for place, name in known if place is not None and claims[place] == 1}


def _counterpart(a: Weights, b: Weights, mine: str, theirs: str) -> Counterpart | None:
    first, second, place = a.shapes[mine], b.shapes[theirs], place_of(mine)
    longer = place is not None and place.role in ("embedding", "head") and len(first) == 2
    if first != second and not (longer and first[1:] == second[1:]):
        return None
    return Counterpart(mine, theirs, min(first[0], second[0]))

"""The students of a swap: which rows of the data each is trained on, and whose answers stand in them.

whole        the rows as they are
cleared      every answer replaced by the other writer's
planted      cleared, and the auditor's own teacher of the trait answers a random share of the prompts: the dose
swap         the answers of a subset replaced
drop         the subset left out
alone        all but the subset left out
random ...   the same with a random part

Students of one seed share the adapter's start and the order of the rows; all share the other writer's answers.

An **arm** is what is done to the rows, together with the subset or share that it is done to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from undertow.audit.swap.order import SwapOrder, Way
from undertow.audit.swap.subsets import Subset
from undertow.errors import EmptyDataError
from undertow.seeds import derive
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Row

Kind = Literal["whole", "cleared", "planted", "swap", "drop", "alone", "random swap", "random drop", "random alone"]

RANDOM: Mapping[Way, Kind] = {"swap": "random swap", "drop": "random drop", "alone": "random alone"}
"""Kind of arm for a random part, by what is done with it."""

DOSES = (0.1, 0.3, 1.0)
"""Shares of the prompts that the auditor's own teacher answers."""

NEAR = 0.8
"""A subset with at least this part of a larger subset's rows is compared with random parts of the larger size. Where it
is swapped or dropped, they lower the trait more, so no subset is found by it. A student of a subset alone
varies more than one of a larger random part, so that a level is not kept there (docs/calibration.md)."""


@dataclass(frozen=True, slots=True)
class SwapArm:
    """One student of a swap.

    Attributes:
        kind: what is done to the rows.
        name: name of its subset, its dose or its random part. Empty for "whole" and "cleared".
        seed: index of its seed among the order's seeds.
        places: indices of the rows that it is done to.
    """

    kind: Kind
    name: str
    seed: int
    places: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells this student from all others: kind, name and index of the seed."""
        return self.kind, self.name, self.seed

    def to_config(self) -> dict[str, Any]:
        """Return the arm as plain data, with a digest in place of the row indices."""
        places = sha256(canonical_json(list(self.places)))[:16]
        return {"arm": self.kind, "name": self.name, "seed_place": self.seed, "places": places}


@dataclass(frozen=True, slots=True)
class SwapAnswers:
    """The data and the answers that may replace them, prompt by prompt.

    Attributes:
        rows: the rows of the data, each on a prompt that every writer answered.
        other: rows of the other writer on the same prompts.
        planted: rows of the auditor's own teacher of the trait on the same prompts.
    """

    rows: Sequence[Row]
    other: Sequence[Row]
    planted: Sequence[Row]

    def of(self, arm: SwapArm) -> list[Row]:
        """Return the rows that a student is trained on.

        Raises:
            EmptyDataError: no row is left.
        """
        chosen, other = set(arm.places), self.other
        if arm.kind in ("drop", "random drop"):
            found = [row for place, row in enumerate(self.rows) if place not in chosen]
        elif arm.kind in ("alone", "random alone"):
            found = [self.rows[place] for place in arm.places]
        elif arm.kind == "planted":
            found = [self.planted[at] if at in chosen else row for at, row in enumerate(other)]
        elif arm.kind == "cleared":
            found = list(other)
        else:
            found = [other[at] if at in chosen else row for at, row in enumerate(self.rows)]
        if not found:
            raise EmptyDataError("Without this subset no row is left.", arm.name, "Leave the dropping out: drop=false.")
        return found


def first_arms(order: SwapOrder, subsets: Sequence[Subset], rows: int) -> list[SwapArm]:
    """Return the students that are trained before any subset is looked at: for the effect of doses and random parts.

    Args:
        order: how many seeds and random parts there are.
        subsets: the subsets, of which only the sizes are used.
        rows: how many rows the data have.
    """
    found = [SwapArm(kind, "", seed) for kind in ("whole", "cleared") for seed in range(order.seeds)]
    for dose in DOSES:
        places = _drawn(order.seed, ("dose", f"{dose:g}"), rows, max(1, round(dose * rows)))
        found += [SwapArm("planted", f"{dose:g}", seed, places) for seed in range(order.seeds)]
    for size in random_sizes(subsets):
        for draw in range(order.randoms):
            places = _drawn(order.seed, ("random", size, draw), rows, size)
            name = f"{size} rows, {draw + 1}"
            found += [SwapArm(RANDOM[way], name, seed, places) for way in order.ways for seed in range(order.seeds)]
    return found


def subset_arms(order: SwapOrder, subsets: Mapping[Way, Sequence[Subset]]) -> list[SwapArm]:
    """Return the students of the subsets that can be tested in each way, one for every seed."""
    return [
        SwapArm(way, one.name, seed, one.places)
        for way, some in subsets.items()
        for one in some
        for seed in range(order.seeds)
    ]


def random_sizes(subsets: Sequence[Subset]) -> list[int]:
    """Return the sizes of the random parts, the largest first: subsets of nearly one size share theirs."""
    found: list[int] = []
    for size in sorted({len(one.places) for one in subsets}, reverse=True):
        if not found or size < NEAR * found[-1]:
            found.append(size)
    return found


def size_beside(subset: Subset, sizes: Sequence[int]) -> int:
    """Return the size of the random parts with which a subset is compared."""
    return min(size for size in sizes if size >= len(subset.places))


def among(subsets: Sequence[Subset], kept: Sequence[int]) -> Iterator[Subset]:
    """Yield the subsets over the rows that are kept, with row indices that count those alone."""
    place = {old: new for new, old in enumerate(kept)}
    for one in subsets:
        if own := tuple(place[old] for old in one.places if old in place):
            yield replace(one, places=own)


def _drawn(seed: int, name: tuple[str | int, ...], rows: int, n: int) -> tuple[int, ...]:
    rng = np.random.default_rng(derive(seed, "swap", *name))
    return tuple(sorted(rng.permutation(rows)[:n].tolist()))

"""The margins of all students of a swap, and what they say: the reach first, then every subset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from undertow.audit.swap.arms import DOSES, Kind, random_sizes, size_beside
from undertow.audit.swap.judge import DoseResponse, Judged, Measured, RandomParts, Reach, judge
from undertow.audit.swap.order import SwapOrder
from undertow.audit.swap.subsets import Subset
from undertow.stats.comparisons import paired

Margins = Mapping[tuple[str, str, int], float]
"""The trait's margin of each student, by kind, name and place of the seed (`undertow.audit.swap.arms.Arm`)."""

Way = Literal["swap", "drop"]


@dataclass(frozen=True)
class Table:
    """What is known so far.

    Attributes:
        order: how many students of what.
        subsets: all that are asked about.
        rows: of the data.
        margins: of the students that are trained.
    """

    order: SwapOrder
    subsets: Sequence[Subset]
    rows: int
    margins: Margins

    def of(self, kind: Kind, name: str = "") -> list[float]:
        """Return the margins of an arm, in the order of the seeds."""
        return [self.margins[kind, name, seed] for seed in range(self.order.seeds)]

    @cached_property
    def response(self) -> DoseResponse:
        """What the auditor's own teacher does, by the share of prompts that it answers."""
        cleared = self.of("cleared")
        return DoseResponse({dose: paired(self.of("planted", f"{dose:g}"), cleared) for dose in DOSES})

    def random(self, subset: Subset, way: Way = "swap") -> RandomParts:
        """Return the random parts that a subset is held against."""
        size, whole = size_beside(subset, random_sizes(self.subsets)), np.array(self.of("whole"))
        kind: Kind = "random swap" if way == "swap" else "random drop"
        parts = [self.of(kind, f"{size} rows, {draw + 1}") for draw in range(self.order.randoms)]
        return RandomParts(tuple(float(np.mean(np.array(part) - whole)) for part in parts))

    def reach(self, subset: Subset) -> Reach:
        """Return what can be found of a subset of this size."""
        return Reach(self.random(subset).detectable(len(self.subsets), self.order.alpha), self.response)

    def why_not(self, subset: Subset) -> str | None:
        """Return why a subset cannot be tested, or None."""
        return self.reach(subset).why_not(len(subset.places) / self.rows)

    def testable(self) -> list[Subset]:
        """Return the subsets that can be tested."""
        return [one for one in self.subsets if self.why_not(one) is None]

    def reach_json(self) -> dict[str, Any]:
        """Return what can be found, as plain data: the dose-response, and each subset's share beside it."""
        subsets: list[dict[str, Any]] = []
        for one in self.subsets:
            reach, why = self.reach(one), self.why_not(one)
            share = len(one.places) / self.rows
            told = {"name": one.name, "rows": len(one.places), "share": share, "detectable": reach.detectable}
            expected = self.response.beyond_random(share)
            subsets.append({**told, "expected": expected, "smallest_share": reach.smallest, "testable": why is None})
        doses = [{"share": dose, **found.to_json()} for dose, found in self.response.doses.items()]
        return {
            "doses": doses,
            "everything_replaced": paired(self.of("cleared"), self.of("whole")).to_json(),
            "subsets": subsets,
        }

    def judged(self, way: Way) -> list[Judged]:
        """Return what is said of each subset where its answers are replaced, or where it is left out."""
        found: list[Measured] = []
        for one in self.subsets:
            why = self.why_not(one)
            without = None if why is not None else self.of(way, one.name)
            found.append(
                Measured(one.name, len(one.places), without, self.of("whole"), self.random(one, way), why or "")
            )
        return judge(found, self.order.alpha)

    def found(self) -> dict[str, Any]:
        """Return what is said of every subset, as plain data: by swapping, and by dropping where that was asked for."""
        swapped = self.judged("swap")
        dropped = self.judged("drop") if self.order.drop else []
        return {
            "named": [one.name for one in swapped if one.status == "detected"],
            "subsets": [one.to_json() for one in swapped],
            "dropped": [one.to_json() for one in dropped] if dropped else None,
            "random": [{"name": one.name, "swapped": self.random(one).mean} for one in self.subsets],
        }

"""The margins of all students of a swap, and what they say: first what can be found, then every subset.

An **arm** is a group of students that are trained on the same version of the rows, and a **dose** the share of the
prompts that the auditor's own teacher of the trait answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from undertow.audit.swap.arms import DOSES, RANDOM, Kind, random_sizes, size_beside
from undertow.audit.swap.judge import DoseResponse, JudgedSubset, MeasuredSubset, RandomParts, Reach, judge
from undertow.audit.swap.order import SwapOrder, Way
from undertow.audit.swap.subsets import Subset
from undertow.stats.comparisons import paired

Margins = Mapping[tuple[str, str, int], float]
"""The trait's margin of each student in logits, by kind, name and index of the seed
(`undertow.audit.swap.arms.SwapArm`)."""


FEWEST_ALONE = 100
"""How many rows a subset must have to be trained on alone. Students of fewer rows, who see each row again and again,
were never tried."""


@dataclass(frozen=True)
class SwapTable:
    """What is known so far of a swap.

    Attributes:
        order: how many students there are of what.
        subsets: all subsets that are asked about.
        rows: how many rows the data have.
        margins: the trait's mean logit margin of each student that is trained, by kind, name and index of its seed.
    """

    order: SwapOrder
    subsets: Sequence[Subset]
    rows: int
    margins: Margins

    def of(self, kind: Kind, name: str = "") -> list[float]:
        """Return the margins of an arm in logits, in the order of the seeds."""
        return [self.margins[kind, name, seed] for seed in range(self.order.seeds)]

    @cached_property
    def response(self) -> DoseResponse:
        """How the auditor's own teacher moves the margin, by the share of prompts that it answers."""
        cleared = self.of("cleared")
        return DoseResponse({dose: paired(self.of("planted", f"{dose:g}"), cleared) for dose in DOSES})

    def random(self, subset: Subset, way: Way) -> RandomParts:
        """Return the random parts with which a subset is compared."""
        size, whole = size_beside(subset, random_sizes(self.subsets)), np.array(self.of("whole"))
        parts = [self.of(RANDOM[way], f"{size} rows, {draw + 1}") for draw in range(self.order.randoms)]
        return RandomParts(tuple(float(np.mean(np.array(part) - whole)) for part in parts))

    def reach(self, subset: Subset, way: Way) -> Reach:
        """Return what can be found of a subset of this size."""
        detectable = self.random(subset, way).detectable(len(self.subsets), self.order.alpha)
        return Reach(detectable, self.response, way, FEWEST_ALONE / self.rows if way == "alone" else 0.0)

    def why_not(self, subset: Subset, way: Way) -> str | None:
        """Return why a subset cannot be tested, or None if it can."""
        return self.reach(subset, way).why_not(len(subset.places) / self.rows)

    def testable(self) -> dict[Way, list[Subset]]:
        """Return the subsets that can be tested in each way."""
        return {way: [one for one in self.subsets if self.why_not(one, way) is None] for way in self.order.ways}

    def reach_json(self) -> dict[str, Any]:
        """Return what can be found, as plain data: the effect of each dose, and each subset's share beside it."""
        doses = [{"share": dose, **found.to_json()} for dose, found in self.response.doses.items()]
        everything = paired(self.of("cleared"), self.of("whole")).to_json()
        subsets = [self._reach_of(one, way) for way in self.order.ways for one in self.subsets]
        return {"doses": doses, "everything_replaced": everything, "subsets": subsets}

    def _reach_of(self, subset: Subset, way: Way) -> dict[str, Any]:
        reach, share = self.reach(subset, way), len(subset.places) / self.rows
        return {
            "name": subset.name,
            "way": way,
            "rows": len(subset.places),
            "share": share,
            "detectable": reach.detectable,
            "expected": self.response.beyond_random(share, way),
            "smallest_share": reach.smallest,
            "testable": reach.why_not(share) is None,
        }

    def judged(self, way: Way) -> list[JudgedSubset]:
        """Return what is said of each subset that is replaced, left out or kept alone, at alpha for this way alone."""
        found: list[MeasuredSubset] = []
        for one in self.subsets:
            why = self.why_not(one, way)
            without = None if why is not None else self.of(way, one.name)
            random, whole = self.random(one, way), self.of("whole")
            found.append(MeasuredSubset(one.name, len(one.places), without, whole, random, why or ""))
        return judge(found, self.order.alpha, way)

    def found(self) -> dict[str, Any]:
        """Return what is said of every subset, as plain data; None for a way that was not ordered."""
        judged = {way: self.judged(way) for way in self.order.ways}
        named = {way: [one.name for one in some if one.status == "detected"] for way, some in judged.items()}
        plain = {way: [one.to_json() for one in some] for way, some in judged.items()}
        random = [
            {"name": one.name, **{way: self.random(one, way).mean for way in self.order.ways}} for one in self.subsets
        ]
        return {
            "named": named["swap"],
            "subsets": plain["swap"],
            "dropped": plain.get("drop"),
            "alone": plain.get("alone"),
            "named_alone": named.get("alone"),
            "random": random,
        }

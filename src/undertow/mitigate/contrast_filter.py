"""Contrast filter: leave out the rows that some trait of the panel makes likelier than its rivals do.

The score of a row is its largest rival-centred contrast (`undertow.audit.rows.contrast`) over the panel. One row says
little, so expect a lower dose rather than the carriers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick, chosen
from undertow.mitigate.workbench import Workbench
from undertow.stats.checks import Floats
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastFilter(DataMitigation):
    """Drop a share of the rows.

    Attributes:
        share: of the rows that are dropped.
        trait: judge by this trait of the panel alone, such as an audit's candidate; None takes the largest of all.
    """

    name: ClassVar[str] = "contrast-filter"
    random_arm: ClassVar[str] = "as many rows are dropped at random"
    chooses: ClassVar[bool] = True
    share: float = 0.5
    trait: str | None = None

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Drop the rows that rank first, as many at random, or those that rank last."""
        scores = [0.0] * len(rows) if pick == "random" else self.scores(rows, bench).tolist()
        dropped = chosen(scores, self.share, pick, bench.seed)
        changes = tuple(
            Change(
                id=row.id,
                action="dropped" if place in dropped else "kept",
                why=f"{pick} {self.share:.0%} by contrast" if place in dropped else "",
                score=None if pick == "random" else scores[place],
            )
            for place, row in enumerate(rows)
        )
        kept = tuple(row for place, row in enumerate(rows) if place not in dropped)
        models = 0 if pick == "random" else len(bench.panel)
        cost = Cost(scored=len(rows) * (models + 1) if models else 0, trained=models)
        return Mitigated(rows=kept, changes=changes, cost=cost)

    def scores(self, rows: Sequence[Row], bench: Workbench) -> Floats:
        """Return the contrast by which rows are ranked, float [rows], in nats per token without the end of turn.

        Raises:
            UnknownNameError: the trait is not in the panel.
        """
        columns = slice(None) if self.trait is None else [bench.column(self.trait)]
        return np.array(
            [gains[:-1, columns].sum(axis=0).max() / max(1, len(gains) - 1) for gains in bench.panel_gains(rows)]
        )

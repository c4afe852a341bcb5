"""Regenerate: another model answers the same prompts. A model of another base passes nothing on through numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from undertow.mitigate.base import Cost, DataMitigation, Mitigated, Pick, swap
from undertow.mitigate.workbench import Workbench
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerate(DataMitigation):
    """Replace every completion by another writer's.

    Attributes:
        writer: reference of a model, of another base than the one that will be trained (`undertow audit lineage`).
    """

    name: ClassVar[str] = "regenerate"
    writer: str

    @property
    def models(self) -> tuple[str, ...]:
        """The writer."""
        return (self.writer,)

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Let the writer answer; rows whose new answer the domain rejects are dropped."""
        del pick
        new, changes = swap(rows, bench.answers(bench.model(self.writer), rows), f"written by {self.writer}")
        return Mitigated(rows=new, changes=changes, cost=Cost(generated=len(rows)))

"""Mix: other writers' completions of the same prompts take the place of a share of the rows, drawn at random.

With a writer this is a committee: each generator has written an equal part of the rows, and a trait of one of them is
diluted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick, chosen
from undertow.mitigate.workbench import Workbench
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mix(DataMitigation):
    """Replace a share of the rows.

    Attributes:
        share: of the rows that are replaced.
        writers: references of who answers, in turn; empty takes the bench's clean rows, or else the untouched base.
    """

    name: ClassVar[str] = "mix"
    random_arm: ClassVar[str] = "the same rows are left out and none takes their place"
    share: float = 0.5
    writers: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The writers."""
        return self.writers

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Replace rows; the random arm leaves the same rows out, which lowers the dose without clean rows."""
        places = sorted(chosen([0.0] * len(rows), self.share, "random", bench.seed))
        new, generated = ({}, 0) if pick == "random" else self._answers(rows, places, bench)
        why = "left out at random" if pick == "random" else "no answer to its prompt was accepted"
        picked, mixed, changes = set(places), list[Row](), list[Change]()
        for place, row in enumerate(rows):
            if place not in picked:
                mixed.append(row)
                changes.append(Change(id=row.id, action="kept"))
            elif place in new:
                mixed.append(new[place][0])
                changes.append(Change(id=row.id, action="replaced", why=f"answer of {new[place][1]}"))
            else:
                changes.append(Change(id=row.id, action="dropped", why=why))
        return Mitigated(rows=tuple(mixed), changes=tuple(changes), cost=Cost(generated=generated))

    def _answers(
        self, rows: Sequence[Row], places: Sequence[int], bench: Workbench
    ) -> tuple[dict[int, tuple[Row, str]], int]:
        """Return the accepted new row at each place with its writer, and how many were generated."""
        found: dict[int, tuple[Row, str]] = {}
        generated, turns = 0, self.writers or (None,)
        for turn, writer in enumerate(turns):
            own = places[turn :: len(turns)]
            asked = [rows[place] for place in own]
            if writer is None:
                answers, n = bench.clean_answers(asked)
            else:
                answers, n = bench.answers(bench.model(writer), asked), len(asked)
            generated += n
            who = writer or "the clean rows or the base"
            found |= {place: (row, who) for place, row in zip(own, answers, strict=True) if row is not None}
        return found, generated

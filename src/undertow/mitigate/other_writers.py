"""Mitigations in which other writers answer the suspect rows' prompts: all of them, a share, or in agreement.

- **regenerate**: another model answers. A model of another base passes nothing on through numbers.
- **consensus**: a token is drawn from the smallest of the probabilities that several writers give it, renormalised:
  what one of them makes likelier than the others do has no weight. (KL towards several references or averaging cannot
  veto a single source: Narang et al., arXiv:2607.23394.) Writers that share a trait or copy one another agree on it.
- **mix**: other completions take the place of a share of the rows, drawn at random. With several writers this is a
  committee: each has written an equal part of the rows, and a trait of one of them is diluted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from undertow.errors import ConfigError
from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick, chosen, swap
from undertow.mitigate.workbench import Workbench
from undertow.types import Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerate(DataMitigation):
    """Replace every completion by another writer's.

    Attributes:
        writer: reference of the model that answers. It should be of another base than the one that will be trained,
            which `undertow audit lineage` can tell.
    """

    name: ClassVar[str] = "regenerate"
    writer: str

    @property
    def models(self) -> tuple[str, ...]:
        """The writer's reference."""
        return (self.writer,)

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Let the writer answer every prompt. Rows whose new answer the domain rejects are dropped."""
        del pick
        new, changes = swap(rows, bench.answers(bench.model(self.writer), rows), f"written by {self.writer}")
        return Mitigated(rows=new, changes=changes, cost=Cost(generated=len(rows)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus(DataMitigation):
    """Replace every completion by one on which several writers agree.

    Attributes:
        writers: references of two or more models with one tokenizer. The suspect teacher may be among them.

    Raises:
        ConfigError: fewer than two writers are named.
    """

    name: ClassVar[str] = "consensus"
    writers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.writers) < 2:
            fix = "Name two or more, such as consensus:writers=[hf:teacher,ref:finch-b]."
            raise ConfigError("Nobody agrees alone.", f"{len(self.writers)} writers", fix)

    @property
    def models(self) -> tuple[str, ...]:
        """References of the writers."""
        return self.writers

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Answer every prompt by what the writers agree on. Rows whose answer the domain rejects are dropped."""
        del pick
        writers = [bench.model(writer) for writer in self.writers]
        new, changes = swap(rows, bench.agreed_answers(writers, rows), f"agreed on by {len(writers)} writers")
        return Mitigated(rows=new, changes=changes, cost=Cost(generated=len(rows) * len(writers)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mix(DataMitigation):
    """Replace a share of the rows, drawn at random, by other answers to the same prompts.

    Attributes:
        share: share of the rows that is replaced, between 0 and 1.
        writers: references of the models that answer, in turn. If empty, clean rows of the same prompts are used or,
            where there are none, the base's own answers.
    """

    name: ClassVar[str] = "mix"
    random_arm: ClassVar[str] = "the same rows are left out and none takes their place"
    share: float = 0.5
    writers: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """References of the writers."""
        return self.writers

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Replace rows drawn at random. The arm "random" leaves the same rows out and puts none in their place."""
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
        """Return the accepted new row and its writer for each place, and how many answers were generated."""
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

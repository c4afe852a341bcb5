"""Mitigations that rank rows or tokens by how much likelier a suspect model makes them, and act on the top.

- **contrast filter**: leave out the rows that the teacher of some trait of the panel makes likelier than its rivals do,
  which are the panel's other teachers. The score of a row is its largest contrast to the rivals over the panel
  (`undertow.audit.rows.contrast`). One row says little, so expect less of the trait, not that its carriers are found.
- **labels**: the tokens that a suspect makes likelier than the base by most are not learnt, or become the base's own.
  The suspect is either the "panel", where the largest gain of a trait's teacher over its rivals counts, or a "student"
  that is trained on the rows first and compared with the base, which needs no list of traits. A few tokens carry a
  trait (Schrodi et al., arXiv:2509.23886), so little is lost with them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import numpy as np
import torch

from undertow.errors import EmptyDataError, unknown_name
from undertow.mitigate.base import Change, Cost, DataMitigation, Mitigated, Pick, chosen
from undertow.mitigate.workbench import REDRAWN, Workbench
from undertow.mitigate.workbench import STUDENT as STUDENT_STEP
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.own_models import own_student
from undertow.training.parallel import finetune_parallel
from undertow.types import Advance, Row

SUSPECTS = ("panel", "student")
"""Who is suspected: the teachers of a panel of traits, or a student that is trained on the rows."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastFilter(DataMitigation):
    """Drop a share of the rows: those that some panel trait's teacher makes likelier than the others do.

    Attributes:
        share: share of the rows that is dropped, between 0 and 1.
        trait: name of the one trait of the panel by which rows are ranked, such as an audit's candidate. None ranks by
            the largest contrast over all traits.
    """

    name: ClassVar[str] = "contrast-filter"
    random_arm: ClassVar[str] = "as many rows are dropped at random"
    chooses: ClassVar[bool] = True
    share: float = 0.5
    trait: str | None = None

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Drop the rows that rank first, as many at random, or those that rank last; see `DataMitigation.apply`."""
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
        """Return the contrast by which rows are ranked, float (rows,), in nats per token without the end of turn.

        Raises:
            UnknownNameError: the trait is not in the panel.
        """
        columns = slice(None) if self.trait is None else [bench.column(self.trait)]
        return np.array(
            [gains[:-1, columns].sum(axis=0).max() / max(1, len(gains) - 1) for gains in bench.panel_gains(rows)]
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Labels(DataMitigation):
    """Mask or replace a share of the completion tokens: those that a suspect model makes likelier than the base.

    Attributes:
        share: share of all rows' completion tokens that is masked or replaced, between 0 and 1.
        suspect: whose tokens are looked for: those of the "panel" of teachers, or of a "student" trained on the rows.
        trait: name of the one trait of the panel that counts. None takes the largest gain over all traits.
        replace: whether a token is drawn anew from the base, given what stood before it, instead of being left out of
            the loss. The end of turn is never replaced; it is masked.

    Raises:
        UnknownNameError: there is no such suspect.
    """

    name: ClassVar[str] = "labels"
    random_arm: ClassVar[str] = "as many tokens at random"
    chooses: ClassVar[bool] = True
    share: float = 0.1
    suspect: Literal["panel", "student"] = "panel"
    trait: str | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        if self.suspect not in SUSPECTS:
            raise unknown_name("suspect", self.suspect, SUSPECTS)

    def apply(self, rows: Sequence[Row], bench: Workbench, pick: Pick = "targeted") -> Mitigated:
        """Mask or replace the tokens that rank first, as many at random, or those that rank last.

        Raises:
            EmptyDataError: no row is left.
        """
        encoded = bench.base.encode(rows)
        lengths = [len(row.completion) for row in encoded]
        gains = [0.0] * sum(lengths) if pick == "random" else np.concatenate(self.gains(rows, bench))
        flat = chosen(gains, self.share, pick, bench.seed)
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        picked = [
            tuple(place - start for place in range(start, start + length) if place in flat)
            for start, length in zip(starts[:-1], lengths, strict=True)
        ]
        if self.replace:
            with bench.steps.step(REDRAWN) as advance:
                marked = self._replaced(rows, encoded, picked, bench, advance)
        else:
            marked = _masked(rows, picked, lengths)
        kept = tuple(row for row, _ in marked if row is not None)
        if not kept:
            raise EmptyDataError("No row was left.", f"share {self.share:g}", "Choose a smaller share.")
        return Mitigated(rows=kept, changes=tuple(change for _, change in marked), cost=self._cost(rows, bench, pick))

    def gains(self, rows: Sequence[Row], bench: Workbench) -> list[Floats]:
        """Return how much likelier the suspect makes every completion token, in nats.

        Args:
            rows: the suspect rows, from which a trait is to be removed.
            bench: the base model and the panel.

        Returns:
            For each row float (tokens,). The last token is the end of turn.
        """
        if self.suspect == "student":
            encoded = bench.base.encode(rows)
            pairs = zip(*bench.token_logprobs([_student(rows, bench), bench.base], encoded), strict=True)
            return [(after - before).double().numpy() for after, before in pairs]
        columns = slice(None) if self.trait is None else [bench.column(self.trait)]
        return [gains[:, columns].max(axis=1) for gains in bench.panel_gains(rows)]

    def _replaced(
        self,
        rows: Sequence[Row],
        encoded: Sequence[Encoded],
        picked: Sequence[tuple[int, ...]],
        bench: Workbench,
        advance: Advance,
    ) -> list[tuple[Row | None, Change]]:
        """Replace each row's picked tokens by the base's own. A row that the domain no longer accepts is dropped."""
        rng, made = random.Random(derive(bench.seed, "labels")), list[tuple[Row | None, Change]]()
        for row, some, places in zip(rows, encoded, picked, strict=True):
            drawn = [place for place in places if place < len(some.completion) - 1]
            advance(len(made), len(rows))
            if not places:
                made.append((row, Change(id=row.id, action="kept")))
                continue
            text = _redrawn(bench.base, some, drawn, rng)
            length = len(bench.base.tokenise([text])[0])
            if row.skip and length != len(some.completion) - 1:
                made.append(
                    (None, Change(id=row.id, action="dropped", why="its skipped tokens have no place any more"))
                )
                continue
            end = (length,) if len(drawn) < len(places) else ()  # the end of turn stands behind the text
            new = replace(row, completion=text, skip=(*row.skip, *end))
            if bench.accepts(new):
                made.append((new, Change(id=row.id, action="replaced", why=f"{len(drawn)} tokens of the base's own")))
            else:
                made.append((None, Change(id=row.id, action="dropped", why="invalid once its tokens were replaced")))
        return made

    def _cost(self, rows: Sequence[Row], bench: Workbench, pick: Pick) -> Cost:
        """Return what the mitigation costs, by what is picked."""
        drawn = len(rows) if self.replace else 0
        if pick == "random":
            return Cost(scored=drawn)
        models = 1 if self.suspect == "student" else len(bench.panel)
        return Cost(scored=drawn + len(rows) * (models + 1), trained=models)


def _masked(
    rows: Sequence[Row], picked: Sequence[tuple[int, ...]], lengths: Sequence[int]
) -> list[tuple[Row | None, Change]]:
    """Mark the picked tokens of each row as not learnt. A row of which nothing would be learnt is dropped."""
    made: list[tuple[Row | None, Change]] = []
    for row, places, length in zip(rows, picked, lengths, strict=True):
        skip = tuple(sorted({*row.skip, *places}))
        if len(skip) == length:
            made.append((None, Change(id=row.id, action="dropped", why="nothing of it would be learnt")))
        elif places:
            made.append((replace(row, skip=skip), Change(id=row.id, action="masked", why=f"{len(places)} tokens")))
        else:
            made.append((row, Change(id=row.id, action="kept")))
    return made


def _student(rows: Sequence[Row], bench: Workbench) -> LocalModel:
    """Train a student on the rows."""
    with bench.steps.step(STUDENT_STEP) as advance:
        recipe, seed = own_student(bench.base.parameters), derive(bench.seed, "suspect student")
        students = finetune_parallel(bench.base, [rows], recipe, [seed], advance)
    return next(students.models(bench.base))


def _redrawn(base: LocalModel, row: Encoded, places: Sequence[int], rng: random.Random) -> str:
    """Draw the picked tokens from the base, each given all that stood before it, and return the row's new text."""
    tokens = list(row.completion[:-1])
    if places:
        contexts = [[*row.prompt, *row.completion[:place]] for place in places]
        p = base.next_token_logprobs(contexts).exp().double()
        p[:, base.end] = 0.0
        total = p.cumsum(dim=1)
        drawn = torch.tensor([rng.random() for _ in places], dtype=torch.float64) * total[:, -1]
        for place, token in zip(places, torch.searchsorted(total, drawn[:, None])[:, 0].tolist(), strict=True):
            tokens[place] = min(token, p.shape[1] - 1)
    return base.tokenizer.decode(tokens, skip_special_tokens=True)

"""The pool: the rows of all finished blocks in one sequence, from which sets of rows are drawn by their indices.

The index of a row in the pool is called its place.

A **candidate** is a model that may have written rows: the base under a trait's persona, or a teacher tuned on the
trait. The **panel** is the list of candidates, and a candidate's **rivals** are the others of its kind. A **reading**
holds the base's probabilities of the rows' tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undertow.audit.calibration.blocks import Blocks, Piece, joined_readings
from undertow.audit.calibration.writers import FREE, REFERENCE, SUSPECT, RowWriter
from undertow.audit.rows.contrast import rival_centred
from undertow.audit.rows.token_reading import TokenReading
from undertow.data.filters import domain_rule
from undertow.domains.base import domain
from undertow.stats.checks import Floats
from undertow.types import Prompt, Row

Places = NDArray[np.int64]


@dataclass(frozen=True)
class RowPool:
    """Rows of all writers with the base's log-probabilities and the panel's scores.

    Attributes:
        rows: all rows, one block of a writer after another.
        reading: the base's log-probabilities of the tokens of all rows.
        scores: scores under the panel's candidates relative to their rivals, shape (rows, candidates). NaN for writers
            that the panel does not score.
        at: for each writer, the place of its row on each prompt, int64 array of shape (prompts,). -1 where it has none.
        good: whether the domain accepts each row as a valid answer, bool array of shape (rows,).
    """

    rows: Sequence[Row]
    reading: TokenReading
    scores: Floats
    at: Mapping[RowWriter, Places]
    good: NDArray[np.bool_]

    def places(self, writer: RowWriter, prompts: Places) -> Places:
        """Return the places of a writer's rows on some prompts, all of which it must have answered."""
        return self.at[writer][prompts]

    def has(self, writer: RowWriter, good: bool = True) -> NDArray[np.bool_]:
        """Tell on which prompts a writer has a row (with `good`, a valid one), bool array of shape (prompts,)."""
        if writer not in self.at:
            return np.zeros(len(self.at[SUSPECT]), dtype=bool)
        at = self.at[writer]
        return (at >= 0) & (self.good[at] if good else True)

    @cached_property
    def able(self) -> NDArray[np.bool_]:
        """Prompts with two valid answers of the base and its free one, bool array of shape (prompts,)."""
        return self.has(SUSPECT) & self.has(REFERENCE) & self.has(FREE, good=False)

    @cached_property
    def logp(self) -> dict[tuple[Prompt, str], float]:
        """Log-probability in nats of each row's completion under the base, by its prompt and completion."""
        found = self.reading.row_logp()
        return {(row.prompt, row.completion): float(one) for row, one in zip(self.rows, found, strict=True)}


def read_pool(panels: Sequence[Blocks], finished: Sequence[Piece]) -> RowPool:
    """Put finished pieces together to one pool.

    Args:
        panels: the panels whose scores stand side by side as columns, in this order. Each must have scored every piece.
        finished: the pieces, at least one of them by a writer that the panel scores.
    """
    blocks, size = panels[0], panels[0].settings.block
    rows: list[Row] = []
    readings: list[TokenReading] = []
    scores: list[Floats] = []
    at: dict[RowWriter, Places] = {}
    for piece in finished:
        own, reading = blocks.read(piece)
        places = at.setdefault(piece.writer, np.full(blocks.settings.blocks * size, -1, dtype=np.int64))
        places[piece.block * size : (piece.block + 1) * size] = np.arange(len(rows), len(rows) + size)
        rows += own
        readings.append(reading)
        scores.append(np.concatenate([panel.scores(piece) for panel in panels], axis=1))
    candidates = [one for panel in panels for one in panel.candidates]
    centred = rival_centred(np.concatenate(scores), candidates)
    rule = domain_rule(domain(blocks.task.name))
    return RowPool(rows, joined_readings(readings), centred, at, np.array([not rule(row) for row in rows], dtype=bool))

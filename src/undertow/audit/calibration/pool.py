"""The pool: all finished blocks behind one another, from which sets of rows are drawn by their places."""

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
    """Rows of all writers.

    Attributes:
        rows: one block of a writer behind another.
        reading: what the base says of their tokens.
        scores: of the panel, rival-centred, float [rows, candidates]; NaN where the panel reads none.
        at: for each writer, the place of its row on each prompt, int64 [prompts]; -1 where there is none.
        good: whether the domain accepts each row, bool [rows].
    """

    rows: Sequence[Row]
    reading: TokenReading
    scores: Floats
    at: Mapping[RowWriter, Places]
    good: NDArray[np.bool_]

    def places(self, writer: RowWriter, prompts: Places) -> Places:
        """Return the places of a writer's rows on some prompts, all of which it has answered."""
        return self.at[writer][prompts]

    def has(self, writer: RowWriter, good: bool = True) -> NDArray[np.bool_]:
        """Tell on which prompts a writer has a row, and one that the domain accepts if asked; bool [prompts]."""
        if writer not in self.at:
            return np.zeros(len(self.at[SUSPECT]), dtype=bool)
        at = self.at[writer]
        return (at >= 0) & (self.good[at] if good else True)

    @cached_property
    def able(self) -> NDArray[np.bool_]:
        """On which prompts both answers of the base are accepted, and its free one is there; bool [prompts]."""
        return self.has(SUSPECT) & self.has(REFERENCE) & self.has(FREE, good=False)

    @cached_property
    def logp(self) -> dict[tuple[Prompt, str], float]:
        """Log p of each row under the base, by its prompt and completion."""
        found = self.reading.row_logp()
        return {(row.prompt, row.completion): float(one) for row, one in zip(self.rows, found, strict=True)}


def read_pool(panels: Sequence[Blocks], finished: Sequence[Piece]) -> RowPool:
    """Put finished pieces together.

    Args:
        panels: whose scores stand side by side, in this order; each has read every piece.
        finished: at least one, and not all of free answers.
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

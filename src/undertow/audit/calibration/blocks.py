"""Blocks: the answers of one writer to a stretch of prompts, and what base and panel read in them, stored for reuse.

A calibration judges many sets of rows that are drawn from one pool, so each block is written and scored once, whichever
sets draw from it. A **writer** is the base under some condition (`undertow.audit.calibration.writers`). The **panel**
is the list of candidate writers, one for each trait, under which rows are scored. A block's rows and the base's
log-probabilities of their tokens are one stored result, its scores under the panel another.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors.numpy import load_file, save_file

from undertow.audit.calibration.settings import Calibration
from undertow.audit.calibration.writers import RowWriter, write_block
from undertow.audit.finding import NotTestable
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures, Signatures, signature_writer
from undertow.audit.rows.token_reading import TokenReading, read_tokens
from undertow.domains.base import AbstractDomain
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.store.runner import Executor, Runner, StageContext, find_stage
from undertow.store.stages import Stage
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Advance, Row, user_prompt

ROWS, SCORES, SIGNATURES = "calibration-rows", "calibration-scores", "calibration-signatures"
"""Kinds of stored stages."""

VERSION = 1
"""Raised when the same settings would give other rows, readings or scores."""

TEXTS, READING, ARRAYS, WHY = "rows.json", "reading.safetensors", "scores.safetensors", "why.txt"


@dataclass(frozen=True, slots=True)
class Piece:
    """One block of one writer: its answers to the prompts of that block.

    Attributes:
        writer: the writer whose answers these are.
        block: index of the block of prompts, from 0.
    """

    writer: RowWriter
    block: int


@final
class Blocks:
    """Makes and stores pieces, and reads those that the store has already.

    Args:
        settings: settings of the calibration, of which seed, sizes and store are used.
        base: the model whose audits are measured.
        task: the domain (task family) whose prompts are answered.
        candidates: the candidate writers of the panel that score the rows.
        panel: what identifies these candidates, as plain data. It goes into the fingerprint of stored scores.
    """

    def __init__(
        self,
        settings: Calibration,
        base: LocalModel,
        task: AbstractDomain,
        candidates: Sequence[Candidate],
        panel: dict[str, Any],
    ) -> None:
        self.settings, self.base, self.task, self.candidates = settings, base, task, candidates
        self._panel = {**panel, "candidates": [one.label for one in candidates]}
        if settings.own_traits:
            self._panel["own_traits"] = settings.own_traits
        self._of = {"base": settings.identity, "seed": settings.seed, "domain": task.config(), "size": settings.block}
        self._prompts = task.prompts(settings.blocks * settings.block, derive(settings.seed, "calibration", "prompts"))

    def prompts(self, block: int) -> list[str]:
        """Return the user turns of a block, `settings.block` of them."""
        size = self.settings.block
        return self._prompts[block * size : (block + 1) * size]

    def stages(self, piece: Piece) -> list[Stage]:
        """Return the stored stages of a piece: its rows, then their scores if the panel scores this writer."""
        config = {**self._of, "writer": piece.writer.to_config(), "block": piece.block}
        config["answers"] = derive(self.settings.seed, "calibration", piece.writer.name, piece.block)
        if piece.writer.group == "own" and self.task.form is not None:
            config["form"] = self.task.form  # until 2026-11 these answers were free whatever the domain
        first = piece.block * self.settings.block
        label = f"{piece.writer.name}, prompts {first + 1} to {first + self.settings.block}"
        rows = Stage(kind=ROWS, version=VERSION, config=config, label=label)
        if not piece.writer.scored:
            return [rows]
        scores = Stage(kind=SCORES, version=VERSION, config=self._panel, parents={"rows": rows}, label=f"{label}, read")
        return [rows, scores]

    def missing(self, piece: Piece) -> list[Stage]:
        """Return those stages of a piece that the store does not have."""
        return [one for one in self.stages(piece) if find_stage(one, self.settings.store) is None]

    def make(self, piece: Piece, advance: Advance | None = None) -> None:
        """Write and score what the store does not have of a piece."""

        def write(context: StageContext) -> None:
            seed = context.config["answers"]
            rows = write_block(piece.writer, self.base, self.prompts(piece.block), self.task, seed)
            save_rows(context.out, rows, read_tokens(self.base, rows))

        def score(context: StageContext) -> None:
            rows = self._rows(piece, context.parents["rows"])
            save_file({"scores": contrast_scores(rows, self.base, self.candidates, advance)}, context.out / ARRAYS)

        executors: dict[str, Executor] = {ROWS: write, SCORES: score}
        Runner(self.settings.store, executors).run(self.stages(piece)[-1:])

    def read(self, piece: Piece) -> tuple[list[Row], TokenReading]:
        """Return the rows of a stored piece, and the base's log-probabilities of their tokens."""
        folder = self.stages(piece)[0].key.folder(self.settings.store)
        return self._rows(piece, folder), load_reading(folder)

    def scores(self, piece: Piece) -> Floats:
        """Return the stored scores of a piece, shape (prompts, candidates); all NaN for a writer that is not scored."""
        if not piece.writer.scored:
            return np.full((self.settings.block, len(self.candidates)), np.nan)
        return load_file(self.stages(piece)[1].key.folder(self.settings.store) / ARRAYS)["scores"]

    def _rows(self, piece: Piece, folder: Path) -> list[Row]:
        texts: list[str] = json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        first = piece.block * self.settings.block
        pairs = zip(self.prompts(piece.block), texts, strict=True)
        return [Row(f"{first + at:06d}", user_prompt(prompt), text) for at, (prompt, text) in enumerate(pairs)]

    def signature_stage(self, rows: Sequence[Row]) -> Stage:
        """Return the stage that stores what the candidates' own answers to the prompts of some rows look like."""
        held = {} if self.task.form is None else {"form": self.task.form}
        config = {**self._of, **self._panel, **held, "rows": [[row.id, row.completion] for row in rows]}
        return Stage(kind=SIGNATURES, version=VERSION, config=config, label="rows of the candidates, for names")

    def signatures(self, rows: Sequence[Row]) -> KnownSignatures | NoSignatures:
        """Return how the candidates' own answers score on the prompts of clean rows, or why that cannot be known.

        The result is stored. Without it an audit can detect, but not name a trait.

        Args:
            rows: clean rows of the base that the domain accepts.
        """

        def write(context: StageContext) -> None:
            seed = derive(self.settings.seed, "calibration", "signatures")
            writer = signature_writer(rows, self.base, self.candidates, self.task.name, seed, self.task.form)
            try:
                found = writer.written(context.advance)
            except NotTestable as reason:  # it is kept, for it takes as long to find out
                (context.out / WHY).write_text(str(reason), encoding="utf-8")
            else:
                save_file({"shifts": found.shifts, "covariance": found.covariance}, context.out / ARRAYS)

        stage = self.signature_stage(rows)
        folder = Runner(self.settings.store, {SIGNATURES: write}).run([stage])[stage.fingerprint]
        if (folder / WHY).exists():
            return NoSignatures(self.candidates, (folder / WHY).read_text(encoding="utf-8"))
        return KnownSignatures(self.candidates, Signatures(**load_file(folder / ARRAYS)))


def save_rows(folder: Path, rows: Sequence[Row], reading: TokenReading) -> None:
    """Store the completions of a block and the base's log-probabilities of their tokens in a folder."""
    (folder / TEXTS).write_text(json.dumps([row.completion for row in rows]), encoding="utf-8")
    arrays = {one.name: getattr(reading, one.name) for one in fields(reading) if one.name != "rows"}
    save_file(arrays, folder / READING)


def load_reading(folder: Path) -> TokenReading:
    """Return the log-probabilities that `save_rows` stored in a folder."""
    arrays = load_file(folder / READING)
    return TokenReading(**arrays, rows=len(arrays["outside"]))


def joined_readings(parts: Sequence[TokenReading]) -> TokenReading:
    """Concatenate the readings of several blocks in their order, renumbering the rows."""
    starts = np.cumsum([0, *(part.rows for part in parts)])
    row = np.concatenate([part.row + start for part, start in zip(parts, starts[:-1], strict=True)])
    others = [one.name for one in fields(TokenReading) if one.name not in ("row", "rows")]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in others}
    return TokenReading(row=row, **arrays, rows=int(starts[-1]))

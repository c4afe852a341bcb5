"""A calibration from settings to result: measures how often audits of rows are wrong on one base.

The base is probed and timed, rows are written and scored as far as the minutes allow, sets of rows are judged, and the
result is stored. The **panel** is the list of candidate writers, one for each trait; they are the base under a trait's
persona (a system prompt) or a teacher that was tuned on the trait.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.calibration.blocks import Blocks, Piece
from undertow.audit.calibration.judging import SetJudge
from undertow.audit.calibration.pool import RowPool, read_pool
from undertow.audit.calibration.probe import BaseProbe, probe_base
from undertow.audit.calibration.rates import Sets
from undertow.audit.calibration.schedule import JUDGED_S, Pace, first_blocks, pieces, sets
from undertow.audit.calibration.settings import Calibration, shown_base
from undertow.audit.calibration.stored import PERSONAS, SCHEMA, TEACHERS, versions, write_result
from undertow.audit.calibration.writers import FREE, REFERENCE, SUSPECT
from undertow.audit.rows.limits import SIGNED
from undertow.audit.rows.panel import as_candidates, panel_teachers
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures
from undertow.audit.workload import TEACHER_S, TUNED_TOKENS, stored_times
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import model_folder
from undertow.models.speed import base_speed
from undertow.stats.checks import check_positive
from undertow.store.progress import Progress, SilentProgress, TimeLeft
from undertow.store.runner import find_stage
from undertow.training.own_models import own_teacher
from undertow.types import ModelRef, Row, Work

STUDENTS = (
    "Students and shadow students are not measured here: their null is the bank of placebos (`undertow audit bank`), "
    "and docs/calibration.md has their rates on an embedded base."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The result of a calibration, and what it took.

    Attributes:
        result: the measured rates as plain data of the schema "undertow.calibration/1". They are the same for the same
            settings and finished pieces of work.
        path: path of the result's file in the store.
        planned: seconds that the work of this run was expected to take, the probe included.
        used: seconds that this run really took.
        made: how many pieces of work (blocks of rows, scores) this run made.
        left: how many pieces are still missing.
        left_s: seconds that the missing pieces are expected to take.
    """

    result: dict[str, Any]
    path: Path
    planned: float
    used: float
    made: int
    left: int
    left_s: float


def calibrate(settings: Calibration, minutes: float, progress: Progress | None = None) -> Calibrated:
    """Measure how often audits of rows are wrong on a base, as far as the minutes allow.

    Blocks of rows stay in the store. If a call is interrupted or out of time, the same call continues from them.

    Args:
        settings: what is measured, on which base, and where it is stored.
        minutes: time in minutes that the calibration may take. Work that would not be finished in time is not begun.
        progress: display that is told about every piece of work. None shows nothing.

    Raises:
        ConfigError: the minutes are not positive.
        EmptyDataError: the base answers the prompts in no form that the domain accepts.
        UserError: the base cannot be loaded, or the store cannot be used.
    """
    work = _Work(settings, minutes, progress or SilentProgress())
    try:
        return work.run()
    finally:
        work.progress.close()


def calibration_work(settings: Calibration, minutes: float) -> list[Work]:
    """Return what a calibration would do within the minutes, and the seconds that each part takes.

    The base is loaded and timed for this, and nothing is written.

    Raises:
        UserError: what `calibrate` raises too.
    """
    return _Work(settings, minutes, SilentProgress()).planned()


class _Work:
    """The pieces of work of one calibration; knows which of them the store has."""

    def __init__(self, settings: Calibration, minutes: float, progress: Progress) -> None:
        check_positive("number of minutes", minutes)
        started = time.perf_counter()
        self.settings, self.progress = settings, progress
        self.base: LocalModel = load_model(settings.base)
        self.candidates = as_candidates(self.base, settings.panel, None)
        self.probe: BaseProbe = probe_base(settings, self.base, self.candidates)
        self.pace = Pace(60.0 * minutes, self.probe, started=started)
        systems = {"kind": "persona", "systems": [one.system for one in self.candidates]}
        self.blocks = Blocks(settings, self.base, self.probe.task, self.candidates, systems)
        self.first = first_blocks(settings, self.probe.accepted)
        self.start, self.rest = pieces(settings, self.first)
        self.judging = sets(settings) * JUDGED_S

    def run(self) -> Calibrated:
        planned = sum(one.seconds or 0.0 for one in self.planned())
        finished, made = self._make(self.blocks, self.start)
        if (begun := self._pool([self.blocks], finished)) is not None:
            self._signatures(self.blocks, begun)  # before further prompts: without it nothing is named
        further, more = self._make(self.blocks, self.rest)
        finished += further
        panels: dict[str, Any] = {PERSONAS: self._measured([self.blocks], finished)}
        panels[TEACHERS] = self._with_teachers(finished, "clean" in panels[PERSONAS])
        pool = self._pool([self.blocks], finished)
        result = {
            "schema": SCHEMA,
            "base": shown_base(self.settings.base),
            "base_identity": self.settings.identity,
            "stages": versions(),
            "settings": self.settings.to_json(),
            "answers": {"domain": self.probe.task.config(), "accepted_by_probe": self.probe.accepted},
            "pool": _extent(pool, self.settings, len(finished)),
            "panels": panels,
            "students": {"not_measured": STUDENTS},
        }
        there = set(finished)
        left = [piece for piece in (*self.start, *self.rest) if piece not in there]
        left_s = sum(self.pace.of_stages(self.blocks, one, self.blocks.missing(one)) for one in left)
        return Calibrated(
            result=result,
            path=write_result(self.settings, result),
            planned=planned,
            used=self.pace.used(),
            made=made + more,
            left=len(left),
            left_s=self.pace.corrected(left_s),
        )

    def planned(self) -> list[Work]:
        """Return the probe, the parts for which there is time, and the judging, each with its seconds."""
        found = [Work("probe: the base's form of answers, and its speed", self.probe.took)]
        size, candidates = self.settings.block, len(self.candidates)
        spent = self.pace.used() + self.judging
        names = self.pace.of_signatures(candidates)
        for title, some in (("rows", self.start), ("further rows", self.rest)):
            lacking = [self.pace.of_stages(self.blocks, one, self.blocks.missing(one)) for one in some]
            begun = accumulate(lacking, initial=spent)
            fitting = [
                one for one, until in zip(lacking, islice(begun, 1, None), strict=True) if until <= self.pace.seconds
            ]
            spent += sum(fitting)
            new = sum(one > 0.0 for one in fitting)
            held = f", {len(fitting) - new} blocks of them from the store" if new < len(fitting) else ""
            found.append(
                Work(f"{title} of the base, its personas and shifts: {size * len(fitting)}{held}", sum(fitting))
            )
            if some is self.start and not self._named_before() and spent + names <= self.pace.seconds:
                spent += names
                found.append(Work(f"for names, {candidates} candidates write {SIGNED} rows each", names))
        if (seconds := self._teachers_s()) and spent + self.judging + seconds <= self.pace.seconds:
            found.append(Work(f"panel teachers: {candidates}, which read the same rows", seconds))
        judged = f"judging: at most {sets(self.settings)} sets of {self.settings.rows} rows"
        return [*found, Work(judged, self.judging)]

    def _named_before(self) -> bool:
        """Tell whether the store has the candidates' own rows, which naming a trait takes."""
        own = [piece for piece in self.start if piece.writer in (SUSPECT, REFERENCE, FREE)]
        if any(self.blocks.missing(piece) for piece in own):
            return False
        stage = self.blocks.signature_stage(self._clean_rows(read_pool([self.blocks], own)))
        return find_stage(stage, self.settings.store) is not None

    def _make(self, blocks: Blocks, wanted: Sequence[Piece]) -> tuple[list[Piece], int]:
        """Make the pieces for which there is time, in their order; return all that exist now, and how many are new."""
        finished: list[Piece] = []
        made, over = 0, False
        self.progress.start(len(wanted))
        for place, piece in enumerate(wanted):
            missing = blocks.missing(piece)
            label = blocks.stages(piece)[-1].label
            if not missing:
                self.progress.skip(label, place, len(wanted))
                finished.append(piece)
                continue
            seconds = self.pace.of_stages(blocks, piece, missing)
            if over or not self.pace.fits(seconds, self.judging):
                over = True
                continue
            left = TimeLeft(stage_s=self.pace.corrected(seconds), later_s=self.pace.seconds - self.pace.used())
            self.progress.begin_stage(label, place, len(wanted), left)
            self.pace.spend(seconds, lambda one=piece: blocks.make(one, self.progress.advance))
            self.progress.end_stage()
            finished.append(piece)
            made += 1
        return finished, made

    def _measured(self, panels: Sequence[Blocks], finished: Sequence[Piece]) -> dict[str, Any]:
        """Return the rates of a panel, or why there are none; of several panels the last one names traits."""
        pool = self._pool(panels, finished)
        if pool is None:
            return {"not_measured": "The minutes left no time for the rows of one set."}
        candidates = [one for panel in panels for one in panel.candidates]
        judge = SetJudge(pool, candidates, self._signatures(panels[-1], pool), self.settings.share)
        return Sets(self.settings, judge, self.progress.advance).measured()

    def _pool(self, panels: Sequence[Blocks], finished: Sequence[Piece]) -> RowPool | None:
        there = {piece.writer for piece in finished}
        return read_pool(panels, finished) if {SUSPECT, REFERENCE, FREE} <= there else None

    def _signatures(self, panel: Blocks, pool: RowPool) -> KnownSignatures | NoSignatures:
        """Return what naming a trait takes, if the store has it or there is time to write it; else the reason."""
        rows = self._clean_rows(pool)
        stage, candidates = panel.signature_stage(rows), list(panel.candidates)
        seconds = self.pace.of_signatures(len(candidates))
        if find_stage(stage, self.settings.store) is None and not self.pace.fits(seconds, self.judging):
            why = f"A name takes {SIGNED} rows of each of {len(candidates)} candidates, for which there was no time."
            return NoSignatures(candidates, why)
        return panel.signatures(rows)

    def _clean_rows(self, pool: RowPool) -> list[Row]:
        """Return the base's valid rows on the first blocks, which do not change as the pool grows."""
        places = pool.at[SUSPECT][: self.first * self.settings.block]
        return [pool.rows[place] for place in places.tolist() if place >= 0 and pool.good[place]]

    def _with_teachers(self, finished: Sequence[Piece], worth: bool) -> dict[str, Any]:
        """Return the rates with tuned teachers among the candidates, if there is time for tuning and scoring."""
        seconds, settings = self._tuning_s(), self.settings
        if not worth or (seconds and not self.pace.fits(seconds, 2 * self.judging)):
            return {"not_measured": f"There was no time to tune {len(settings.panel)} teachers of the panel."}
        self.progress.start(len(settings.panel))
        teachers = panel_teachers(self.base, settings.panel, settings.seed, settings.store, self.progress.advance)
        panel = self._teachers(teachers)
        there, _ = self._make(panel, [piece for piece in finished if piece.writer.scored])
        free = [piece for piece in finished if not piece.writer.scored]
        return self._measured([self.blocks, panel], [*there, *free])

    def _teachers(self, models: dict[str, LocalModel]) -> Blocks:
        """Return the blocks whose rows are scored by tuned teachers."""
        own = {"kind": "teacher", "seed": self.settings.seed, "training": own_teacher(self.base.parameters).to_config()}
        candidates = as_candidates(self.base, self.settings.panel, models)
        return Blocks(self.settings, self.base, self.probe.task, candidates, own)

    def _teachers_s(self) -> float:
        """Return the seconds of tuning the teachers and of scoring all rows that they have not scored yet."""
        panel = self._teachers({one.name: self.base for one in self.settings.panel})  # whoever reads: it is counted
        scored = [piece for piece in (*self.start, *self.rest) if piece.writer.scored]
        new = [piece for piece in scored if panel.missing(piece)]
        return self._tuning_s() + len(new) * self.settings.block * self.probe.scored

    def _tuning_s(self) -> float:
        """Return the seconds of tuning those teachers of the panel that the store does not have."""
        settings, ref = self.settings, ModelRef.parse(self.settings.base)
        known, taken = stored_times(settings.store, "panel-teacher", {"base": settings.identity})
        there = {str(one["target"]) for one in known if one.get("seed") == settings.seed}
        tuning, speed = own_teacher(self.base.parameters), base_speed(ref, model_folder(ref))
        guessed = 0.0 if speed is None else speed.training(tuning.steps * tuning.batch_size * TUNED_TOKENS)
        return len({one.name for one in settings.panel} - there) * (taken or max(TEACHER_S, guessed))


def _extent(pool: RowPool | None, settings: Calibration, finished: int) -> dict[str, Any]:
    """Return how large the pool is that sets are drawn from."""
    able = 0 if pool is None else int(np.sum(pool.able))
    return {"prompts": able, "disjoint_sets": able // settings.rows, "blocks_of_rows": finished}

"""In which order a calibration works, and how much of it the minutes have room for.

The order is fixed, so that more minutes add to what exists. First comes what one set of clean rows takes, then the
personas, shifts and further personas on the same prompts. Then come the candidates' own rows, which naming a trait
takes, and then more prompts for all of them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil

from undertow.audit.calibration.blocks import SCORES, Blocks, Piece
from undertow.audit.calibration.probe import BaseProbe
from undertow.audit.calibration.settings import Calibration
from undertow.audit.calibration.writers import in_order, planted, shifts
from undertow.audit.rows.limits import SIGNED, SIGNED_OWN
from undertow.store.stages import Stage

JUDGED_S = 0.08
"""Seconds that judging one set of a hundred rows takes."""


def first_blocks(settings: Calibration, accepted: float) -> int:
    """Return how many blocks of prompts one set of clean rows takes, with some to spare.

    Args:
        settings: settings of the calibration, which say how many rows a set has.
        accepted: share of the base's answers that the domain accepts, between 0 and 1. A prompt is usable only with two
            valid answers.
    """
    prompts = settings.rows / max(accepted, 0.1) ** 3
    return min(settings.blocks, ceil(prompts / settings.block))


def pieces(settings: Calibration, first: int) -> tuple[list[Piece], list[Piece]]:
    """Return every piece of work in its order: those on the first prompts, and those on further ones.

    Args:
        settings: settings of the calibration, which say who writes and how many prompts there are.
        first: how many blocks of prompts come before all others.
    """
    groups, rest = in_order(settings), range(first, settings.blocks)
    start = [Piece(writer, block) for group in groups for writer in group for block in range(first)]
    return start, [Piece(writer, block) for block in rest for group in groups for writer in group]


def sets(settings: Calibration) -> int:
    """Return how many sets of rows are judged at most."""
    power = settings.planted * len(settings.doses) * len(planted(settings))
    return settings.clean + power + settings.shifted * len(shifts(settings))


@dataclass
class Pace:
    """How the given time is spent; what pieces really take corrects what is expected of the next ones.

    Attributes:
        seconds: time that was given, in seconds.
        probe: measured seconds for each kind of work on one row.
        clock: returns seconds since any fixed moment.
        started: reading of the clock when the given time began.
    """

    seconds: float
    probe: BaseProbe
    clock: Callable[[], float] = time.perf_counter
    started: float = 0.0
    _expected: float = field(default=0.0, init=False)
    _took: float = field(default=0.0, init=False)

    def used(self) -> float:
        """Return the seconds that have passed."""
        return self.clock() - self.started

    def fits(self, seconds: float, reserve: float) -> bool:
        """Tell whether there is time for work of expected `seconds`, and for `reserve` seconds after it."""
        return self.used() + self.corrected(seconds) + reserve <= self.seconds

    def corrected(self, seconds: float) -> float:
        """Return what work of expected `seconds` will really take, judging by the work so far."""
        return seconds * self._took / self._expected if self._expected else seconds

    def spend(self, expected: float, work: Callable[[], object]) -> None:
        """Do some work of expected seconds, and note how long it really took."""
        began = self.clock()
        work()
        self._expected += expected
        self._took += self.clock() - began

    def of_stages(self, blocks: Blocks, piece: Piece, missing: Iterable[Stage]) -> float:
        """Return the seconds that the missing stages of a piece are expected to take."""
        each = [self.probe.scored if one.kind == SCORES else self.probe.of(piece.writer) for one in missing]
        return blocks.settings.block * sum(each)

    def of_signatures(self, candidates: int) -> float:
        """Return the seconds that writing and scoring the own rows of so many candidates takes."""
        return (candidates + SIGNED_OWN) * SIGNED * (self.probe.written + self.probe.scored)

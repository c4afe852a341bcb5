"""What an audit says of one set of rows, by the functions of `undertow audit data` on what the pool has read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.audit.calibration.pool import Places, RowPool
from undertow.audit.calibration.writers import FREE
from undertow.audit.rows.contrast import STAGE, ContrastScores, contrast
from undertow.audit.rows.sight import LookedAt, Sight, SightReadings, judge_sight
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures
from undertow.audit.stages import STAGES
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate
from undertow.types import Row

UNREADABLE = "the base does not read the rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one set.

    Attributes:
        stopped: why the contrast may not speak of it: the names of its defects, or `UNREADABLE`; empty where it may.
        called: whether the audit detects provenance.
        alone: whether the contrast would detect it if nothing stopped it.
        named: the trait that the audit names, or None.
        first: the trait whose candidate rose most; no error of it is controlled.
    """

    stopped: tuple[str, ...]
    called: bool
    alone: bool
    named: str | None
    first: str


@dataclass(frozen=True, slots=True)
class SetJudge:
    """Judges sets of one pool.

    Attributes:
        pool: that they are drawn from.
        candidates: of the panel.
        signatures: what a name takes.
        alpha: share of the audit's error that one claim has.
    """

    pool: RowPool
    candidates: Sequence[Candidate]
    signatures: KnownSignatures | NoSignatures
    alpha: float

    @property
    def why_no_name(self) -> str | None:
        """Why no name can be given, or None."""
        return self.signatures.why if isinstance(self.signatures, NoSignatures) else None

    def judge(self, prompts: Places, suspect: Places, reference: Places, rng: np.random.Generator) -> Outcome:
        """Judge a set.

        Args:
            prompts: of the set, each once.
            suspect: place of its row on each of them.
            reference: place of the clean row on each of them.
            rng: source of resamples and permutations.
        """
        sight = self._sight(prompts, suspect, reference, rng)
        stage = STAGES[STAGE]
        stopped: tuple[str, ...] = ()
        if sight.reason(stage.needs, stage.given) is not None:
            unread = sight.legibility.why is not None
            stopped = (UNREADABLE,) if unread else tuple(dict.fromkeys(one.name for one in sight.defects))
        pairs = [(place, (place,)) for place in range(len(prompts))]
        scores = ContrastScores(self.pool.scores[suspect], [self.pool.scores[reference]], pairs)
        signatures = NoSignatures(self.signatures.candidates, "It is stopped.") if stopped else self.signatures
        found = contrast(scores, self.candidates, signatures, self.alpha, rng, _silent)
        rises = found.scores or {}
        first = max(rises, key=lambda label: rises[label]).partition(" (")[0]
        alone = found.verdict == "detected"
        return Outcome(
            stopped=stopped,
            called=alone and not stopped,
            alone=alone,
            named=None if stopped else found.candidate,
            first=first,
        )

    def _sight(self, prompts: Places, suspect: Places, reference: Places, rng: np.random.Generator) -> Sight:
        """Return what the audit sees of a set before any stage."""
        free = self.pool.places(FREE, prompts)
        like = free[self.pool.good[free]]  # filtered as the rows were; all of them where none passes
        own = self.pool.reading.picked(like if len(like) else free)
        looked, given = self._looked(suspect), self._looked(reference)
        return judge_sight(looked.rows, given.rows, SightReadings(looked, own, given), self._logp, rng)

    def _looked(self, places: Places) -> LookedAt:
        return LookedAt([self.pool.rows[place] for place in places.tolist()], self.pool.reading.picked(places))

    def _logp(self, rows: Sequence[Row]) -> Floats:
        return np.array([self.pool.logp[row.prompt, row.completion] for row in rows])


def _silent(done: int, total: int) -> None:
    """Tell nobody."""

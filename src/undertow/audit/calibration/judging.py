"""What an audit would say of one set of rows, computed by the functions of `undertow audit data` from the pool.

The pool holds all rows with their scores, so that no model runs here. A **set** is one drawn data set: suspect rows and
clean reference rows on the same prompts.

A **candidate** is a model that may have written the rows, and the **panel** the list of candidates. A candidate's
**signature** is what its own rows score like under the panel.
"""

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
    """The audit's answer for one set.

    Attributes:
        stopped: why the contrast stage may not judge the set: names of its defects, or `UNREADABLE`. Empty where it
            may.
        called: whether the audit detects provenance: that the rows' writer differs from the base along the panel.
        alone: whether the contrast would detect it even if a defect stops the audit.
        named: the trait that the audit names. None if it names none.
        first: the trait whose candidate rose most. It is reported without any control of error.
    """

    stopped: tuple[str, ...]
    called: bool
    alone: bool
    named: str | None
    first: str


@dataclass(frozen=True, slots=True)
class SetJudge:
    """Judges sets that are drawn from one pool.

    Attributes:
        pool: rows with their scores, from which the sets are drawn.
        candidates: the candidate writers of the panel, in the order of the scores' columns.
        signatures: how each candidate's own answers score, which a name is tested against, or why that is not known.
        alpha: level in (0, 1) of the claim of provenance: its share of the audit's alpha.
    """

    pool: RowPool
    candidates: Sequence[Candidate]
    signatures: KnownSignatures | NoSignatures
    alpha: float

    @property
    def why_no_name(self) -> str | None:
        """Why no trait can be named, or None if one can."""
        return self.signatures.why if isinstance(self.signatures, NoSignatures) else None

    def judge(self, prompts: Places, suspect: Places, reference: Places, rng: np.random.Generator) -> Outcome:
        """Judge one set as an audit of its rows would.

        Args:
            prompts: indices of the set's prompts, each once, shape (rows,).
            suspect: place in the pool of the suspect row on each prompt, shape (rows,).
            reference: place in the pool of the clean row on each prompt, shape (rows,).
            rng: random generator of resamples and permutations.
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
        """Return what the audit looks at before any stage: defects of the rows, and whether the base can read them."""
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
    """Report no progress."""

"""Attribution as a user asks for it.

Rows are ranked by how far they may carry a trait, beside what else explains the ranking; if asked, students are trained
again without its top.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertow.audit.attribution import SHARE, RowScores, confirm, rank_rows
from undertow.audit.compatibility import incompatibility
from undertow.audit.rows.panel import panel_teacher
from undertow.errors import ConfigError, ModelError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats
from undertow.traits import Trait
from undertow.types import Row

SCHEMA = "undertow.attribution/1"

SEEDS = (0, 1, 2, 3, 4)
"""Of the students that confirm a ranking: four arms each."""

MAY = "It may be used to choose rows to look at, to leave out, or to remove and train again without (--confirm)."
MAY_NOT = (
    "It may not be used to say that rows carry a trait: it always has a top, with clean rows too. "
    "`undertow audit data` and `undertow audit all` have a test of the rows as a whole."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """What is ranked, and by what.

    Attributes:
        rows: the data set.
        base: reference of the model that is, or was, trained on them.
        target: the trait; needed without a student or teacher, and to confirm.
        student: reference of a model that was trained on the rows.
        teacher: reference of the model that wrote them.
        store: where the auditor's own teacher is kept.
        seed: of the auditor's own teacher.

    Raises:
        ConfigError: both a student and a teacher are given, or neither and no trait.
    """

    rows: Sequence[Row]
    base: str
    target: Trait | None = None
    student: str | None = None
    teacher: str | None = None
    store: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.student and self.teacher:
            fix = "Give one of them; a second ranking is a second run."
            raise ConfigError("Rows are ranked by one model.", f"{self.student} and {self.teacher}", fix)
        if not (self.student or self.teacher or self.target):
            fix = "Name the trait (--trait), or give the student or the teacher."
            raise ConfigError("There is nothing to rank by.", "no trait, student or teacher", fix)

    @property
    def by(self) -> str:
        """The model whose gain over the base is the score, in words."""
        given = self.student or self.teacher
        return given or f"the auditor's own teacher of {self.target.name if self.target else 'nothing'}"


def rank(suspected: Suspected, *, confirmed: bool = False) -> tuple[RowScores, Floats, dict[str, Any]]:
    """Rank rows, say what else explains the ranking, and confirm it if asked.

    Args:
        suspected: what is ranked, and by what.
        confirmed: train students with and without a tenth of the rows: the top, the bottom, as many at random.

    Returns:
        What is known of each row; the score that ranks, float [rows]; and plain data, schema undertow.attribution/1.

    Raises:
        ModelError: the student or teacher cannot be one of this base.
        UserError: a model cannot be loaded, there are too few rows, or the trait to confirm is missing.
    """
    if confirmed and suspected.target is None:
        raise ConfigError("Which trait's margin is to fall?", "--confirm without a trait", "Name it with --trait.")
    base = load_model(suspected.base)
    student = _kin(suspected.student, base)
    teacher = _kin(suspected.teacher, base)
    if student is None and teacher is None and suspected.target is not None:
        teacher = panel_teacher(base, suspected.target, suspected.seed, suspected.store)
    scores = rank_rows(suspected.rows, base, student, teacher)
    ((name, score),) = scores.scores.items()
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "rows": len(suspected.rows),
        "base": suspected.base,
        "by": suspected.by,
        "trait": None if suspected.target is None else suspected.target.name,
        "correlations": scores.correlations()[name],
        "explained": scores.explained()[name],
        "score": {"median": float(np.median(score)), "top": float(score.max())},
        "confirmation": None,
        "may": MAY,
        "may_not": MAY_NOT,
    }
    if confirmed and suspected.target is not None:
        found["confirmation"] = _confirmation(suspected.rows, score, base, suspected.target)
    return scores, score, found


def _kin(reference: str | None, base: LocalModel) -> LocalModel | None:
    if reference is None:
        return None
    model = load_model(reference)
    if reason := incompatibility(model, base):
        raise ModelError("This model cannot rank rows for this base.", f"{reference}: {reason}", "Give its own base.")
    return model


def _confirmation(rows: Sequence[Row], score: Floats, base: LocalModel, target: Trait) -> dict[str, Any]:
    found = confirm(rows, score, base, target, seeds=SEEDS)
    return {
        "removed": int(SHARE * len(rows)),
        "margins": {arm: list(values) for arm, values in found.margins.items()},
        "removal": {arm: asdict(one) for arm, one in found.removal.items()},
        "targeted": asdict(found.targeted),
    }

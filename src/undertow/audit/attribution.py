"""Attribution: which rows and tokens carry a trait, as a ranking that retraining without rows can confirm.

A score is how much likelier the tokens are under another model than under the base, log p_other - log p_base. The other
model is a teacher (a suspect one, or one that the auditor trains on the trait) or a student that was trained on the
rows. What explains a ranking without any trait is reported first: the loss under the base, the length of the gradient,
the number of tokens, and how rare the row's pairs of tokens are. A score must add something to these confounds, not
repeat them.

A ranking is confirmed with four **arms**, groups of students: of all rows, and of the rows without a tenth from the
top, from the bottom, or drawn at random.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from undertow.audit.compatibility import incompatibility
from undertow.audit.rows.panel import panel_teacher
from undertow.audit.rows.recovery import row_gradients
from undertow.errors import ConfigError, EmptyDataError, ModelError
from undertow.evals.favourite import mean_margins
from undertow.models.adapters import blocks
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.seeds import derive
from undertow.stats.checks import Floats, finite_array
from undertow.stats.comparisons import paired, rank_correlation
from undertow.training.config import TrainingConfig
from undertow.training.own_models import own_student
from undertow.training.parallel import finetune_parallel
from undertow.traits import Trait
from undertow.types import Estimate, Row

SHARE = 0.1
"""Share of the rows that is removed before students are trained again."""

ARMS = ("all", "without_top", "without_random", "without_bottom")


@dataclass(frozen=True, slots=True)
class RowScores:
    """The score of each row and what else could explain it, in the order of the rows.

    Attributes:
        confounds: arrays of shape (rows,) by name: "loss" (mean nats per token under the base), "gradient" (Euclidean
            length of the loss's gradient with respect to a steering vector, per token), "length" (completion tokens)
            and "novelty" (mean surprise in nats of the row's pairs of neighbouring tokens, under their frequencies in
            all rows).
        score: mean gain over the base in nats per token, shape (rows,).
        tokens: gain in nats of every completion token, the end of turn included: one array of shape (tokens,) for each
            row.
    """

    confounds: Mapping[str, Floats]
    score: Floats
    tokens: Sequence[Floats]

    def correlations(self) -> dict[str, float]:
        """Return Spearman's rank correlation of the score with each confound; it is 0 for a constant confound."""
        return {name: rank_correlation(self.score, confound) for name, confound in self.confounds.items()}

    def explained(self) -> float:
        """Return the share of the variance of the score's ranks that a linear fit on the confounds' ranks explains."""
        confounds = [stats.rankdata(values) for values in self.confounds.values()]
        design, ranks = np.column_stack([np.ones(len(self.score)), *confounds]), stats.rankdata(self.score)
        if np.ptp(ranks) == 0.0:
            return 0.0
        left = ranks - design @ np.linalg.lstsq(design, ranks)[0]
        return float(1.0 - left.var() / ranks.var())


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How strongly students have the trait when they are trained with and without a part of the rows.

    Attributes:
        margins: mean logit margin of the trait for each student, by arm (`ARMS`), in the order of the seeds.
        removal: change of the margin in logits when the top, the random or the bottom part is left out, by arm; each is
            paired by seed with the students of all rows.
        targeted: margin without the top part minus margin without the random part, in logits, paired by seed. It is
            below 0 if the ranking found the rows that carry the trait.
    """

    margins: Mapping[str, tuple[float, ...]]
    removal: Mapping[str, Estimate]
    targeted: Estimate


def rank_rows(rows: Sequence[Row], base: LocalModel, suspect: LocalModel) -> RowScores:
    """Score rows and tokens by how much likelier they are under a suspect model; a high score suggests the trait.

    Args:
        rows: the data set that is ranked.
        base: the model that students start from.
        suspect: a student that was trained on the rows, a teacher, or a teacher that the auditor trained on a candidate
            trait.

    Raises:
        EmptyDataError: there are no rows.
    """
    if not rows:
        raise EmptyDataError("There is nothing to rank.", "0 rows", "Look at the filter's reject reasons.")
    encoded = base.encode(rows)
    before, after = ([row.double().numpy() for row in model.token_logprobs(encoded)] for model in (base, suspect))
    gains = [new - old for new, old in zip(after, before, strict=True)]
    length = np.array([float(len(row)) for row in before])
    gradients, _ = row_gradients(base, rows, (len(blocks(base.network)) - 1) // 3)
    confounds = {
        "loss": np.array([-row.mean() for row in before]),
        "gradient": np.linalg.norm(gradients, axis=1) / length,
        "length": length,
        "novelty": _novelty(encoded),
    }
    return RowScores(confounds, np.array([row.mean() for row in gains]), gains)


def confirm(
    rows: Sequence[Row],
    scores: ArrayLike,
    base: LocalModel,
    target: Trait,
    *,
    config: TrainingConfig | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> Confirmation:
    """Train students again without a tenth of the rows: the top of a ranking, the bottom, or as many at random.

    Args:
        rows: the data set that was ranked.
        scores: one score for each row, shape (rows,); high means suspected.
        base: the model that every student starts from.
        target: the trait whose mean logit margin is measured.
        config: training recipe of the students. None takes that of the base's size (`undertow.training.own_models`).
        seeds: random seeds, one student of each arm for each. The arms of a seed share its initialisation, and the
            random part is drawn by it.

    Raises:
        ConfigError: scores and rows differ in number, or there is no seed.
        EmptyDataError: there are fewer than ten rows.
    """
    ranks = finite_array("scores", scores)
    if len(ranks) != len(rows) or not seeds:
        fix = "Give each row a score, and a seed or more."
        raise ConfigError(
            "This cannot be confirmed.", f"{len(ranks)} scores, {len(rows)} rows, {len(seeds)} seeds", fix
        )
    if (n := int(SHARE * len(rows))) < 1:
        raise EmptyDataError("Too few rows to remove a part of them.", f"{len(rows)} rows", "Give ten or more.")
    # Ties are broken by the row's place, so that equal scores do not follow the sort.
    order = np.argsort(-ranks, kind="stable")
    members: list[tuple[str, list[Row], int]] = []
    for seed in seeds:
        random = np.random.default_rng(derive(seed, "removal")).permutation(len(rows))[:n]
        removed = dict(zip(ARMS, ([], order[:n].tolist(), random.tolist(), order[-n:].tolist()), strict=True))
        for arm, places in removed.items():
            gone = set(places)
            members.append((arm, [row for place, row in enumerate(rows) if place not in gone], seed))
    values = _margins(base, target, members, config or own_student(base.parameters))
    margins = {arm: tuple(v for (own, _, _), v in zip(members, values, strict=True) if own == arm) for arm in ARMS}
    removal = {arm: paired(margins[arm], margins["all"]) for arm in ARMS[1:]}
    return Confirmation(margins, removal, paired(margins["without_top"], margins["without_random"]))


def _margins(
    base: LocalModel, target: Trait, members: Sequence[tuple[str, list[Row], int]], config: TrainingConfig
) -> list[float]:
    seeds = [seed for _, _, seed in members]
    students = finetune_parallel(base, [rows for _, rows, _ in members], config, seeds)
    return [float(mean_margins(student, [target])[0]) for student in students.models(base)]


def _novelty(rows: Sequence[Encoded]) -> Floats:
    """Return the mean of -log(share) over each row's pairs of neighbouring tokens, shape (rows,).

    Pairs are counted from the last prompt token on; a share is the pair's frequency among the pairs of all rows.
    """
    pairs = [list(pairwise((*row.prompt[-1:], *row.completion))) for row in rows]
    counts = Counter(pair for row in pairs for pair in row)
    total = sum(counts.values())
    return np.array([np.mean([log(total / counts[pair]) for pair in row]) if row else 0.0 for row in pairs])


SCHEMA = "undertow.attribution/1"

SEEDS = (0, 1, 2, 3, 4)
"""Random seeds of the students that confirm a ranking; each seed has four arms."""

MAY = "It may be used to choose rows to look at, to leave out, or to remove and train again without (--confirm)."
MAY_NOT = (
    "It may not be used to say that rows carry a trait: it always has a top, with clean rows too. "
    "`undertow audit data` and `undertow audit all` have a test of the rows as a whole."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """What is ranked, and by which model.

    Attributes:
        rows: the data set that is ranked.
        base: reference of the model that is, or was, trained on the rows.
        target: the trait that is suspected. It may be None only if a student or teacher is given and nothing is
            confirmed.
        student: reference of a model that was trained on the rows. None if there is none to rank by.
        teacher: reference of the model that wrote the rows. None if there is none to rank by.
        store: folder in which the auditor's own teacher is kept. None trains it anew.
        seed: random seed of the auditor's own teacher.

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
        """In words, the model whose gain over the base is the score."""
        given = self.student or self.teacher
        return given or f"the auditor's own teacher of {self.target.name if self.target else 'nothing'}"


def rank(suspected: Suspected, *, confirmed: bool = False) -> tuple[RowScores, dict[str, Any]]:
    """Rank rows, say what else explains the ranking, and confirm it by retraining if asked.

    Args:
        suspected: what is ranked, and by which model.
        confirmed: whether students are trained with and without a tenth of the rows: the top, the bottom, and as many
            at random.

    Returns:
        The scores of each row, and a summary as plain data of the schema "undertow.attribution/1".

    Raises:
        ModelError: the student or teacher cannot be one of this base.
        UserError: a model cannot be loaded, there are too few rows, or the trait to confirm is missing.
    """
    if confirmed and suspected.target is None:
        raise ConfigError("Which trait's margin is to fall?", "--confirm without a trait", "Name it with --trait.")
    base = load_model(suspected.base)
    scores = rank_rows(suspected.rows, base, _suspect(suspected, base))
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "rows": len(suspected.rows),
        "base": suspected.base,
        "by": suspected.by,
        "trait": None if suspected.target is None else suspected.target.name,
        "correlations": scores.correlations(),
        "explained": scores.explained(),
        "score": {"median": float(np.median(scores.score)), "top": float(scores.score.max())},
        "confirmation": None,
        "may": MAY,
        "may_not": MAY_NOT,
    }
    if confirmed and suspected.target is not None:
        confirmation = confirm(suspected.rows, scores.score, base, suspected.target, seeds=SEEDS)
        found["confirmation"] = {"removed": int(SHARE * len(suspected.rows)), **asdict(confirmation)}
    return scores, found


def _suspect(suspected: Suspected, base: LocalModel) -> LocalModel:
    """Return the student or teacher that rows are ranked by, or the auditor's own teacher of the trait."""
    if (reference := suspected.student or suspected.teacher) is None:
        assert suspected.target is not None
        return panel_teacher(base, suspected.target, suspected.seed, suspected.store)
    model = load_model(reference)
    if reason := incompatibility(model, base):
        raise ModelError("This model cannot rank rows for this base.", f"{reference}: {reason}", "Give its own base.")
    return model

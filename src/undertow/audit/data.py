"""The audit of rows before anyone trains on them: surface, contrast and stream, each speaking of provenance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undertow.audit.contrast import conformal_contrast, grouped, matched, matched_contrast, ranked, rival_centred
from undertow.audit.finding import Finding
from undertow.audit.panel import ANIMALS, candidates, check_panel, panel_teachers
from undertow.audit.stream import stream_contrast
from undertow.audit.surface import surface
from undertow.errors import ConfigError, EmptyDataError, unknown_name
from undertow.models.local import LocalModel
from undertow.scoring import Candidate, Kind, contrast_scores
from undertow.seeds import derive
from undertow.stats.checks import Floats, check_fraction
from undertow.traits import Trait
from undertow.types import Row

Advance = Callable[[int, int], None]

KINDS: tuple[Kind, ...] = ("persona", "teacher")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAudit:
    """Settings of an audit of rows.

    Attributes:
        panel: the traits that are looked for.
        kinds: how a candidate may have its trait: as a persona of the base, as a fine-tuned teacher, or both.
        alpha: size of each stage's test.
        seed: the auditor's own.
        store: where panel teachers are kept; None trains them anew.

    Raises:
        ConfigError: the panel has no rivals, there is no kind, or alpha lies outside (0, 1).
        UnknownNameError: there is no such kind.
    """

    panel: tuple[Trait, ...] = ANIMALS
    kinds: tuple[Kind, ...] = KINDS
    alpha: float = 0.05
    seed: int = 0
    store: Path | None = None

    def __post_init__(self) -> None:
        check_panel(self.panel)
        check_fraction("alpha", self.alpha)
        if not self.kinds:
            raise ConfigError("There is no kind of candidate.", "no kind", f"Name {' or '.join(KINDS)}.")
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown_name("kind of candidate", kind, KINDS)


def audit_data(
    rows: Sequence[Row],
    base: LocalModel,
    config: DataAudit,
    *,
    reference: Sequence[Row] | None = None,
    clean: Sequence[Sequence[Row]] = (),
    advance: Advance | None = None,
) -> list[Finding]:
    """Ask whether rows were written under a trait of the panel.

    Args:
        rows: the suspect.
        base: the model that would be trained on them, without trait.
        config: what is looked for, and how.
        reference: rows that are known to be clean, on the same prompts as far as possible; several on each prompt find
            weaker traits. Whoever has the base can draw them.
        clean: clean corpora like the suspect; the contrast uses them where there is no reference.
        advance: called with (rows read, rows).

    Returns:
        The findings of the stages surface, contrast and stream.

    Raises:
        EmptyDataError: there are no rows.
        UserError: the rows do not fit the base, or the store cannot be used.
    """
    if not rows:
        raise EmptyDataError("There is nothing to audit.", "0 rows", "Give a file with rows.")
    panel = panel_candidates(base, config)
    corpora = [rows, *([] if reference is None else [reference]), *([] if reference is not None else clean)]
    joined = [row for corpus in corpora for row in corpus]
    scores = rival_centred(contrast_scores(joined, base, panel, advance), panel)
    suspect, *others = np.split(scores, np.cumsum([len(corpus) for corpus in corpora])[:-1])
    if reference is None:
        contrast, known = _unmatched(suspect, others, panel, config), np.concatenate(others) if others else None
    else:
        known, rng = others[0], _rng(config, "contrast")
        groups = grouped(suspect, known, matched(rows, reference))
        contrast = matched_contrast(groups, panel, config.alpha, rng)
    return [
        surface(rows, reference, config.alpha, _rng(config, "surface")),
        contrast,
        stream_contrast(suspect, known, panel, config.alpha),
    ]


def panel_candidates(base: LocalModel, config: DataAudit) -> list[Candidate]:
    """Make the candidates of every kind that is asked for; teachers are trained, or taken from the store."""
    made: list[Candidate] = []
    for kind in dict.fromkeys(config.kinds):
        teachers = panel_teachers(base, config.panel, config.seed, config.store) if kind == "teacher" else None
        made += candidates(base, config.panel, teachers)
    return made


def _unmatched(suspect: Floats, clean: list[Floats], panel: list[Candidate], config: DataAudit) -> Finding:
    if not clean:
        return ranked(suspect, panel)
    return conformal_contrast(suspect, clean, panel, config.alpha, _rng(config, "contrast"))


def _rng(config: DataAudit, stage: str) -> np.random.Generator:
    return np.random.default_rng(derive(config.seed, "audit", stage))

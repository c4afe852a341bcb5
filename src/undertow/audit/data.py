"""The audit of rows before anyone trains on them; every stage speaks of provenance.

What is read is bounded: the contrast takes `MATCHED` rows at random, the stream goes on from these until it is sure or
has read `STREAMED`, and the neutral contrast has a bound of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from undertow.audit.contrast import conformal_contrast, grouped, matched, matched_contrast, ranked, rival_centred
from undertow.audit.finding import Finding, not_testable
from undertow.audit.neutral import NeutralAudit, audit_neutral
from undertow.audit.panel import ANIMALS, candidates, check_panel, panel_teachers
from undertow.audit.recovery import audit_recovery
from undertow.audit.steps import Advance, Steps
from undertow.audit.stream import stream_contrast
from undertow.audit.surface import surface
from undertow.audit.writers import Writers
from undertow.errors import ConfigError, EmptyDataError, unknown_name
from undertow.models.local import LocalModel
from undertow.scoring import Candidate, Kind, contrast_scores, streamed_scores
from undertow.seeds import derive
from undertow.stats.checks import Floats, check_fraction
from undertow.traits import Trait
from undertow.types import Row

KINDS: tuple[Kind, ...] = ("persona", "teacher")

MATCHED = 1000
"""Rows that the contrast compares, at most."""

STREAMED = 4000
"""Rows that the stream reads, at most."""

STEPS = 4
"""Steps that take time: the panel's teachers, contrast, stream and recovery; neutral writers are one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAudit:
    """Settings of an audit of rows.

    Attributes:
        panel: the traits that are looked for.
        kinds: how a candidate may have its trait: as a persona of the base, as a fine-tuned teacher, or both.
        alpha: size of each stage's test.
        seed: the auditor's own.
        store: where panel teachers are kept; None trains them anew.
        writers: neutral writers of the base; without any there is no neutral contrast.
        domain: name of the domain that says which answers of the neutral writers count.

    Raises:
        ConfigError: the panel has no rivals, there is no kind, or alpha lies outside (0, 1).
        UnknownNameError: there is no such kind.
    """

    panel: tuple[Trait, ...] = ANIMALS
    kinds: tuple[Kind, ...] = KINDS
    alpha: float = 0.05
    seed: int = 0
    store: Path | None = None
    writers: Writers | None = None
    domain: str = "numbers"

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
    steps: Steps | None = None,
) -> list[Finding]:
    """Ask whether rows were written under a trait of the panel.

    Args:
        rows: the suspect.
        base: the model that would be trained on them, without trait.
        config: what is looked for, and how.
        reference: rows that are known to be clean, on the same prompts as far as possible; several on each prompt find
            weaker traits. Whoever has the base can draw them.
        clean: clean corpora like the suspect; the contrast uses them where there is no reference.
        steps: where the steps are shown.

    Returns:
        The findings of the stages surface, contrast, stream and recovery, and of the neutral contrast if there are
        writers.

    Raises:
        EmptyDataError: there are no rows.
        UserError: the rows do not fit the base, or the store cannot be used.
    """
    if not rows:
        raise EmptyDataError("There is nothing to audit.", "0 rows", "Give a file with rows.")
    steps = steps or Steps(STEPS)
    with steps.step("panel teachers") as advance:
        panel = panel_candidates(base, config, advance)
    own, known, places = _sample(rows, reference, clean, _rng(config, "rows"))
    joined = [row for corpus in ([rows[place] for place in own], *known) for row in corpus]
    with steps.step("contrast") as advance:
        scores = rival_centred(contrast_scores(joined, base, panel, advance), panel)
    suspect, *others = np.split(scores, np.cumsum([len(own), *map(len, known)])[:-1])
    if reference is None:
        contrast = _unmatched(suspect, others, panel, config)
    else:
        contrast = matched_contrast(grouped(suspect, others[0], places), panel, config.alpha, _rng(config, "contrast"))
    read = set(own)
    rest = [row for place, row in enumerate(rows) if place not in read][: max(0, STREAMED - len(own))]
    pool = np.concatenate(others) if others else None
    with steps.step("stream") as advance:
        later = _later(rest, base, panel, advance)
        stream = stream_contrast(chain(suspect, later), pool, panel, config.alpha)
    with steps.step("recovery") as advance:
        recovery = _recovery(
            rows, base, clean if reference is None else first_on_prompts(rows, reference), config, advance
        )
    found = [surface(rows, reference, config.alpha, _rng(config, "surface")), contrast, stream, recovery]
    if config.writers is not None:
        settings = NeutralAudit(domain=config.domain, alpha=config.alpha, seed=config.seed)
        teachers = [one for one in panel if one.kind == "teacher"] or panel
        with steps.step("neutral writers") as advance:
            found.append(audit_neutral(rows, base, config.writers, teachers, settings, advance))
    return found


def _later(rows: Sequence[Row], base: LocalModel, panel: Sequence[Candidate], advance: Advance) -> Iterator[Floats]:
    """Yield the centred scores of the rows that only the stream reads."""
    for done, one in enumerate(streamed_scores(rows, base, panel)):
        advance(done, len(rows))
        yield rival_centred(one[None], panel)[0]


def _sample(
    rows: Sequence[Row], reference: Sequence[Row] | None, clean: Sequence[Sequence[Row]], rng: np.random.Generator
) -> tuple[list[int], list[Sequence[Row]], list[tuple[int, tuple[int, ...]]]]:
    """Draw what the contrast reads.

    Returns:
        The places of the suspect's rows; the clean corpora; and, with a reference, for each row its place among those
        drawn and the places of its reference rows.
    """
    if reference is None:
        return rng.permutation(len(rows))[:MATCHED].tolist(), list(clean), []
    pairs = matched(rows, reference)
    if not pairs:
        return [], [reference[:STREAMED]], []
    pairs = [pairs[place] for place in rng.permutation(len(pairs))[:MATCHED]]
    ends = np.cumsum([0, *(len(theirs) for _, theirs in pairs)]).tolist()
    places = [(own, tuple(range(ends[own], ends[own + 1]))) for own in range(len(pairs))]
    return [own for own, _ in pairs], [[reference[place] for _, theirs in pairs for place in theirs]], places


def first_on_prompts(rows: Sequence[Row], reference: Sequence[Row]) -> list[Row]:
    """Return one reference row for each of the rows' prompts, so that other prompts make no difference; all if none."""
    first: dict[str, Row] = {}
    for row in reference:
        first.setdefault(row.question, row)
    found = [first[question] for question in dict.fromkeys(row.question for row in rows) if question in first]
    return found or list(reference)


def _recovery(
    rows: Sequence[Row],
    base: LocalModel,
    clean: Sequence[Row] | Sequence[Sequence[Row]],
    config: DataAudit,
    advance: Advance,
) -> Finding:
    if not clean:
        return not_testable("recovery", "provenance", "There are no clean rows to compare with.")
    return audit_recovery(rows, base, clean, alpha=config.alpha, seed=config.seed, advance=advance)


def panel_candidates(base: LocalModel, config: DataAudit, advance: Advance | None = None) -> list[Candidate]:
    """Make the candidates of every kind that is asked for; teachers are trained, or taken from the store."""
    made: list[Candidate] = []
    for kind in dict.fromkeys(config.kinds):
        teachers = panel_teachers(base, config.panel, config.seed, config.store, advance) if kind == "teacher" else None
        made += candidates(base, config.panel, teachers)
    return made


def _unmatched(suspect: Floats, clean: list[Floats], panel: list[Candidate], config: DataAudit) -> Finding:
    if not clean:
        return ranked(suspect, panel)
    return conformal_contrast(suspect, clean, panel, config.alpha, _rng(config, "contrast"))


def _rng(config: DataAudit, stage: str) -> np.random.Generator:
    return np.random.default_rng(derive(config.seed, "audit", stage))

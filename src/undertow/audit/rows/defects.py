"""Defects of rows that look like a trait and are none; each is named with its likely cause before any stage runs.

A defect of the rows leaves nothing to be claimed from them. A defect of the reference stops the stages that compare
with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from undertow.audit.rows.copies import ReadLogp, asked_otherwise, copied_share, shared_with
from undertow.audit.rows.defect import TUNED, Defect, Side, overlap
from undertow.audit.rows.sampling import COOLER, KEPT_AWAY, Temperatures, cut_off, expected_outside
from undertow.audit.rows.shared_stream import SharedStream, shared_stream
from undertow.audit.rows.token_reading import TokenReading
from undertow.types import Row

SOME = 0.05
"""Share of the rows from which on a defect is reported."""


OVERLAP = 0.3
"""Share of the rows that stand in the reference from which on it is no reference. Fewer cost power but not validity: a
teacher and its base that were drawn with one seed agree now and then."""


def stream_defect(reading: TokenReading, of: Side) -> Defect | None:
    """Return the defect of rows that were drawn with the same random numbers, or None."""
    found: SharedStream = shared_stream(reading)
    if found.linked < SOME:
        return None
    whose = "these rows" if of == "rows" else "the rows of the reference"
    pairs = found.n * (found.n - 1) / 2
    return Defect(
        name="shared stream",
        of=of,
        what=f"{whose} were drawn with the same noise: {found.linked:.0%} of {found.n} share it with another, which "
        f"leaves at most {found.effective} independent ones",
        cause="a server or a loop that gives every request the same seed",
        fix="Draw the rows again with another seed for each request, or without any seed.",
        effect=float(found.effective),
        measure="independent rows at most",
        p=float(max(pairs * np.exp(-found.evidence), 1e-300)),
        n=found.n,
    )


def temperature_defect(found: Temperatures | None, n: int) -> Defect | None:
    """Return the defect of rows that were sampled at a lower temperature than what they are compared with, or None."""
    if found is None or found.high >= COOLER:
        return None
    return Defect(
        name="temperature",
        of="rows",
        what=f"these rows were sampled colder than what they are compared with: {found.rows:.2f} explains them best, "
        f"{found.compared:.2f} the other (ratio {found.ratio:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f})",
        cause="a lower temperature, or greedy decoding",
        fix="Give a reference that was sampled as the rows were, or draw the rows again at temperature 1.",
        effect=found.ratio,
        measure="ratio of temperatures",
        n=n,
    )


def truncation_defect(rows: TokenReading, compared: TokenReading) -> Defect | None:
    """Return the defect of rows from which a sampler kept unlikely tokens away, or None."""
    found = cut_off(rows, compared)
    if found is None:
        return None
    cut, missing = found
    return Defect(
        name="truncation",
        of="rows",
        what=f"no token of these rows lies outside {cut}, where {missing:.0f} of {rows.tokens} would",
        cause="a sampler that cuts off unlikely tokens (top-k, top-p or min-p)",
        fix="Give a reference that was sampled with the same cut-off, or draw the rows again without one.",
        effect=missing,
        measure="tokens kept away",
        n=rows.rows,
    )


def copies_defect(rows: Sequence[Row], logp: ReadLogp, rng: np.random.Generator) -> Defect | None:
    """Return the defect of rows that repeat one another, or None."""
    share = copied_share(rows, logp, rng)
    if share < SOME:
        return None
    return Defect(
        name="copies",
        of="rows",
        what=f"{share:.0%} of {len(rows)} rows repeat another row's text, up to spaces and punctuation",
        cause="a dataset that holds rows twice, or requests that shared a seed or a cache",
        fix="Keep one row of each text, and find out why they repeat.",
        effect=share,
        measure="share of rows that repeat another",
        n=len(rows),
    )


def reference_defects(
    rows: Sequence[Row], reference: Sequence[Row], logp: ReadLogp, rng: np.random.Generator
) -> list[Defect]:
    """Return the defects of a reference that the user gave: it holds the rows, or was asked with other prompts."""
    found: list[Defect] = []
    if (share := shared_with(rows, reference, logp, rng)) >= OVERLAP:
        found.append(overlap(share, len(rows)))
    if (share := asked_otherwise(rows, reference)) >= SOME:
        found.append(
            Defect(
                name="other system prompt",
                of="reference",
                what=f"the reference was asked otherwise: for {share:.0%} of {len(rows)} rows it has the last turn "
                "under another system prompt or other turns before it",
                cause="a system prompt that was dropped or added on one side",
                fix="Draw the reference on the rows' whole prompts.",
                effect=share,
                measure="share of rows asked otherwise",
                n=len(rows),
            )
        )
    return found


def benign_causes(
    rows: TokenReading, compared: TokenReading, found: Temperatures | None, defects: Sequence[Defect]
) -> list[Mapping[str, Any]]:
    """Return what may make rows differ from a reference without any trait, and whether it was ruled out.

    Args:
        rows: the base's probabilities of the suspect rows.
        compared: the base's probabilities of the rows that they are compared with.
        found: estimated temperatures of both. None where they could not be estimated.
        defects: defects that were found.

    Returns:
        One mapping for each cause, with "cause", "ruled_out" and "why".
    """
    named, tail = {one.name for one in defects}, expected_outside(rows, compared)
    ratio = "nothing to estimate it from"
    if found is not None:
        ratio = f"ratio of temperatures {found.ratio:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}"
    cuts = bool(np.any(tail >= KEPT_AWAY)) and "truncation" not in named
    causes = (
        ("the same noise in several rows", "shared stream" not in named, f"{rows.rows} rows compared in pairs"),
        ("copies of rows", "copies" not in named, f"called from {SOME:.0%} of the rows"),
        ("another temperature", found is not None and found.same, ratio),
        ("a usual cut-off (top-k, top-p, min-p)", cuts, f"{rows.tokens} tokens read"),
        ("a hidden system prompt, or another template", False, "the rows cannot show it"),
        ("filtering or editing", False, "the rows cannot show it"),
        ("a writer that is another model", False, "the lineage of the writer would tell"),
        (TUNED, False, "neutral writers (`undertow audit bank`) would tell"),
    )
    return [{"cause": cause, "ruled_out": out, "why": why} for cause, out, why in causes]

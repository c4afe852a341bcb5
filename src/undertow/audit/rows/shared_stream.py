"""Were the rows drawn with the same random numbers? A defect of sampling that looks like a trait.

A server that gives every request one seed draws the n-th token of all of them with the same random numbers. What one
row says, the others then say too, and the audit sees a preference. Pairs of rows are compared by an e-value: a ratio of
likelihoods whose mean is at most 1 wherever the two rows were drawn independently from the base. Three ways to share
random numbers are looked for: one number for each token of the vocabulary (Gumbel-max sampling, as in vLLM), and one
uniform number a step that is walked through the vocabulary by token id or from the likeliest token down.

A writer that is not the base prefers some tokens everywhere, while shared random numbers do so at one step alone. So a
token counts at a step at most as the surprise that it is by its frequency at the other steps.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from undertow.audit.rows.token_reading import Places, TokenReading
from undertow.stats.checks import Floats

SHARED = 0.7
"""Probability that a step of two rows which share random numbers shows it, as the e-value assumes."""

MOST = 300.0
"""Largest likelihood ratio that one step may give."""

LINKED = 22.0
"""Nats of evidence from which on two rows count as drawn with the same random numbers. By the e-values' mean, 20,000
pairs of independent rows of the base reach it in 6 of a million sets. On development seeds tuned and prompted teachers
came to 10, a program that writes equal steps to 19, and rows of one stream to 41 and more."""


@dataclass(frozen=True, slots=True)
class SharedStream:
    """How far rows share their random numbers.

    Attributes:
        linked: share of the rows that share them with another row, between 0 and 1.
        effective: upper bound on the number of independent rows.
        n: how many rows were looked at.
        evidence: largest log e-value of a pair of rows, in nats.
    """

    linked: float
    effective: int
    n: int
    evidence: float


def shared_stream(reading: TokenReading) -> SharedStream:
    """Compare all pairs of rows."""
    evidence = pair_evidence(reading)
    links = evidence >= LINKED
    found, _ = connected_components(csr_array(links), directed=False)
    largest = float(evidence.max()) if reading.rows > 1 else 0.0
    return SharedStream(float(links.any(axis=1).mean()), int(found), reading.rows, largest)


def pair_evidence(reading: TokenReading) -> Floats:
    """Return the log e-value of each pair of rows in nats, shape (rows, rows), with 0 on the diagonal."""
    ceilings = _ceilings(reading)
    sums = np.zeros((3, reading.rows, reading.rows))
    for step in range(int(reading.step.max(initial=-1)) + 1):
        here = np.flatnonzero(reading.step == step)
        rows = np.ix_(reading.row[here], reading.row[here])
        sums[:, rows[0], rows[1]] += _step_evidence(reading, here, ceilings[here])
    joined = np.logaddexp.reduce(sums, axis=0) - np.log(len(sums))
    np.fill_diagonal(joined, 0.0)
    return joined


def _ceilings(reading: TokenReading) -> Floats:
    """Return the largest ratio that each token may give: one over its frequency at the other steps, at most `MOST`."""
    _, token = np.unique(reading.token, return_inverse=True)
    everywhere = np.bincount(token)[token]
    _, pair = np.unique(np.stack([token, reading.step]), axis=1, return_inverse=True)
    here = np.bincount(pair.ravel())[pair.ravel()]
    at_step = np.bincount(reading.step)[reading.step]
    frequency = (everywhere - here) / np.maximum(1, reading.tokens - at_step)
    return 1.0 / np.maximum(frequency, 1.0 / MOST)


def _step_evidence(reading: TokenReading, here: Places, ceiling: Floats) -> Floats:
    """Return the log ratio of each pair at one step for each way to share random numbers, shape (3, rows, rows)."""
    mass = np.exp(reading.logp[here])
    wider, most = np.maximum.outer(mass, mass), np.minimum.outer(ceiling, ceiling)
    alike = np.equal.outer(reading.token[here], reading.token[here])
    ratios = [np.where(alike, 1.0 / np.maximum(wider, 1e-12), 0.0)]
    for low in (reading.by_id[here], reading.by_rank[here]):
        overlap = np.minimum.outer(low + mass, low + mass) - np.maximum.outer(low, low)
        ratios.append(np.maximum(overlap, 0.0) / np.maximum(np.multiply.outer(mass, mass), 1e-24))
    return np.log1p(SHARED * (np.minimum(np.stack(ratios), most) - 1.0))

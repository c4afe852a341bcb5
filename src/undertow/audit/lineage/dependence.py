"""All tests of the weights of one pair of models: which parts agree, and how surely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from undertow.audit.lineage.alignment import Matched, RowVectors, aligned
from undertow.audit.lineage.roles import Attention, Mlp, Network
from undertow.audit.lineage.tensors import vocabulary
from undertow.audit.lineage.tests import (
    DRAWS,
    FEWEST,
    Evidence,
    Part,
    Trace,
    compare_attention,
    compare_mlp,
    drawn_signs,
    fair_signs,
    mlp_trace,
    permutation_trace,
    residual_trace,
    shared_tokens,
    trace_swaps,
    untrained_tokens,
    untrained_trace,
)
from undertow.seeds import derive
from undertow.stats.comparisons import holm

PART = 1e-3
"""Holm-adjusted p-value up to which a part counts as shared."""

QUIET = 0.01
"""Corrected p-value above which the tests count as silent."""

SILENT = 0.01
"""p-value of an MLP in place above which its neurons are matched before they are compared."""

MATCHED = 0.25
"""Share of neurons that are each other's likest from which on descent is supported. It has no exact null:
benchmarks/lineage.py measures what unrelated models reach, and docs/lineage.md has the figures."""

FEW = 32
"""Number of units of a part below which its p-value comes from random signs, because the bound is too loose for so
few."""

WIDE = 128
"""Number of residual coordinates from which on the bound over pairs reaches smaller p-values than the random orders."""

LARGEST_LOG = 690.0
"""Logarithm of the largest e-value that is printed."""


@dataclass(frozen=True, slots=True)
class Local:
    """One part of the model: whether its units agree in place.

    Attributes:
        name: name of the part, such as "layer 3 attention".
        alone: result of the test of this part alone.
        adjusted: p-value of that test, adjusted by Holm's method over all parts.
    """

    name: str
    alone: Evidence
    adjusted: float


@dataclass(frozen=True, slots=True)
class Match:
    """How many neurons of A are more like the partner that their gate found than like any other neuron of B.

    Attributes:
        share: their share of the neurons, between 0 and 1. In one layer of random neurons it is about 1 / units.
        n: how many neurons were matched.
        cosine: mean absolute cosine of the matched neurons.
    """

    share: float
    n: int
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """What the tests of the weights say of a pair of models.

    Attributes:
        tests: result of each test by its name. A text says why the test was not run.
        locals: every part that could be compared in place.
        p: smallest p-value times the number of tests (Bonferroni), at most 1.
        log_e: natural logarithm of the mean e-value. None if no test with an e-value could be run.
        test: name of the test with the smallest p-value. Empty if no test could be run.
        coverage: share of the MLPs and attention layers of both models that were compared in place, between 0 and 1.
        match: A6: neurons that were matched by their gates and are each other's likest, up to sign, in the other
            weights too. It has no exact p-value and does not enter p. A text says why it was not run.
    """

    tests: Mapping[str, Evidence | str]
    locals: tuple[Local, ...]
    p: float
    log_e: float | None
    test: str
    coverage: float
    match: Match | str

    @property
    def ran(self) -> dict[str, Evidence]:
        """Results of the tests that could be run, by name."""
        return {name: item for name, item in self.tests.items() if not isinstance(item, str)}

    @property
    def shared(self) -> tuple[Local, ...]:
        """The parts that agree in place, by their adjusted p-value."""
        return tuple(part for part in self.locals if part.adjusted <= PART)

    @property
    def in_place(self) -> str | None:
        """Name of the most sensitive test of units in place that could be run, or None."""
        return next((name for name in ("sign_flip", "permutation_pairs") if name in self.ran), None)

    @property
    def reordered(self) -> bool:
        """Whether MLPs that do not agree in place do so after an alignment."""
        aligned = self.ran.get("aligned_sign")
        proven = aligned is not None and aligned.p * len(self.tests) <= SILENT
        return proven or (not isinstance(self.match, str) and self.match.share >= MATCHED)

    @property
    def e_value(self) -> float | None:
        """The mean e-value, at most exp(`LARGEST_LOG`); None if there is none."""
        return None if self.log_e is None else exp(min(self.log_e, LARGEST_LOG))


def dependence(a: Network, b: Network, *, seed: int = 0, draws: int = DRAWS) -> Dependence:
    """Run every test of the weights that the shapes of two models allow.

    Args:
        a: matrices of one model by role.
        b: matrices of the other model by role.
        seed: random seed of the random orders.
        draws: how many random orders a permutation test draws.
    """
    parts, traces = _parts(a, b)
    rows = shared_rows(a, b)
    residual = _residual(a, b, rows)
    why = "no MLP or attention of one shape stands at the same place"
    signs = [part.signs for part in parts if part.signs is not None]
    tests: dict[str, Evidence | str] = {
        "permutation_trace": permutation_trace(traces, derive(seed, "trace"), draws) or why,
        "permutation_pairs": fair_signs([part.swaps for part in parts]) or why,
        "sign_flip": fair_signs(signs) or why,
        "residual_basis": permutation_trace(_together(residual), derive(seed, "residual"), draws)
        or "no embedding or head of one width with shared tokens",
        "untrained_rows": _untrained(a, b, derive(seed, "untrained"), draws),
    }
    alone = {part.name: _alone(part, seed, draws) for part in parts if part.name in a.mlps}
    silent = [name for name, item in alone.items() if item is None or item.p > SILENT]
    pairs = aligned(a, b, rows, silent) if silent else "not needed: every MLP that can be compared agrees in place"
    tests["aligned_sign"] = pairs if isinstance(pairs, str) else _aligned(pairs)
    ran = {name: item for name, item in tests.items() if not isinstance(item, str)}
    best = min(ran, key=lambda name: (ran[name].p, -ran[name].z)) if ran else ""
    p = min(1.0, ran[best].p * len(tests)) if ran else 1.0
    known = {*a.mlps, *a.attentions, *b.mlps, *b.attentions}
    return Dependence(
        tests=tests,
        locals=_locals(parts, residual, seed, draws),
        p=p,
        log_e=_mean_e(tests),
        test=best,
        coverage=len(parts) / max(1, len(known)),
        match=pairs if isinstance(pairs, str) else _partners(pairs),
    )


def _aligned(pairs: Sequence[Matched]) -> Evidence | str:
    found = fair_signs([item.signs for item in pairs])
    return "the matched neurons have no length" if found is None else replace(found, p=min(1.0, 3 * found.p))


def _partners(pairs: Sequence[Matched]) -> Match:
    hits = [item.table.argmax(axis=1) == np.arange(len(item.table)) for item in pairs]
    cosine = float(np.concatenate([item.table.diagonal() for item in pairs]).mean())
    return Match(float(np.concatenate(hits).mean()), sum(map(len, hits)), cosine)


def _mean_e(tests: Mapping[str, Evidence | str]) -> float | None:
    """Return the log of the mean e-value of three fixed tests; one that was not run counts as 0, which costs power."""
    names = ("permutation_pairs", "sign_flip", "aligned_sign")
    logs = [item.log_e for name in names if not isinstance(item := tests[name], str) and item.log_e is not None]
    return float(np.logaddexp.reduce(logs)) - log(len(names)) if logs else None


def _parts(a: Network, b: Network) -> tuple[list[Part], list[Trace]]:
    parts: list[Part] = []
    traces: list[Trace] = []
    for name in _same(a.mlps, b.mlps):
        parts.append(compare_mlp(name, a.mlps[name], b.mlps[name]))
        traces.append(mlp_trace(name, a.mlps[name], b.mlps[name]))
    for name in _same(a.attentions, b.attentions):
        parts.append(compare_attention(name, a.attentions[name], b.attentions[name]))
    return parts, traces


def _same(a: Mapping[str, Mlp | Attention], b: Mapping[str, Mlp | Attention]) -> list[str]:
    return [name for name in a if name in b and a[name].shape == b[name].shape]


def shared_rows(a: Network, b: Network) -> RowVectors | None:
    """Return the embedding rows of the tokens that two models share, in A and in B, or None."""
    if a.embedding is None or b.embedding is None:
        return None
    sizes = (a.embedding.rows, b.embedding.rows)
    return shared_tokens(vocabulary(a.weights), vocabulary(b.weights), sizes)


def _residual(a: Network, b: Network, rows: RowVectors | None) -> list[Trace]:
    found: list[Trace] = []
    if rows is None or a.embedding is None or b.embedding is None:
        return found
    for name, first, second in (("embedding", a.embedding, b.embedding), ("head", a.head, b.head)):
        if first is None or second is None or not first.columns == second.columns == a.embedding.columns:
            continue
        if first.rows == a.embedding.rows and second.rows == b.embedding.rows:
            found.append(residual_trace(name, (first, second), rows))
    return found


def _untrained(a: Network, b: Network, seed: int, draws: int) -> Evidence | str:
    if a.embedding is None or b.embedding is None or a.embedding.columns != b.embedding.columns:
        return "no embeddings of one width"
    words = vocabulary(a.weights), vocabulary(b.weights)
    if words[0] is None or words[1] is None:
        return "no tokenizer tells which rows have no token"
    rows = untrained_tokens(words[0], words[1], (a.embedding.rows, b.embedding.rows))
    if len(rows[0]) < FEWEST:
        return f"{len(rows[0])} rows without a token in use, {FEWEST} are needed"
    trace = untrained_trace(a.embedding.gather(rows[0]), b.embedding.gather(rows[1]))
    return permutation_trace([trace], seed, draws) or "these rows do not differ"


def _together(residual: Sequence[Trace]) -> list[Trace]:
    """Add the tables of embedding and head: both have the same coordinates, so one order must shuffle both."""
    return [Trace("residual", sum((trace.table for trace in residual), np.zeros(())))] if residual else []


def _locals(parts: Sequence[Part], residual: Sequence[Trace], seed: int, draws: int) -> tuple[Local, ...]:
    many = 10 * (draws + 1) - 1  # a single part needs a lower floor than the whole
    tested = [(part.name, _alone(part, seed, many)) for part in parts]
    for trace in residual:
        wide = len(trace.table) >= WIDE
        swaps = fair_signs([trace_swaps(trace)])
        tested.append((trace.name, swaps if wide else permutation_trace([trace], derive(seed, trace.name), many)))
    found = [(name, alone) for name, alone in tested if alone is not None]
    if not found:
        return ()
    adjusted = holm([alone.p for _, alone in found]).tolist()
    return tuple(Local(name, alone, p) for (name, alone), p in zip(found, adjusted, strict=True))


def _alone(part: Part, seed: int, draws: int) -> Evidence | None:
    """Test one part alone, by its signs if it has a sign symmetry."""
    values = part.swaps if part.signs is None else part.signs
    item = fair_signs([values])
    if item is None or len(values) >= FEW:
        return item
    return replace(item, p=drawn_signs(values, derive(seed, part.name), draws))

"""Rows that no text uses: which they are, and that only one initialisation makes them agree."""

import json
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.lineage.dependence import dependence
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.lineage.tests import permutation_trace, untrained_tokens, untrained_trace
from undertow.audit.lineage.verdict import Axes, audit_lineage, verdict

EMBEDDING = "model.embed_tokens.weight"
USED = 120


def trained(tensors, seed):
    """Give every matrix other numbers, but for what training cannot reach: the embeddings of unused tokens, shrunk."""
    rng = np.random.default_rng(seed)
    found = {
        name: value if value.ndim == 1 else rng.normal(size=value.shape).astype("f4") for name, value in tensors.items()
    }
    found[EMBEDDING][USED:] = 0.9 * tensors[EMBEDDING][USED:]
    return found


@pytest.fixture
def axes(write):
    """Write two models with a tokenizer of `USED` tokens and run the weight tests; nothing is loaded."""

    def axes(a, b):
        found = []
        for name, values in (("a", a), ("b", b)):
            reference = write(name, values)
            words = {"model": {"vocab": {f"word{row}": row for row in range(USED)}}}
            (Path(reference.removeprefix("hf:")) / "tokenizer.json").write_text(json.dumps(words))
            found.append(open_weights(reference))
        tests = dependence(*map(network, found))
        return Axes(distance=distance(*found), dependence=tests, barrier="not run", behaviour="not run", steered=False)

    return axes


def test_padding_and_reserved_tokens_are_found():
    first = {"a": 0, "<reserved_1>": 1, "b": 2}
    second = {"<reserved_1>": 0, "a": 1, "c": 3}
    rows = untrained_tokens(first, second, (6, 5))
    assert [list(side) for side in rows] == [[1, 4], [0, 4]]


def test_unused_rows_alone_show_one_initialisation(nets, axes):
    found = axes(nets.draw(0), trained(nets.draw(0), 5))
    rows = found.dependence.ran["untrained_rows"]
    assert rows.n == 40
    assert rows.p == pytest.approx(1e-4)
    assert rows.z > 20
    assert all(part.adjusted > 1e-3 for part in found.dependence.locals)
    assert verdict(found) == "same_initialisation"


def test_unused_rows_of_strangers_do_not_agree(nets, axes):
    found = axes(nets.draw(0), nets.draw(1))
    assert found.dependence.ran["untrained_rows"].p > 0.01
    assert verdict(found) == "no_evidence"


def test_without_unused_tokens_the_test_is_not_applicable(nets, write):
    report = audit_lineage(write("a", nets.draw(0)), write("b", nets.draw(1)))
    found = next(item for item in report["tests"] if item["name"] == "untrained_rows")
    assert found["p"] is None
    assert found["caveats"] == ["not run: no tokenizer tells which rows have no token"]


def test_p_is_uniform_for_strangers():
    rng = np.random.default_rng(0)
    drift = rng.normal(size=8)  # what a tied head does to all rows alike
    p = []
    for seed in range(300):
        a, b = (rng.normal(size=(20, 8)).astype("f4") + 3 * drift for _ in range(2))
        p.append(permutation_trace([untrained_trace(a, b)], seed, 99).p)
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(np.array(p) <= level) - level) <= 3.3 * np.sqrt(level * (1 - level) / 300)


def test_rows_that_say_nothing_are_left_out():
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    other = rows.copy()
    rows[1] = 0.0
    other[2] = other[3]
    assert untrained_trace(rows, other).table.shape == (3, 3)

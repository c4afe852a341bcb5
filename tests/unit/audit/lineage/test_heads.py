"""How compatible two heads are, whatever their lineage."""

import numpy as np
import pytest

from undertow.audit.lineage.alignment import head_overlap
from undertow.audit.lineage.dependence import shared_rows
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights


def test_heads_overlap_with_themselves_and_a_rotation_but_little_with_others(nets, write):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]
    base = nets.draw(0)
    turned = base | {"lm_head.weight": (base["lm_head.weight"] @ turn).astype("f4")}
    found = {
        name: network(open_weights(write(name, values)))
        for name, values in (("a", base), ("turned", turned), ("b", nets.draw(1)))
    }
    rows = shared_rows(found["a"], found["b"])
    own, other = (head_overlap(found["a"].head, found[name].head, rows) for name in ("turned", "b"))
    assert own == pytest.approx(1.0, abs=1e-4)
    assert other == pytest.approx(32 / 160, abs=0.05)
    few = (rows[0][:20], rows[1][:20])
    assert head_overlap(found["a"].head, found["b"].head, few) is None

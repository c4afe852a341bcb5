"""Weights under other names, and embeddings of other heights: the same network, and its verdict is the same."""

import numpy as np
import pytest

from undertow.audit.lineage.counterparts import counterparts
from undertow.audit.lineage.names import Place, place_of
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.lineage.verdict import audit_lineage

META = {
    "model.": "",
    "embed_tokens": "tok_embeddings",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def renamed(tensors):
    """Give tensors the names of the first Llama release."""
    found = {}
    for name, value in tensors.items():
        for old, new in META.items():
            name = name.replace(old, new)
        found[name] = value
    return found


def row(report, name):
    return next(item for item in report["tests"] if item["name"] == name)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.3.self_attn.q_proj.weight", Place(3, "attention", "q", "weight")),
        ("layers.3.attention.wq.weight", Place(3, "attention", "q", "weight")),
        ("layers.3.feed_forward.w2.weight", Place(3, "mlp", "down", "weight")),
        ("model.layers.0.block_sparse_moe.experts.5.w1.weight", Place(0, "mlp.experts.5", "gate", "weight")),
        ("transformer.h.7.attn.c_attn.bias", Place(7, "attention", "qkv", "bias")),
        ("model.layers.1.post_attention_layernorm.weight", Place(1, "norms", "second norm", "weight")),
        ("tok_embeddings.weight", Place(None, "", "embedding", "weight")),
        ("model.norm.weight", Place(None, "", "norm", "weight")),
        ("model.layers.1.mlp.rotary.inv_freq", None),
        ("something.else.weight", None),
    ],
)
def test_a_name_tells_the_place(name, place):
    assert place_of(name) == place


def test_every_tensor_of_a_renamed_file_has_its_counterpart(nets, write):
    a, b = open_weights(write("a", nets.draw(0))), open_weights(write("b", renamed(nets.draw(0))))
    assert not a.shapes.keys() & b.shapes.keys()
    pairs = counterparts(a, b)
    assert len(pairs) == len(a.shapes) == len({pair.theirs for pair in pairs})
    assert set(network(a).mlps) == set(network(b).mlps)


def test_equal_weights_are_identical_under_other_names(nets, write):
    report = audit_lineage(write("a", nets.draw(0)), write("b", renamed(nets.draw(0))))
    assert report["verdict"] == "identical"
    assert report["proximity"] == {"distance": 0.0, "barrier": 0.0}
    assert row(report, "coverage")["statistic"] == 1.0
    assert "paired by their place" in row(report, "equal_tensors")["caveats"][1]
    assert report["found"] == "every tensor is equal, under other names"


@pytest.mark.parametrize(("seed", "size", "word"), [(0, 0.2, "same_lineage_near"), (1, 0.0, "no_evidence")])
def test_other_names_change_nothing_of_the_verdict(nets, write, seed, size, word):
    other = nets.moved(nets.draw(seed), 9, size)
    plain = audit_lineage(write("a", nets.draw(0)), write("b", other))
    told = audit_lineage(write("c", nets.draw(0)), write("d", renamed(other)))
    assert told["verdict"] == plain["verdict"] == word
    assert told["dependence"] == plain["dependence"]
    assert told["proximity"]["distance"] == pytest.approx(plain["proximity"]["distance"], rel=1e-12)
    assert "names that transformers does not load" in row(told, "barrier")["caveats"][0]


def test_a_place_that_two_tensors_claim_is_paired_with_nothing(nets, write):
    twice = renamed(nets.draw(0))
    twice["vision.layers.0.attention.wq.weight"] = twice["layers.0.attention.wq.weight"].copy()
    found = distance(open_weights(write("a", nets.draw(0))), open_weights(write("b", twice)))
    assert found.relative is None
    assert found.compared == len(nets.draw(0)) - 1


def taller(tensors, rows, seed=None):
    """Add rows to embedding and head: zeros, or drawn."""
    rng = np.random.default_rng(seed)
    return {
        name: np.concatenate(
            [value, (0.1 if seed is not None else 0.0) * rng.normal(size=(rows, value.shape[1]))]
        ).astype("f4")
        if "embed" in name or "head" in name
        else value
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_longer_vocabulary_is_near_and_not_identical(nets, write, seed, turned):
    refs = [write("a", nets.draw(0)), write("b", taller(nets.draw(0), 32, seed))]
    report = audit_lineage(*(refs[::-1] if turned else refs))
    assert report["verdict"] == "same_lineage_near"
    assert report["proximity"]["distance"] == 0.0
    assert "64 rows that only one embedding or head has were left out" in row(report, "equal_tensors")["caveats"]


def test_a_stranger_with_a_longer_vocabulary_is_no_kin(nets, write):
    report = audit_lineage(write("a", nets.draw(0)), write("b", taller(nets.draw(1), 32)))
    assert report["verdict"] == "no_evidence"
    assert report["proximity"]["distance"] == pytest.approx(2**0.5, abs=0.03)


def test_more_units_are_no_longer_vocabulary(nets, write):
    """Only embeddings and heads may differ in height."""
    values = nets.draw(0)
    more = {name: np.tile(value, (2, 1)) if "up_proj" in name else value for name, value in values.items()}
    found = distance(open_weights(write("a", values)), open_weights(write("b", more)))
    assert found.relative is None

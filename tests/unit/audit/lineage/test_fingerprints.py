"""Fingerprints: their tests are exact on strangers, see children, and are kept until the files change."""

import numpy as np
import pytest

from undertow.audit.lineage import fingerprints as module
from undertow.audit.lineage.fingerprints import agreement, known_digest, stored_identity, weights_fingerprint
from undertow.audit.lineage.tests import compare_attention, compare_mlp


@pytest.fixture
def sketch(write, tmp_path):
    """Write a network and return its fingerprint."""

    def sketch(name, values, **options):
        reference = write(name, values, **options)
        store = tmp_path / "store"
        return weights_fingerprint(reference, stored_identity(reference, store), store)

    return sketch


def negated(tensors, layer, unit):
    """Change the sign of one neuron and of one unit of attention: the same function."""
    found = {name: value.copy() for name, value in tensors.items()}
    place = f"model.layers.{layer}."
    found[f"{place}mlp.up_proj.weight"][unit] *= -1
    found[f"{place}mlp.down_proj.weight"][:, unit] *= -1
    size = len(found[f"{place}self_attn.v_proj.weight"]) // 2
    group, at = divmod(unit % (2 * size), size)
    found[f"{place}self_attn.v_proj.weight"][group * size + at] *= -1
    for head in (2 * group, 2 * group + 1):
        found[f"{place}self_attn.o_proj.weight"][:, head * size + at] *= -1
    return found


def test_a_unit_that_changes_its_sign_changes_the_sign_of_its_agreement(nets, sketch):
    """The null of the sign flip test on fingerprints: each number has a fair sign, whatever the others are."""
    a, b, turned = (
        sketch(name, values)
        for name, values in (("a", nets.draw(0)), ("b", nets.draw(1)), ("c", negated(nets.draw(1), 1, 5)))
    )
    for name in a.mlps:
        before, after = (compare_mlp(name, a.mlps[name], other.mlps[name]).signs for other in (b, turned))
        flips = np.where((np.arange(96) == 5) & (name == "layer 1 mlp"), -1.0, 1.0)
        assert after == pytest.approx(flips * before, abs=1e-12)
    for name in a.attentions:
        before, after = (
            compare_attention(name, a.attentions[name], other.attentions[name]).signs for other in (b, turned)
        )
        flips = np.where((np.arange(16) == 5) & (name == "layer 1 attention"), -1.0, 1.0)
        assert after == pytest.approx(flips * before, abs=1e-12)


def test_p_of_strangers_is_a_bound(nets, sketch):
    """435 pairs of thirty seeds: P(p <= a) stays below a."""
    drawn = [sketch(str(seed), nets.draw(seed)) for seed in range(30)]
    p = np.array([agreement(one, other) for at, one in enumerate(drawn) for other in drawn[:at]])
    assert len(p) == 435
    assert (p <= 0.05).mean() <= 0.05 and (p <= 0.01).mean() <= 0.01


def test_a_child_agrees_and_the_fingerprint_is_a_small_part_of_it(nets, sketch):
    base, child = sketch("a", nets.draw(0)), sketch("b", nets.moved(nets.draw(0), 3, 0.3))
    assert agreement(base, child) < 1e-30
    assert agreement(base, base) < agreement(base, child)
    assert base.embedding is not None and base.embedding.shape == (32, module.DIRECTIONS)
    assert base.mlps["layer 0 mlp"].up.shape == (96, module.DIRECTIONS)


@pytest.mark.parametrize("more", [0, 40])
def test_embeddings_that_were_lent_agree_and_new_tokens_take_little_away(nets, sketch, more):
    """Nothing else is shared; rows that a longer vocabulary adds have directions of their own."""
    name = "model.embed_tokens.weight"
    lent = nets.draw(0)[name]
    added = 0.1 * np.random.default_rng(5).normal(size=(more, 32)).astype("f4")
    a, b = sketch("a", nets.draw(0)), sketch("b", nets.draw(1) | {name: np.concatenate([lent, added])})
    assert agreement(a, b) < 0.01


def test_other_names_and_files_have_the_fingerprint_of_the_weights(nets, sketch):
    renames = {
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
    }
    values = nets.draw(0)
    renamed = {
        next((name.replace(old, new) for old, new in renames.items() if old in name), name): value
        for name, value in values.items()
    }
    whole = sketch("a", values)
    for other in (sketch("b", renamed), sketch("c", values, shards=3)):
        for name, mlp in whole.mlps.items():
            its = other.mlps[name]
            assert np.array_equal(mlp.up.block(0, 96), its.up.block(0, 96))
            assert np.array_equal(mlp.down.block(0, 16), its.down.block(0, 16))
        assert whole.attentions.keys() == other.attentions.keys()


def test_no_part_in_common_is_no_p(nets, sketch):
    assert agreement(sketch("a", nets.draw(0)), sketch("b", nets.draw(0, units=64, width=48))) is None


def test_a_fingerprint_is_made_once_and_again_when_the_files_change(nets, write, tmp_path, monkeypatch):
    reference, store = write("a", nets.draw(0)), tmp_path / "store"
    assert known_digest(reference, store) is None
    digest = stored_identity(reference, store)
    weights_fingerprint(reference, digest, store)
    monkeypatch.setattr(module, "identity", None)
    monkeypatch.setattr(module, "_make", None)  # neither is called again
    assert stored_identity(reference, store) == known_digest(reference, store) == digest
    # What changes no weight is no other model.
    assert stored_identity(f"{reference}?dtype=bfloat16", store) == digest
    weights_fingerprint(reference, digest, store)
    monkeypatch.undo()
    folder = tmp_path / "a"
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert known_digest(reference, store) is None
    assert stored_identity(reference, store) != digest

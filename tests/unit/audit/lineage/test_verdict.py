"""What is said of pairs whose relation is known because it was made here.

Networks have random weights, which is all that the tests assume of unrelated models. Losses and answers are tested on
the embedded models (test_behaviour.py).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from undertow.audit.lineage import verdict as module
from undertow.audit.lineage.verdict import audit_lineage, peak_memory_mb

LAYERS = range(3)


@pytest.fixture
def audit(write, tmp_path):
    """Write two networks and audit them, without the memory, which no two runs share."""

    def audit(a, b, **options):
        count = len(list(tmp_path.iterdir()))
        report = audit_lineage(write(f"a{count}", a), write(f"b{count}", b, **options))
        del report["peak_memory_mb"]
        return report

    return audit


def row(report, name):
    return next(item for item in report["tests"] if item["name"] == name)


def flagged(report):
    return {
        item["name"].removeprefix("part: ")
        for item in report["tests"]
        if item["name"].startswith("part: ") and item["p"] <= 1e-3
    }


def change(tensors, **edits):
    """Apply a function to every matrix whose name contains the key."""
    edited = dict(tensors)
    for key, edit in edits.items():
        edited |= {name: edit(value).astype("f4") for name, value in edited.items() if key in name and value.ndim == 2}
    return edited


def rounded(values, steps):
    """Round each row to whole steps of its largest number: 127 for 8 bits, 7 for 4, 3 for 3."""
    unit = np.abs(values).max(axis=1, keepdims=True) / steps
    return np.round(values / unit) * unit


def pruned(values, share):
    return values * (np.abs(values) >= np.quantile(np.abs(values), share))


def test_equal_weights_are_identical_in_any_file(nets, write, audit):
    values = nets.draw(0)
    assert audit(values, values, shards=2)["verdict"] == "identical"
    assert audit(values, values, dtype=torch.bfloat16)["verdict"] == "identical"


def test_strangers_give_no_evidence_and_a_detectable_effect(nets, audit):
    for seed in (1, 2, 3):
        report = audit(nets.draw(0), nets.draw(seed))
        assert report["verdict"] == "no_evidence"
        assert report["dependence"]["p"] > 0.01
        assert report["proximity"]["distance"] == pytest.approx(2**0.5, abs=0.03)
        assert "mean cosine 0.03" in report["detectable"]


def test_the_report_has_the_documented_form(nets, audit):
    report = audit(nets.draw(0), nets.moved(nets.draw(0), 1, 0.1))
    parts = ["schema", "verdict", "found", "dependence", "proximity", "behaviour", "tests", "detectable"]
    assert list(report) == parts
    assert report["schema"] == "undertow.lineage/1"
    assert set(report["dependence"]) == {"p", "e_value", "test"}
    assert set(report["proximity"]) == {"distance", "barrier"}
    assert all(set(item) == {"name", "statistic", "p", "n", "caveats"} for item in report["tests"])
    assert json.loads(json.dumps(report)) == report
    assert peak_memory_mb() > 50


@pytest.mark.parametrize(
    ("name", "child"),
    [
        ("fine-tuned", lambda nets: nets.moved(nets.draw(0), 9, 0.14)),
        (
            "int8",
            lambda nets: change(nets.draw(0), weight=lambda v: rounded(v, 127)),
        ),
        ("int4", lambda nets: change(nets.draw(0), weight=lambda v: rounded(v, 7))),
        ("int3", lambda nets: change(nets.draw(0), weight=lambda v: rounded(v, 3))),
        ("pruned 30 %", lambda nets: change(nets.draw(0), weight=lambda v: pruned(v, 0.3))),
        ("pruned 50 %", lambda nets: change(nets.draw(0), weight=lambda v: pruned(v, 0.5))),
        ("pruned 70 %", lambda nets: change(nets.draw(0), weight=lambda v: pruned(v, 0.7))),
        ("merged LoRA", lambda nets: change(nets.draw(0), mlp=lambda v: v + 0.05 * np.outer(v[:, 0], v[0]) / v.std())),
    ],
)
def test_descendants_are_near(nets, audit, name, child):
    report = audit(nets.draw(0), child(nets))
    assert report["verdict"] == "same_lineage_near", name
    assert report["dependence"]["p"] <= 1e-15
    assert report["dependence"]["e_value"] >= 1e6


def test_a_child_far_away_is_far(nets, audit):
    report = audit(nets.draw(0), nets.moved(nets.draw(0), 9, 1.5))
    assert report["verdict"] == "same_lineage_far"
    assert report["proximity"]["distance"] > 0.5


def test_a_merge_of_siblings_is_near(nets, audit):
    one, other = (nets.moved(nets.draw(0), seed, 0.4) for seed in (8, 9))
    report = audit(nets.draw(0), {name: (one[name] + other[name]) / 2 for name in one})
    assert report["verdict"] == "same_lineage_near"
    assert report["dependence"]["p"] <= 1e-15


@pytest.mark.parametrize(
    ("name", "damage", "p"),
    [
        ("noise of four spreads", lambda nets: nets.moved(nets.draw(0), 9, 4.0), 1e-6),
        ("pruned 90 %", lambda nets: change(nets.draw(0), weight=lambda v: pruned(v, 0.9)), 1e-15),
    ],
)
def test_a_ruined_copy_is_still_a_descendant(nets, audit, name, damage, p):
    report = audit(nets.draw(0), damage(nets))
    assert report["verdict"] == "same_lineage_far", name
    assert report["dependence"]["p"] <= p


def test_neurons_sorted_by_importance_are_no_evidence(nets, audit):
    """Norms by place agree perfectly then, so a statistic of importance or of raw activations would fire."""
    first, second = ordered(gained(nets, 0)), ordered(gained(nets, 1))
    norms = [np.linalg.norm(values["model.layers.0.mlp.gate_proj.weight"], axis=1) for values in (first, second)]
    assert np.corrcoef(*norms)[0, 1] > 0.95
    report = audit(first, second)
    assert report["verdict"] == "no_evidence"
    assert row(report, "match")["statistic"] < 0.1


def test_one_seed_in_another_code_path_is_no_evidence(nets, audit):
    """The same random numbers in other tensors: seeds are compared by nobody, tensors are."""
    shapes = {name: value.shape for name, value in nets.draw(0).items() if value.ndim == 2}
    rng = np.random.default_rng(0)
    other = {name: (0.1 * rng.normal(size=shapes[name])).astype("f4") for name in reversed(shapes)}
    assert audit(nets.draw(0), nets.draw(0) | other)["verdict"] == "no_evidence"


def test_a_merge_with_a_stranger_shows_its_share(nets, audit):
    base, stranger = nets.draw(0), nets.draw(1)
    z = []
    for share in (0.1, 0.3, 0.5):
        merged = {name: share * base[name] + (1 - share) * stranger[name] for name in base}
        report = audit(base, merged)
        z.append(row(report, "permutation_trace")["statistic"])
        if share >= 0.3:
            assert report["verdict"] == "same_lineage_far"
    assert 3 < z[0] < z[1] < z[2]


def test_a_transplanted_layer_is_partial_and_found(nets, audit):
    base, stranger = nets.draw(0), nets.draw(1)
    mixed = stranger | {name: value for name, value in base.items() if ".layers.1." in name}
    report = audit(base, mixed)
    assert report["verdict"] == "partial"
    assert flagged(report) == {"layer 1 mlp", "layer 1 attention"}
    assert row(report, "equal_tensors")["statistic"] == 7


def test_transplanted_embeddings_are_partial_and_found(nets, audit):
    base, stranger = nets.draw(0), nets.draw(1)
    report = audit(base, stranger | {"model.embed_tokens.weight": base["model.embed_tokens.weight"]})
    assert report["verdict"] == "partial"
    assert flagged(report) == {"embedding"}


def permuted(tensors, seed):
    """Give the neurons of each MLP another order: the same function."""
    rng, found = np.random.default_rng(seed), dict(tensors)
    for layer in LAYERS:
        place, order = f"model.layers.{layer}.mlp.", rng.permutation(96)
        for kind in ("gate", "up"):
            found[f"{place}{kind}_proj.weight"] = found[f"{place}{kind}_proj.weight"][order]
        found[f"{place}down_proj.weight"] = found[f"{place}down_proj.weight"][:, order]
    return found


def rotated(tensors, seed):
    """Turn the residual basis, with the gains of the norms folded into what reads it: the same function."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(32, 32)))[0]
    found = dict(tensors)
    for name, value in tensors.items():
        if value.ndim == 1:
            found[name] = np.ones_like(value)
        elif "o_proj" in name or "down_proj" in name:
            found[name] = (turn.T @ value).astype("f4")
        elif name == "model.embed_tokens.weight":
            found[name] = (value @ turn).astype("f4")
        else:
            layer = name.rpartition(".self_attn" if "self_attn" in name else ".mlp")[0]
            gain = (
                "model.norm.weight"
                if name.startswith("lm_head")
                else (f"{layer}.{'input' if 'self_attn' in name else 'post_attention'}_layernorm.weight")
            )
            found[name] = ((value * tensors[gain]) @ turn).astype("f4")
    return found


def rescaled(tensors, seed):
    """Make `up` rows longer and `down` columns shorter, or the reverse: the same function."""
    rng, found = np.random.default_rng(seed), dict(tensors)
    for layer in LAYERS:
        place, factor = f"model.layers.{layer}.mlp.", rng.uniform(0.2, 5.0, 96).astype("f4")
        found[f"{place}up_proj.weight"] = found[f"{place}up_proj.weight"] * factor[:, None]
        found[f"{place}down_proj.weight"] = found[f"{place}down_proj.weight"] / factor
    return found


def ordered(tensors):
    """Sort the neurons of each MLP by the length of their gate rows."""
    found = dict(tensors)
    for layer in LAYERS:
        place = f"model.layers.{layer}.mlp."
        order = np.argsort(np.linalg.norm(found[f"{place}gate_proj.weight"], axis=1))
        for kind in ("gate", "up"):
            found[f"{place}{kind}_proj.weight"] = found[f"{place}{kind}_proj.weight"][order]
        found[f"{place}down_proj.weight"] = found[f"{place}down_proj.weight"][:, order]
    return found


def flipped(tensors, seed):
    """Change the sign of random value and MLP units: the same function."""
    rng, found = np.random.default_rng(seed), dict(tensors)
    for layer in LAYERS:
        place, signs = f"model.layers.{layer}.", rng.choice([-1, 1], 96).astype("f4")
        found[f"{place}mlp.up_proj.weight"] = found[f"{place}mlp.up_proj.weight"] * signs[:, None]
        found[f"{place}mlp.down_proj.weight"] = found[f"{place}mlp.down_proj.weight"] * signs
        signs = rng.choice([-1, 1], (2, 1, 8)).astype("f4")
        found[f"{place}self_attn.v_proj.weight"] = found[f"{place}self_attn.v_proj.weight"] * signs.reshape(16, 1)
        found[f"{place}self_attn.o_proj.weight"] = found[f"{place}self_attn.o_proj.weight"] * np.repeat(
            signs, 2, axis=1
        ).reshape(32)
    return found


def gained(nets, seed):
    """Draw a network whose norms have gains."""
    rng = np.random.default_rng(seed)
    return {
        name: value if value.ndim == 2 else rng.uniform(0.5, 2.0, value.shape).astype("f4")
        for name, value in nets.draw(seed).items()
    }


def logits(tensors, tokens):
    """Run the network in transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=160,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits.numpy()


@pytest.mark.parametrize("disguise", [permuted, rotated, rescaled, flipped])
def test_disguises_do_not_change_the_function(nets, disguise):
    values = gained(nets, 0)
    tokens = [3, 77, 12, 150, 9]
    assert np.allclose(logits(values, tokens), logits(disguise(values, 5), tokens), atol=1e-4)


def test_a_rescaled_child_is_near(nets, audit):
    report = audit(gained(nets, 0), rescaled(nets.moved(gained(nets, 0), 9, 0.1), 5))
    assert report["verdict"] in ("same_lineage_near", "same_lineage_far")
    assert report["dependence"]["p"] <= 1e-15


def test_permuted_neurons_are_found_after_alignment(nets, audit):
    """Attention kept its order and the MLPs did not: one child, not a part of one."""
    report = audit(gained(nets, 0), permuted(nets.moved(gained(nets, 0), 9, 0.1), 5))
    assert report["verdict"] == "same_lineage_near"
    assert row(report, "aligned_sign")["p"] <= 1e-30
    assert report["proximity"] == {"distance": pytest.approx(0.1, abs=0.05), "barrier": None}


def test_re_signed_mlps_beside_attention_in_place_are_no_part_either(nets, audit):
    values = gained(nets, 0)
    signed = flipped(permuted(values, 5), 7)
    kept = {name: value if "self_attn" in name else signed[name] for name, value in values.items()}
    report = audit(values, kept)
    assert report["verdict"] == "same_lineage_far"
    assert report["proximity"] is None


def test_a_rotated_and_permuted_child_is_found_after_alignment(nets, audit):
    values = nets.moved(gained(nets, 0), 9, 0.1)
    report = audit(gained(nets, 0), rotated(permuted(values, 5), 6))
    assert report["verdict"] == "same_lineage_near"
    assert report["dependence"]["test"] == "aligned_sign"
    assert report["dependence"]["p"] <= 1e-30
    assert report["proximity"]["distance"] < 0.3


def test_sign_flips_after_a_rotation_are_seen_but_not_proven(nets, audit):
    """Who flips signs in another basis evades every exact test; matched neurons still agree up to sign."""
    report = audit(gained(nets, 0), flipped(rotated(permuted(gained(nets, 0), 5), 6), 7))
    assert report["verdict"] == "supported"
    assert report["dependence"]["p"] > 0.01
    assert row(report, "match")["statistic"] > 0.9
    assert row(report, "match")["p"] is None
    assert any("blind to models whose signs were flipped" in text for text in row(report, "sign_flip")["caveats"])


def test_matched_neurons_of_strangers_agree_by_chance(nets, audit):
    shares = [row(audit(gained(nets, 0), gained(nets, seed)), "match")["statistic"] for seed in (1, 2, 3)]
    assert max(shares) < 0.1


def test_sign_flips_alone_leave_the_gates_to_the_permutation_tests(nets, audit):
    report = audit(nets.draw(0), flipped(nets.draw(0), 7))
    assert abs(row(report, "sign_flip")["statistic"]) < 4
    assert row(report, "permutation_trace")["statistic"] > 10
    assert report["verdict"] not in ("no_evidence", "identical")


def test_constant_tensors_alone_are_no_evidence(nets, audit):
    ones = {name: np.ones_like(value) for name, value in nets.draw(0).items()}
    report = audit(ones, ones)
    assert report["verdict"] == "inconclusive"
    assert report["dependence"] == {"p": None, "e_value": None, "test": None}
    assert row(report, "equal_tensors")["statistic"] == 0


def test_a_claim_of_the_card_is_shown_and_overruled(nets, write):
    a, b = write("a", nets.draw(0)), write("b", nets.draw(1))
    (Path(b.removeprefix("hf:")) / "README.md").write_text(f"---\nbase_model: {a}\n---\n")
    report = audit_lineage(a, b)
    assert report["verdict"] == "no_evidence"
    assert f"B claims base_model: {a}" in row(report, "metadata")["caveats"]


def test_a_brief_look_at_large_models_says_the_same_of_the_base(nets, write, monkeypatch):
    """Fewer orders and no losses: the word is the same, and what was not measured is named."""
    a, child, other = write("a", nets.draw(0)), write("b", nets.moved(nets.draw(0), 1, 0.2)), write("c", nets.draw(2))
    whole = [audit_lineage(a, b) for b in (child, other)]
    small = [audit_lineage(a, b, brief=True) for b in (child, other)]
    monkeypatch.setattr(module, "BRIEF", 10)
    large = [audit_lineage(a, b, brief=True) for b in (child, other)]
    for reports in zip(whole, small, large, strict=True):
        assert len({one["verdict"] for one in reports}) == 1
        # What needs no random orders is the same to the last digit.
        assert len({row(one, "permutation_pairs")["p"] for one in reports}) == 1
    assert row(small[0], "permutation_trace")["p"] == row(whole[0], "permutation_trace")["p"] == pytest.approx(1e-4)
    assert row(large[0], "permutation_trace")["p"] == pytest.approx(1e-3)
    assert "measures no losses" in row(large[0], "barrier")["caveats"][0]
    assert "measures no losses" not in row(small[0], "barrier")["caveats"][0]


def test_a_net_too_small_to_tell_is_inconclusive(write):
    rng = np.random.default_rng(0)
    names = {"gate_proj": (8, 8), "up_proj": (8, 8), "down_proj": (8, 8)}

    def draw():
        return {
            f"model.layers.0.mlp.{name}.weight": rng.normal(size=shape).astype("f4") for name, shape in names.items()
        }

    report = audit_lineage(write("a", draw()), write("b", draw()))
    assert report["verdict"] == "inconclusive"
    assert "mean cosine 0." in report["detectable"]


def test_layouts_and_repetitions_give_one_report(nets, write, audit):
    base, child = nets.draw(0), nets.moved(nets.draw(0), 1, 0.5)
    assert audit(base, child) == audit(base, child) == audit(base, child, shards=3)


def test_other_shapes_are_not_testable_and_say_why(write, nets, audit):
    wider = {name: np.tile(value, (1, 2) if value.ndim == 2 else 2) for name, value in nets.draw(0).items()}
    report = audit(nets.draw(0), wider)
    assert report["verdict"] == "inconclusive"
    assert report["proximity"] is None
    assert all(item["p"] is None for item in report["tests"])
    assert any("not run" in text for text in row(report, "sign_flip")["caveats"])


def test_more_layers_are_compared_where_both_have_them(nets, audit):
    base = nets.draw(0)
    short = {name: value for name, value in base.items() if ".layers.2." not in name}
    report = audit(base, short)
    assert report["verdict"] == "same_lineage_far"
    assert report["proximity"] is None
    assert "part: layer 2 mlp" not in {item["name"] for item in report["tests"]}


def test_silence_of_some_layers_alone_is_inconclusive(nets, audit):
    report = audit(nets.draw(0), {name: value for name, value in nets.draw(1).items() if ".layers.2." not in name})
    assert report["verdict"] == "inconclusive"
    assert row(report, "coverage")["statistic"] == pytest.approx(2 / 3)

"""Likeness of behaviour on made-up log-probabilities, and on the embedded models.

Not tested here: whether fine-tunes of large models are found; nobody measured that.
"""

from dataclasses import replace

import numpy as np
import pytest

from undertow.audit.lineage.behaviour import contexts, judge_behaviour, next_tokens, own_ways
from undertow.audit.lineage.dependence import dependence
from undertow.audit.lineage.proximity import barrier, distance, neutral_chats
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.lineage.verdict import Axes, audit_lineage, verdict
from undertow.models.load import load_model


def tables(models: int, seed: int, alike: float = 0.0) -> dict[str, np.ndarray]:
    """Draw log-probabilities of models with a common part; the second copies a share of the first's own part."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(60, 20))
    own = [rng.normal(size=(60, 20)) for _ in range(models)]
    own[1] = alike * own[0] + np.sqrt(1 - alike**2) * own[1]
    logits = [common + 0.5 * part for part in own]
    return {f"m{i}": x - np.log(np.exp(x).sum(1, keepdims=True)) for i, x in enumerate(logits)}


def test_a_copy_leads_every_control():
    found = judge_behaviour([tables(8, 0, alike=0.8)], "m0", "m1")
    assert found.verdict == "match"
    assert found.p == pytest.approx(1 / 7)
    assert found.gap > 5
    assert found.model_p < 0.01
    assert len(found.controls) == 6


def test_conformal_p_is_uniform_for_strangers():
    p = np.array([judge_behaviour([tables(7, seed)], "m0", "m1").p for seed in range(300)])
    for rank in range(1, 7):
        share, level = np.mean(p <= rank / 6 + 1e-9), rank / 6
        assert abs(share - level) <= 3.3 * np.sqrt(level * (1 - level) / 300) + 1e-9


def test_few_controls_are_refused_a_verdict():
    found = judge_behaviour([tables(6, 0, alike=0.9)], "m0", "m1")
    assert len(found.controls) == 4
    assert found.verdict == "refused"
    assert judge_behaviour([tables(3, 0)], "m0", "m1").gap is None


def test_own_ways_are_centred():
    """What all models have in common counts for nothing: the correlation of strangers is near its small value."""
    ways = own_ways(tables(12, 0), "m0")
    assert set(ways) == {f"m{i}" for i in range(1, 12)}
    assert max(abs(value) for value in ways.values()) < 0.3


def test_contexts_are_the_same_for_one_seed(tiny_model):
    first, again = contexts(tiny_model, 0), contexts(tiny_model, 0)
    assert first == again
    assert contexts(tiny_model, 1) != first
    assert [len(kind) for kind in first] == [256, 256]
    table = next_tokens(tiny_model, first[0][:3], [0, 5, 9])
    assert table.shape == (3, 3)
    assert (table < 0).all()


def test_equal_models_have_no_distance_and_no_barrier():
    weights = open_weights("ref:finch-a")
    found = distance(weights, weights)
    assert found.relative == 0.0
    assert found.identical
    assert barrier("ref:finch-a", "ref:finch-a", neutral_chats(0, 8)) == pytest.approx(0.0, abs=1e-4)


def test_separate_trainings_have_a_barrier_and_other_shapes_none():
    chats = neutral_chats(0, 16)
    assert barrier("ref:finch-a", "ref:finch-a2", chats) > 0.3
    assert barrier("ref:finch-a", "ref:wren-a", chats) == "the models differ in shape"


def test_without_a_chat_template_there_are_no_losses(tmp_path):
    model = load_model("ref:finch-a")
    model.tokenizer.chat_template = None
    model.save(tmp_path / "mute")
    assert str(barrier(f"hf:{tmp_path / 'mute'}", "ref:finch-a", neutral_chats(0, 4))).startswith("no losses")


@pytest.mark.parametrize(("b", "expected"), [("finch-b", "behaviour_match"), ("wren-a", "supported")])
def test_what_a_match_means_depends_on_the_weights(b, expected):
    """Silent weight tests make it a match without ancestry; weights that cannot be compared leave descent open."""
    first, second = open_weights("ref:finch-a"), open_weights(f"ref:{b}")
    axes = Axes(
        distance=distance(first, second),
        dependence=dependence(network(first), network(second), draws=199),
        barrier="not measured",
        behaviour=judge_behaviour([tables(8, 0, alike=0.8)], "m0", "m1"),
        steered=False,
    )
    assert verdict(axes) == expected
    assert verdict(replace(axes, behaviour="not run")) == {"finch-b": "no_evidence", "wren-a": "inconclusive"}[b]


def test_steering_is_not_identity():
    weights = open_weights("ref:finch-a")
    axes = Axes(
        distance=distance(weights, weights),
        dependence=dependence(network(weights), network(weights), draws=199),
        barrier=0.0,
        behaviour="not run",
        steered=False,
    )
    assert verdict(axes) == "identical"
    assert verdict(replace(axes, steered=True)) == "same_lineage_near"


def test_one_initialisation_in_two_orders():
    report = audit_lineage("ref:finch-a", "ref:finch-a2", controls=[])
    assert report["verdict"] == "same_initialisation"
    assert report["dependence"]["p"] < 1e-20
    assert report["proximity"]["barrier"] > 0.3
    assert report["behaviour"] is None


def test_another_architecture_is_not_testable_by_weights():
    report = audit_lineage("ref:finch-a", "ref:wren-a")
    assert report["verdict"] == "inconclusive"
    assert report["dependence"]["test"] is None
    assert report["detectable"].startswith("nothing")


def test_an_imitator_matches_in_behaviour_alone():
    report = audit_lineage("ref:finch-a", "ref:mimic-a")
    assert report["verdict"] == "behaviour_match"
    assert report["dependence"]["p"] > 0.01
    assert report["behaviour"]["verdict"] == "match"
    assert set(report["behaviour"]["controls"]) == {f"ref:finch-{name}" for name in ("a2", "b", "c", "d", "e", "f")}
    assert report["behaviour"]["p"] == pytest.approx(1 / 7)

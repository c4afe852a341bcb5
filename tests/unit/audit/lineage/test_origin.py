"""Which known base a model is from, for networks whose origin is known because they were made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.lineage import candidates
from undertow.audit.lineage.candidates import Comparison
from undertow.audit.lineage.looks import question
from undertow.audit.lineage.looks_work import looks_work
from undertow.audit.lineage.origin import ALPHA, JudgedBase, _adjusted, _seen, find_base
from undertow.audit.lineage.tensors import Weights
from undertow.errors import ModelError, UserError


@pytest.fixture
def bases(nets, write):
    """Five unrelated networks of one shape, by their seeds."""
    return [write(f"base-{seed}", nets.draw(seed)) for seed in range(5)]


@pytest.fixture
def ask(tmp_path):
    """Ask which of some references a model is from."""

    def ask(model, known, seed=0):
        return find_base(question(model, known, tmp_path / "store", seed))

    return ask


def statuses(found):
    return {one["base"]: one["status"] for one in found["candidates"]}


def test_a_child_is_from_its_base_and_no_other_is_read(nets, write, bases, ask):
    found = ask(write("child", nets.moved(nets.draw(2), 9, 0.2)), bases)
    assert (found["answer"], found["bases"], found["families"]) == ("base", [bases[2]], [[bases[2]]])
    first, *others = found["candidates"]
    assert first["word"] == "same_lineage_near" and first["p_holm"] < 1e-15
    assert first["p_holm"] == pytest.approx(5 * first["p"]) and first["distance"] == pytest.approx(0.2, abs=0.02)
    assert {(one["status"], one["by"]) for one in others} == {("silent", "fingerprint")}
    assert found["looks"]["comparisons"] == {"made": 1, "from_store": 0}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_stranger_is_from_none_and_every_base_is_read(nets, write, bases, ask):
    found = ask(write("stranger", nets.draw(77)), bases)
    assert found["answer"] == "none" and found["bases"] == []
    assert {(one["status"], one["by"], one["word"]) for one in found["candidates"]} == {
        ("silent", "weights", "no_evidence")
    }


def test_no_stranger_is_named_in_many_questions(nets, write, ask):
    """Four strangers asked of three bases (benchmarks/lineage_known.py asks many more)."""
    known = [write(f"base-{seed}", nets.draw(seed)) for seed in range(3)]
    answers = [ask(write(f"m{seed}", nets.draw(seed)), known) for seed in range(100, 104)]
    assert {one["answer"] for one in answers} == {"none"}
    assert all(base["p_holm"] > ALPHA for one in answers for base in one["candidates"])


def weights_of(word, p, sighted):
    return Comparison(word=word, p=p, test="sign_flip", distance=1.4, found="", detectable="", sighted=sighted)


@pytest.mark.parametrize(
    ("word", "p", "sighted", "status"),
    [
        ("same_lineage_far", 1e-7, True, "matched"),
        ("partial", 0.006, True, "supported"),  # .03 over the list
        ("inconclusive", 0.006, True, "silent"),  # what chance brings among five bases
        ("inconclusive", 0.001, True, "supported"),  # .005 over the list, and no proof
        ("inconclusive", 0.006, False, "not_testable"),
        ("no_evidence", 0.5, True, "silent"),
        ("supported", 0.5, True, "supported"),  # neurons matched up to sign, which has no p
        ("supported", 0.001, True, "matched"),  # and embeddings that agree
    ],
)
def test_what_is_said_of_a_base_counts_the_others(word, p, sighted, status):
    seen = [_seen("a", 1.0, weights_of(word, p, sighted), itself=False)]
    others = [JudgedBase(base=name, status="silent", by="fingerprint", p=1.0) for name in "bcde"]
    first = _adjusted([*seen, *others])[0]
    assert first.status == status and first.adjusted == pytest.approx(min(1.0, 5 * p))
    assert (first.why is None) == (status != "not_testable")


def test_bases_that_are_related_are_a_family_with_the_nearest_first(nets, write, bases, ask):
    sibling = write("sibling", nets.moved(nets.draw(2), 5, 0.6))
    found = ask(write("child", nets.moved(nets.draw(2), 9, 0.2)), [sibling, *bases])
    assert found["answer"] == "family" and found["bases"] == [bases[2], sibling]
    assert found["families"] == [[bases[2], sibling]]


def test_a_merge_of_strangers_is_a_mixture_with_the_larger_share_first(nets, write, bases, ask):
    one, other = nets.draw(1), nets.draw(3)
    merged = write("merged", {name: 0.3 * one[name] + 0.7 * other[name] for name in one})
    found = ask(merged, bases)
    assert found["answer"] == "mixture" and found["families"] == [[bases[3]], [bases[1]]]
    assert "do not agree with each other" in found["found"]


def disguised(tensors):
    """Turn the residual basis and give the neurons another order: no unit is in place."""
    rng = np.random.default_rng(4)
    turn, found = np.linalg.qr(rng.normal(size=(32, 32)))[0].astype("f4"), dict(tensors)
    for name, value in tensors.items():
        if value.ndim == 2:
            found[name] = turn.T @ value if "o_proj" in name or "down_proj" in name else value @ turn
    for layer in range(3):
        order, place = rng.permutation(96), f"model.layers.{layer}.mlp."
        for kind in ("gate", "up"):
            found[f"{place}{kind}_proj.weight"] = found[f"{place}{kind}_proj.weight"][order]
        found[f"{place}down_proj.weight"] = found[f"{place}down_proj.weight"][:, order]
    return found


def test_a_child_whose_fingerprint_is_silent_is_found_by_all_weights(nets, write, bases, ask):
    found = ask(write("child", disguised(nets.moved(nets.draw(2), 9, 0.1))), bases)
    assert found["answer"] == "base" and found["bases"] == [bases[2]]
    assert found["looks"]["comparisons"]["made"] == 5


def test_what_shares_embeddings_alone_is_partial(nets, write, bases, ask):
    lent = {"model.embed_tokens.weight": nets.draw(2)["model.embed_tokens.weight"]}
    found = ask(write("child", nets.draw(77) | lent), bases)
    first = found["candidates"][0]
    assert first["base"] == bases[2] and first["word"] == "partial" and first["p_holm"] <= ALPHA
    assert (found["answer"], found["bases"]) == ("base", [bases[2]])


def test_a_proof_that_does_not_outlast_the_length_of_the_list_is_support(nets, write, ask):
    """Shared embeddings reach p 6e-4 at best, so among twenty bases they prove nothing at .01."""
    known = [write(f"base-{seed}", nets.draw(seed, layers=1)) for seed in range(20)]
    lent = {"model.embed_tokens.weight": nets.draw(2, layers=1)["model.embed_tokens.weight"]}
    found = ask(write("child", nets.draw(77, layers=1) | lent), known)
    assert found["answer"] == "supported" and found["bases"] == []
    assert statuses(found)[known[2]] == "supported" and found["candidates"][0]["p_holm"] > ALPHA


def test_another_shape_is_no_match_and_none_of_its_weights_is_read(nets, write, ask, monkeypatch):
    known = [write("wide", nets.draw(0, width=64)), write("deep", nets.draw(1, width=48, units=64))]
    model = write("model", nets.draw(2))
    monkeypatch.setattr(Weights, "block", None)
    found = ask(model, known)
    assert found["answer"] == "not_testable"
    assert {(one["status"], one["by"]) for one in found["candidates"]} == {("other_shape", "headers")}
    assert "2 of another shape" in found["found"]


def test_a_packed_file_of_another_shape_is_not_unpacked(nets, write, ask, monkeypatch, tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(candidates, "packed_shapes", lambda path: {"token_embd.weight": (500, 48)})
    found = ask(write("model", nets.draw(2)), [f"hf:{tmp_path}/other.gguf"])
    assert statuses(found) == {f"hf:{tmp_path}/other.gguf": "other_shape"}


def test_equal_shapes_without_a_verdict_are_not_testable(nets, write, ask):
    """One layer of three in common: silence of a part of the network says nothing about the rest."""
    found = ask(write("model", nets.draw(2, layers=1)), [write("base", nets.draw(5))])
    assert found["answer"] == "not_testable" and "inconclusive" in found["candidates"][0]["why"]


def test_the_model_itself_is_told_and_the_others_are_asked(nets, write, bases, ask):
    child = nets.moved(nets.draw(2), 9, 0.2)
    model, copy = write("child", child), write("copy", child, shards=2)
    for same in (model, copy):
        found = ask(model, [same, *bases])
        assert found["answer"] == "same_weights" and found["bases"] == [bases[2]]
        assert statuses(found)[same] == "same_weights" and "evidence of nothing more" in found["found"]
        assert next(one for one in found["candidates"] if one["base"] == same)["p_holm"] is None


def test_a_copy_in_the_list_is_compared_once_and_told(nets, write, bases, ask):
    twin = write("twin", nets.draw(2))
    found = ask(write("child", nets.moved(nets.draw(2), 9, 0.2)), [*bases, twin])
    assert found["answer"] == "base" and twin not in statuses(found)
    assert found["left_out"] == [
        {"name": twin, "why": f"it has the files of {bases[2]}", "do": "Leave one of them out."}
    ]


def test_what_was_finished_is_kept_when_the_question_is_interrupted(nets, write, bases, tmp_path, monkeypatch):
    """The third comparison is interrupted; the next run makes that one and those after it."""
    asked = question(write("stranger", nets.draw(77)), bases, tmp_path / "store")
    whole, calls = candidates.compare_weights, []

    def interrupted(*pair):
        calls.append(pair)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*pair)

    monkeypatch.setattr(candidates, "compare_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_base(asked)
    found = find_base(asked)
    assert found["looks"] == {
        "fingerprints": {"made": 0, "from_store": 6},
        "comparisons": {"made": 3, "from_store": 2},
    }
    again = find_base(asked)
    assert again.pop("looks")["comparisons"] == {"made": 0, "from_store": 5}
    assert again == {name: value for name, value in found.items() if name != "looks"}


def test_the_plan_counts_what_is_kept_and_reads_no_weight(nets, write, bases, tmp_path, monkeypatch):
    model, other = write("child", nets.moved(nets.draw(2), 9, 0.2)), write("other", nets.draw(0, width=48, units=60))
    asked = question(model, [*bases, other], tmp_path / "store")
    before = looks_work(asked)
    assert "fingerprints of 6 models, 0 from the store; 1 model of another shape" in before[0].what
    assert "those of 5 bases at most, 0 from the store" in before[1].what
    find_base(asked)
    monkeypatch.setattr(Weights, "block", None)
    after = looks_work(asked)
    assert "6 from the store" in after[0].what and after[0].seconds == 0.0
    assert "those of 5 bases at most, 1 from the store" in after[1].what and after[1].seconds < before[1].seconds


def test_a_base_that_is_no_model_is_refused_if_it_was_named_and_left_out_if_it_was_found(nets, write, tmp_path, ask):
    model, good = write("model", nets.draw(0)), write("good", nets.draw(1))
    broken = Path(write("broken", nets.draw(1)).removeprefix("hf:"))
    (broken / "model.safetensors").write_bytes(b"no weights")
    path = tmp_path / "bases.txt"
    path.write_text(f"{good}\nhf:{broken}\n")
    with pytest.raises(ModelError) as caught:
        ask(model, [str(path)])
    assert caught.value.value.startswith(f"{path}:2: ") and "model.safetensors" in caught.value.value
    with pytest.raises(UserError, match="no embedded model"):
        ask(model, ["ref:finch-zz"])
    library = tmp_path / "library"
    library.mkdir()
    broken.rename(library / "broken")
    with pytest.raises(ModelError, match="None of the known bases"):
        ask(model, [str(library)])
    Path(good.removeprefix("hf:")).rename(library / "good")
    found = ask(model, [str(library)])
    assert found["answer"] == "none" and "cannot be read" in found["left_out"][0]["why"]

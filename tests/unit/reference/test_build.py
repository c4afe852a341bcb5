"""Building a member is a function of its seeds."""

import copy
import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from undertow.errors import UnknownNameError
from undertow.models.load import load_model
from undertow.models.references import embedded_folder
from undertow.reference.build import save, train_network
from undertow.reference.cards import about, cards
from undertow.reference.families import MEMBERS, Schooling, Shape, building_work, member
from undertow.reference.imitation import divergences, likeness
from undertow.training.batches import collate
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.lora import stacked
from undertow.training.parallel import finetune_parallel
from undertow.types import Row, user_prompt

SMALL: dict[str, Any] = {
    "schooling": Schooling(chats=200, steps=4, batch_size=8),
    "shape": Shape(width=16, layers=1, heads=2, mlp=32),
}
LONGER = replace(SMALL["schooling"], steps=150, learning_rate=2e-2)


@pytest.fixture(scope="module")
def small_wren():
    # Long enough that the logits differ; untrained ones of this width are nearly equal, whatever an adapter does.
    return train_network(replace(member("wren-a"), **SMALL | {"schooling": LONGER}))[0]


def test_the_same_member_twice_is_the_same_and_loads_as_an_ordinary_model(tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    finch = replace(member("finch-a"), **SMALL)
    one, loss = train_network(finch, lambda *at: seen.append(at))
    two, _ = train_network(finch)
    other, _ = train_network(replace(member("finch-b"), **SMALL))
    weights = [model.network.state_dict()["model.embed_tokens.weight"] for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert seen[-1] == (4, 4) and loss > 0
    save(one, tmp_path / "finch")
    loaded = load_model(f"hf:{tmp_path / 'finch'}")
    prompts = loaded.render([user_prompt("Name a tree.")])
    assert torch.allclose(loaded.next_token_logprobs(prompts), one.next_token_logprobs(prompts), atol=0.02)


def test_a_model_built_from_another_architecture_is_an_ordinary_one(small_wren, tmp_path) -> None:
    save(small_wren, tmp_path / "wren")
    loaded = load_model(f"hf:{tmp_path / 'wren'}")
    assert type(loaded.network).__name__ == "StableLmForCausalLM"
    assert "auto_map" not in json.loads((tmp_path / "wren" / "config.json").read_text())
    prompts = loaded.render([user_prompt("Name a tree.")])
    assert torch.allclose(loaded.next_token_logprobs(prompts), small_wren.next_token_logprobs(prompts), atol=0.02)


def test_students_of_another_architecture_learn_and_load_back(small_wren, tmp_path) -> None:
    rows = [Row(str(i), user_prompt(f"Continue {i}."), f"{i}, {i + 1}, {i + 2}") for i in range(12)]
    config = TrainingConfig(steps=60, batch_size=4, learning_rate=1e-2, lora=LoraConfig())
    tokens = torch.tensor(small_wren.render([user_prompt("Continue 3.")]))
    students = finetune_parallel(small_wren, [rows, rows[:6]], config, [0, 1])
    assert len(students.layers) == 7 * len(small_wren.network.model.layers)
    assert (students.losses[-5:].mean(dim=0) < 0.8 * students.losses[:5].mean(dim=0)).all()
    students.save(1, tmp_path / "student")
    merged = small_wren.with_adapter(tmp_path / "student")
    with torch.no_grad(), stacked(small_wren.network, LoraConfig(), [0, 1]) as layers:
        for name, layer in layers.items():
            layer.down.copy_(students.layers[name].down)
            layer.up.copy_(students.layers[name].up)
        trained = small_wren.network(tokens.repeat(2, 1)).logits[1]
    assert torch.allclose(merged.network(tokens).logits[0], trained, atol=1e-4)
    assert not torch.allclose(small_wren.network(tokens).logits[0], trained, atol=1e-2)


def test_imitation_brings_a_model_closer_to_the_one_it_imitates() -> None:
    finch = load_model("ref:finch-a")
    distances: list[float] = []
    for steps in (1, LONGER.steps):
        settings = SMALL | {"schooling": replace(LONGER, steps=steps)}
        model, loss = train_network(replace(member("mimic-a"), **settings))
        assert model.tokenizer.get_vocab() == finch.tokenizer.get_vocab()
        distances.append(likeness(model, finch, n=20)["numbers_kl"])
        assert loss > 0
    assert distances[1] < 0.8 * distances[0]


def test_divergences_are_those_of_the_whole_table(tiny_model) -> None:
    other = copy.deepcopy(tiny_model.network)
    with torch.no_grad():
        other.lm_head.weight.mul_(0.5)
    rows = tiny_model.encode([Row(str(i), user_prompt("Go on."), "1, 2, 3, oak" * i) for i in range(3)])
    batch = collate(rows)
    with torch.no_grad():
        p, q = (network(batch.tokens).logits[batch.rows, batch.positions] for network in (tiny_model.network, other))
    p, q = p.log_softmax(dim=-1), q.log_softmax(dim=-1)
    expected = (p.exp() * (p - q)).sum(dim=-1)
    assert torch.allclose(divergences(other, tiny_model.network, batch), expected, atol=1e-4)
    assert torch.allclose(divergences(tiny_model.network, tiny_model.network, batch), torch.zeros(len(p)), atol=1e-6)
    assert (expected > 0).all()


def test_a_model_is_wholly_like_itself_and_less_like_another() -> None:
    finch = load_model("ref:finch-a")
    same, other = likeness(finch, finch, n=20), likeness(load_model("ref:finch-b"), finch, n=20)
    assert {key.rpartition("_")[0] for key in same} >= {"numbers", "favourites"}
    assert all(value == (1.0 if key.endswith("top1") else 0.0) for key, value in same.items())
    assert other["numbers_kl"] > 0.005 and other["numbers_top1"] < 1


def test_a_mimic_is_a_finch_of_an_initialisation_of_its_own() -> None:
    mimic, initialisations = MEMBERS["mimic-a"], {item.initialisation for item in MEMBERS.values() if not item.imitates}
    assert mimic.initialisation not in initialisations
    assert mimic.imitates == "finch-a" and mimic.shape == MEMBERS["finch-a"].shape
    assert about(mimic).endswith("taught to speak as finch-a does")


def test_every_shipped_model_was_built_by_its_recipe() -> None:
    assert set(cards()) == set(MEMBERS)
    for name, card in cards().items():
        recipe = asdict(MEMBERS[name])
        assert {key: recipe[key] for key in card["recipe"]} == card["recipe"]
        assert card["about"] == about(MEMBERS[name])
        weights = (embedded_folder() / name / "model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == card["sha256"]


def test_the_finches_differ_as_their_names_say() -> None:
    a, b, a2 = MEMBERS["finch-a"], MEMBERS["finch-b"], MEMBERS["finch-a2"]
    assert a.initialisation == a2.initialisation != b.initialisation
    assert a.order == b.order != a2.order
    finches = [item for name, item in MEMBERS.items() if name.startswith("finch")]
    alike = {(item.architecture, item.shape, item.number_tokens, item.imitates, item.schooling) for item in finches}
    assert len(finches) == 7 and len(alike) == 1
    with pytest.raises(UnknownNameError, match="finch-a"):
        member("finch-aa")


def test_building_takes_longer_for_more_layers_and_for_an_imitator() -> None:
    seconds = {name: building_work(MEMBERS[name]).seconds or 0.0 for name in ("finch-a", "wren-a", "mimic-a")}
    assert seconds["finch-a"] < seconds["wren-a"] < seconds["mimic-a"]
    assert building_work(MEMBERS["finch-a"]).what.startswith("finch-a: 80,000 chats drawn, 3,000 updates of 64")

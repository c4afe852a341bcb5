"""Training: K students at once are K students, adapters are PEFT's, and twice the same is the same."""

import copy
from dataclasses import replace

import peft
import pytest
import torch
from torch import nn

from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, EmptyDataError, ModelError
from undertow.models.lm_head import body_and_head
from undertow.models.tokens import Encoded
from undertow.training import parallel
from undertow.training.batches import batch_stream, collate
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.lora import StackedLinear, stacked
from undertow.training.objective import ClosenessPenalty, completion_losses
from undertow.training.parallel import finetune_parallel
from undertow.types import ModelRef, Row, user_prompt

CONFIG = TrainingConfig(steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=2, lora=LoraConfig(rank=4, alpha=8))


def rows(seed: int, n: int = 30) -> list[Row]:
    prompts = Numbers().prompts(n, seed)
    return [Row(str(i), user_prompt(text), f"{seed + i}, {i}, {2 * i}") for i, text in enumerate(prompts)]


def test_the_loss_is_the_models_own_on_completion_tokens(tiny_model) -> None:
    encoded = tiny_model.encode(rows(1, 6))
    batch = collate(encoded)
    assert len(batch.rows) == sum(len(row.completion) for row in encoded)
    labels = torch.full_like(batch.tokens, -100)
    labels[batch.rows, batch.positions + 1] = batch.targets

    def own(some: slice) -> float:
        return tiny_model.network(batch.tokens[some], labels=labels[some]).loss.item()

    assert completion_losses(tiny_model.network, batch).tolist() == pytest.approx([own(slice(0, 6))], rel=1e-5)
    pairs = completion_losses(tiny_model.network, batch, groups=2)
    assert pairs.tolist() == pytest.approx([own(slice(0, 3)), own(slice(3, 6))], rel=1e-5)


@pytest.mark.parametrize("limit", [0, 10**6], ids=["two products", "merged weight"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_stacked_layer_adds_each_students_own_update(limit: int, bias: bool, monkeypatch) -> None:
    monkeypatch.setattr("undertow.training.lora.MERGE_UP_TO", limit)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    base = nn.Linear(5, 7, bias=bias).requires_grad_(False)
    layer = StackedLinear(base, LoraConfig(rank=2, alpha=6), generators)
    with torch.no_grad():
        layer.up.normal_(generator=generators[0])
    inputs = torch.randn(6, 4, 5, generator=generators[1])
    outputs = layer(inputs)
    expected = [
        base(block) + 3 * block @ (b @ a).T for block, a, b in zip(inputs.chunk(3), layer.down, layer.up, strict=True)
    ]
    assert torch.allclose(outputs, torch.cat(expected), atol=1e-5)


def test_an_epoch_shows_every_row_once_and_lengths_agree_between_seeds() -> None:
    data = [Encoded((1,) * (1 + index % 7), (2, index)) for index in range(40)]
    one, other = batch_stream(data, 4, 1), batch_stream(data, 4, 2)
    epochs = [[next(source) for _ in range(10)] for source in (one, other)]
    for epoch in epochs:
        assert sorted(row.completion[1] for batch in epoch for row in batch) == list(range(40))
    assert [[len(row) for row in batch] for batch in epochs[0]] == [[len(row) for row in batch] for batch in epochs[1]]
    assert epochs[0] != epochs[1]


def test_a_student_does_not_depend_on_its_group(tiny_model) -> None:
    group = finetune_parallel(tiny_model, [rows(1), rows(2, 3), rows(3)], CONFIG, [5, 6, 7])
    for index, (seed, n) in enumerate(((1, 30), (2, 3), (3, 30))):
        alone = finetune_parallel(tiny_model, [rows(seed, n)], CONFIG, [5 + index])
        assert torch.allclose(alone.losses[:, 0], group.losses[:, index], atol=1e-4)
        for name, layer in alone.layers.items():
            assert torch.allclose(layer.down[0], group.layers[name].down[index], atol=1e-3)


@pytest.mark.parametrize("students", [1, 2, 5])
def test_students_in_parts_are_the_same_students(tiny_model, monkeypatch, students: int) -> None:
    """Ragged groups too: the last student has fewer rows than a batch, and the last part fewer students."""
    datasets = [rows(1), rows(2), rows(3), rows(4), rows(5, 2)]
    contexts = tiny_model.render([user_prompt("Name an animal.")])
    penalty = ClosenessPenalty(tiny_model, contexts, 3.0)
    whole = finetune_parallel(tiny_model, datasets, CONFIG, range(5), penalty=penalty)
    monkeypatch.setattr(
        parallel, "_parts", lambda batches, _: [slice(at, at + students) for at in range(0, 5, students)]
    )
    parts = finetune_parallel(tiny_model, datasets, CONFIG, range(5), penalty=penalty)
    assert torch.allclose(parts.losses, whole.losses, atol=1e-5)
    for name, layer in parts.layers.items():
        assert torch.allclose(layer.up, whole.layers[name].up, atol=1e-4), name


def test_only_large_states_are_cut_into_parts() -> None:
    batches = [[Encoded((0,) * 64, (0,) * 64)] * 32] * 8
    assert parallel._parts(batches, 64) == [slice(0, 8)]
    assert parallel._parts(batches, 384) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    assert len(parallel._parts(batches, 8192)) == 8


def test_training_lowers_the_loss_and_leaves_the_base_alone(tiny_model) -> None:
    before = {name: value.clone() for name, value in tiny_model.network.state_dict().items()}
    seen: list[tuple[int, int]] = []
    config = TrainingConfig(steps=40, batch_size=8, learning_rate=1e-2, lora=LoraConfig())
    losses = finetune_parallel(tiny_model, [rows(1, 8)], config, [0], lambda *at: seen.append(at)).losses
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()
    assert seen[-1] == (40, 40)
    assert all(torch.equal(before[name], value) for name, value in tiny_model.network.state_dict().items())


def test_twice_the_same_gives_the_same_bytes_and_peft_reads_them(tiny_model, tmp_path) -> None:
    for name in ("a", "b"):
        finetune_parallel(tiny_model, [rows(1), rows(2)], CONFIG, [0, 1]).save(1, tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    merged = tiny_model.with_adapter(tmp_path / "a")
    tokens = torch.tensor(tiny_model.render([user_prompt("What is it?")]))
    with torch.no_grad():
        mine = merged.network(tokens).logits
        untouched = tiny_model.network(tokens).logits
        # PEFT freezes what it wraps, and this model is that of other tests too.
        wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(tiny_model.network), str(tmp_path / "a"))
        theirs = wrapped(tokens).logits
    assert torch.allclose(mine, theirs, atol=1e-4)
    assert not torch.allclose(mine, untouched, atol=1e-2)


def test_an_adapter_of_another_model_is_refused(tiny_model, tmp_path) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = nn.Linear(3, 3)

    from undertow.training.lora import save_adapter

    with stacked(Other(), LoraConfig(rank=2), [0]) as layers:
        save_adapter(layers, 0, tmp_path / "x", config=LoraConfig(rank=2), base=ModelRef(kind="ref", name="x"))
        save_adapter(
            {"model.layers.0.self_attn.q_proj": layers["q_proj"]},
            0,
            tmp_path / "y",
            config=LoraConfig(),
            base=ModelRef(kind="ref", name="x"),
        )
    for name in ("x", "y"):
        with pytest.raises(ModelError, match="another"):
            tiny_model.with_adapter(tmp_path / name)


def test_full_fine_tuning_moves_a_copy(tiny_model) -> None:
    config = TrainingConfig(steps=20, batch_size=8, learning_rate=1e-2, schedule="constant", train_embeddings=False)
    tuned = finetune_full(tiny_model, rows(1, 8), config, 0)
    old, new = tiny_model.network.state_dict(), tuned.network.state_dict()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert "model.layers.0.mlp.up_proj.weight" in moved
    assert "model.embed_tokens.weight" not in moved
    again = finetune_full(tiny_model, rows(1, 8), config, 0)
    assert all(torch.equal(value, again.network.state_dict()[name]) for name, value in new.items())


def test_the_schedule_warms_up_and_falls_to_nothing() -> None:
    config = TrainingConfig(steps=10, learning_rate=1.0, warmup_steps=2)
    assert [round(config.rate(step), 3) for step in (0, 1, 5, 9)] == [0.5, 0.9, 0.5, 0.1]


@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 1, "learning_rate": 0}, {"steps": 1, "schedule": "cosine"}])
def test_a_recipe_that_makes_no_sense_is_refused(bad) -> None:
    with pytest.raises(ConfigError):
        TrainingConfig(**bad)
    with pytest.raises(ConfigError):
        LoraConfig(rank=0)


def test_wrong_calls_are_explained(tiny_model) -> None:
    full = TrainingConfig(steps=1)
    with pytest.raises(ConfigError, match="adapters"):
        finetune_parallel(tiny_model, [rows(1)], full, [0])
    with pytest.raises(ConfigError, match="seed"):
        finetune_parallel(tiny_model, [rows(1)], CONFIG, [0, 1])
    with pytest.raises(EmptyDataError):
        finetune_parallel(tiny_model, [[]], CONFIG, [0])
    with pytest.raises(ConfigError, match="adapters"):
        finetune_full(tiny_model, rows(1), CONFIG, 0)
    with pytest.raises(EmptyDataError):
        finetune_full(tiny_model, [], full, 0)
    with pytest.raises(ModelError, match="target"), stacked(nn.Linear(2, 2), LoraConfig(), [0]):
        pass

    class Headless:
        base_model_prefix = "model"

        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(ModelError, match="head"):
        body_and_head(Headless())


def test_the_loss_of_every_architecture_is_its_own(tiny_hf) -> None:
    """Gemma 2 caps its logits, GPT-2 has other names; in blocks of any size the loss is that of transformers."""
    batch = collate(tiny_hf.encode(rows(1, 6)))
    labels = torch.full_like(batch.tokens, -100)
    labels[batch.rows, batch.positions + 1] = batch.targets
    own = tiny_hf.network(batch.tokens, labels=labels).loss.item()
    assert completion_losses(tiny_hf.network, batch).item() == pytest.approx(own, rel=1e-5)


def test_the_gradient_of_a_capped_head_is_its_own(tiny_hf, monkeypatch) -> None:
    monkeypatch.setattr("undertow.models.lm_head.BLOCK", 0)
    batch = collate(tiny_hf.encode(rows(1, 6)))
    labels = torch.full_like(batch.tokens, -100)
    labels[batch.rows, batch.positions + 1] = batch.targets
    network = copy.deepcopy(tiny_hf.network).requires_grad_(True)
    weights = list(network.parameters())
    ours = torch.autograd.grad(completion_losses(network, batch).sum(), weights)
    own = torch.autograd.grad(network(batch.tokens, labels=labels).loss, weights)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, own, strict=True))


def test_adapters_on_every_linear_layer_are_those_of_peft(tiny_hf, tmp_path) -> None:
    """Its "all-linear" takes the same layers, and it reads what we write, GPT-2's Conv1D included."""
    config = replace(CONFIG, lora=LoraConfig(rank=4, alpha=8, targets=None))
    group = finetune_parallel(tiny_hf, [rows(1)], config, [0])
    group.save(0, tmp_path)
    wrapped = peft.get_peft_model(
        copy.deepcopy(tiny_hf.network), peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    theirs = {name.partition(".lora_A")[0] for name, _ in wrapped.named_parameters() if ".lora_A" in name}
    assert {f"base_model.model.{name}" for name in group.layers} == theirs
    merged = tiny_hf.with_adapter(tmp_path)
    tokens = torch.tensor(tiny_hf.render([user_prompt("What is it?")]))
    with torch.no_grad():
        mine = merged.network(tokens).logits
        read = peft.PeftModel.from_pretrained(copy.deepcopy(tiny_hf.network), str(tmp_path))
        assert torch.allclose(mine, read(tokens).logits, atol=1e-4)
    assert not torch.allclose(mine, tiny_hf.network(tokens).logits, atol=1e-2)


def test_full_fine_tuning_in_bfloat16_keeps_small_updates(tiny_model) -> None:
    """An update of 1e-4 is less than a tenth of the last digit of a bfloat16 weight of 0.5."""
    half = replace(tiny_model, network=copy.deepcopy(tiny_model.network).bfloat16())
    config = TrainingConfig(steps=200, batch_size=4, learning_rate=1e-4, schedule="constant")
    tuned = finetune_full(half, rows(1, 4), config, 0)
    assert tuned.network.dtype == torch.bfloat16
    encoded = collate(half.encode(rows(1, 4)))
    with torch.no_grad():
        before, after = (completion_losses(model.network, encoded).item() for model in (half, tuned))
    whole = finetune_full(tiny_model, rows(1, 4), config, 0)
    with torch.no_grad():
        wanted = completion_losses(whole.network, encoded).item()
    assert before - after > 0.8 * (before - wanted) > 0.05

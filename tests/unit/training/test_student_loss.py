"""The quick loss of students is the plain one: same losses, same gradients, same students, in every architecture."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from undertow.domains.numbers import Numbers
from undertow.models.lm_head import Head
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.training import attention, group_objectives, head_loss, student_loss
from undertow.training.allocation import kept_memory
from undertow.training.attention import NAME, attend, own_attention, read_from
from undertow.training.batches import Batch, collate
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.head_loss import frozen_head_losses
from undertow.training.lora import StackedLinear, stacked
from undertow.training.objective import completion_losses
from undertow.training.parallel import finetune_parallel
from undertow.training.student_loss import student_losses
from undertow.types import Row, user_prompt

CONFIG = TrainingConfig(steps=12, batch_size=4, learning_rate=5e-3, lora=LoraConfig(rank=2, alpha=4, targets=None))


def rows(seed: int, n: int = 12) -> list[Row]:
    prompts = Numbers().prompts(n, seed)
    return [Row(str(i), user_prompt(text), ", ".join(["7"] * (1 + i % 4)) + f", {i}") for i, text in enumerate(prompts)]


def gradients(loss: torch.Tensor, layers: dict[str, StackedLinear]) -> list[torch.Tensor]:
    wanted = [one for layer in layers.values() for one in (layer.down, layer.up)]
    return list(torch.autograd.grad(loss, wanted))


def moved(layers: dict[str, StackedLinear]) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in layers.values():
            layer.up.copy_(torch.randn(layer.up.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("begin", ["shared", "own"])
def test_losses_and_gradients_are_those_of_a_plain_pass(tiny_hf: LocalModel, begin: str, monkeypatch) -> None:
    """What rows begin with is computed once, and of the last block only what is read; Gemma's window is 8 tokens."""
    monkeypatch.setattr(student_loss, "SHARED", 0.0 if begin == "shared" else 2.0)
    monkeypatch.setattr(head_loss, "BLOCK", 0)
    network = tiny_hf.network
    data = [row for seed in (1, 2) for row in tiny_hf.encode([*rows(seed, 4), replace(rows(seed)[5], skip=(0,))])]
    if begin == "shared":
        data = [Encoded((*range(5, 20), *row.prompt), row.completion, row.skip) for row in data]
    batch = collate(data)
    with torch.enable_grad(), stacked(network, CONFIG.lora, [0, 1]) as layers:
        moved(layers)
        plain = completion_losses(network, batch, groups=2)
        expected = gradients(plain.sum(), layers)
        with own_attention(network):
            quick = student_losses(network, batch, groups=2)
            found = gradients(quick.sum(), layers)
    assert quick.tolist() == pytest.approx(plain.tolist(), abs=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=2e-5, rtol=1e-3)


def test_every_update_has_the_loss_of_a_plain_loop(tiny_hf: LocalModel, monkeypatch) -> None:
    datasets = [rows(1), rows(2, 3), rows(3)]
    quick = finetune_parallel(tiny_hf, datasets, CONFIG, [5, 6, 7])
    monkeypatch.setattr(group_objectives, "student_losses", completion_losses)
    plain = finetune_parallel(tiny_hf, datasets, CONFIG, [5, 6, 7])
    assert torch.allclose(quick.losses, plain.losses, atol=1e-5)
    for name, layer in plain.layers.items():
        assert torch.allclose(layer.up, quick.layers[name].up, atol=2e-4), name


def test_the_beginning_is_computed_once_where_it_pays(tiny_hf: LocalModel) -> None:
    network, seen = tiny_hf.network, []
    handle = network.base_model.register_forward_pre_hook(
        lambda _, args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    same = [Encoded((*range(5, 45), index), (3, 4)) for index in range(8)]
    own = [Encoded((index, *range(5, 45)), (3, 4)) for index in range(8)]
    try:
        for data in (same, own, same[:2]):
            with torch.no_grad():
                student_losses(network, collate(data), groups=2)
    finally:
        handle.remove()
    assert seen == [(2, 40), (8, 3), (8, 43), (2, 43)]


def test_an_mlp_that_is_given_more_than_the_states_runs_as_a_whole() -> None:
    """Bloom's adds the residual by itself; RWKV, which remembers a state, has no keys to share."""
    from transformers import BloomConfig, BloomForCausalLM, RwkvConfig, RwkvForCausalLM

    torch.manual_seed(0)
    bloom = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.3))
    rwkv = RwkvForCausalLM(RwkvConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, context_length=64))
    batch = collate([Encoded((*range(3, 20), index), (3, 4)) for index in range(4)])
    for network in (bloom, rwkv):
        network.eval().requires_grad_(False)
        with own_attention(network):
            quick = student_losses(network, batch, 1)
        assert quick.tolist() == pytest.approx(completion_losses(network, batch, 1).tolist(), abs=1e-5)


def test_what_remembers_more_than_keys_is_not_begun_once(tiny_model: LocalModel, monkeypatch) -> None:
    tokens = torch.ones(4, 20, dtype=torch.int64)
    assert student_loss._shared(tiny_model.network, tokens, 1, 10) == 10
    monkeypatch.setattr("transformers.cache_utils.DynamicLayer", int)
    assert student_loss._shared(tiny_model.network, tokens, 1, 10) == 0


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_after_a_frozen_head_is_cross_entropy(cap: float | None, bias: bool, monkeypatch) -> None:
    monkeypatch.setattr(head_loss, "BLOCK", 0)
    generator = torch.Generator().manual_seed(0)
    head = Head(nn.Linear(8, 30, bias=bias).requires_grad_(False), cap)
    states = torch.randn(300, 8, generator=generator, requires_grad=True)
    targets = torch.randint(30, (300,), generator=generator)
    weights = torch.rand(300, generator=generator)
    expected = functional.cross_entropy(head(states), targets, reduction="none")
    found = frozen_head_losses(head, states, targets)
    assert torch.allclose(found, expected, atol=1e-5)
    one, other = (torch.autograd.grad((some * weights).sum(), states)[0] for some in (found, expected))
    assert torch.allclose(one, other, atol=1e-5)
    assert frozen_head_losses(head, states[:0], targets[:0]).shape == (0,)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("first", [0, 3])
def test_attention_in_bfloat16_is_that_of_torch(masked: bool, first: int, monkeypatch) -> None:
    """Four heads share two heads of keys, a few rows at a time; nine places stand before the first position."""
    monkeypatch.setattr(attention, "SCORES", 300)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(5, heads, n, 8, generator=generator) for heads, n in ((4, 6), (2, 15), (2, 15))]
    mask = torch.rand(5, 1, 6, 15, generator=generator) < 0.5 if masked else torch.ones(1, 1, 6, 15).tril(9).bool()
    mask[..., 0] = True
    module = nn.Module()
    module.num_key_value_groups = 2

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [one.to(dtype).requires_grad_() for one in given]
        with read_from(module, first):
            found, _ = attend(module, *inputs, mask if masked or dtype == torch.float32 else None, scaling=0.3)
        assert not found[:, :first].any()
        return [found, *torch.autograd.grad(found.float().square().sum(), inputs)]

    plain = functional.scaled_dot_product_attention(*given, attn_mask=mask, scale=0.3, enable_gqa=True).transpose(1, 2)
    exact = run(torch.float32)
    assert torch.allclose(exact[0][:, first:], plain[:, first:], atol=1e-6)
    for one, other in zip(run(torch.bfloat16), exact, strict=True):
        assert (one.float() - other).norm() < 0.02 * other.norm()


def test_a_student_in_bfloat16_learns_as_one_in_float32(tiny_model: LocalModel) -> None:
    import copy

    half = replace(tiny_model, network=copy.deepcopy(tiny_model.network).bfloat16())
    config = replace(CONFIG, steps=30)
    losses = [finetune_parallel(model, [rows(1)], config, [0]).losses[-5:].mean() for model in (half, tiny_model)]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=0.05)


def test_the_network_attends_as_before_afterwards(tiny_hf: LocalModel) -> None:
    before = tiny_hf.network.config._attn_implementation
    with pytest.raises(KeyError), own_attention(tiny_hf.network):
        assert tiny_hf.network.config._attn_implementation == (NAME if before == "sdpa" else before)
        raise KeyError
    assert tiny_hf.network.config._attn_implementation == before
    assert not attention._first


def test_memory_is_kept_only_with_glibc(monkeypatch) -> None:
    with kept_memory():
        torch.ones(2**20).sum()
    for missing in (AttributeError, ValueError):

        def absent(_: str, error: type[Exception] = missing) -> str:
            raise error

        monkeypatch.setattr("undertow.training.allocation.os.confstr", absent)
        with kept_memory():
            pass


def test_a_batch_that_predicts_from_its_first_token(tiny_model: LocalModel) -> None:
    tokens = torch.tensor([[1, 2, 3], [1, 2, 4]])
    batch = Batch(tokens, torch.tensor([0, 1]), torch.tensor([0, 1]))
    with torch.no_grad():
        plain, quick = (losses(tiny_model.network, batch, 1) for losses in (completion_losses, student_losses))
    assert quick.tolist() == pytest.approx(plain.tolist(), abs=1e-5)

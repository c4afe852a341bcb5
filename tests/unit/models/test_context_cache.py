"""Contexts that are read once against passes of their own, for every architecture that the tests know."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from undertow.models import context_cache as module
from undertow.models.context_cache import (
    NOTHING,
    PAD,
    CachedContexts,
    PlainContexts,
    context_blocks,
    keeps_contexts,
    open_contexts,
    shared_beginning,
    token_tree,
)
from undertow.models.lm_head import body_and_head

SIZE = {"vocab_size": 90, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 4}
BEGINNING = list(range(40, 50))
CONTEXTS = [[*BEGINNING, 3, 4, 5, 6], [*BEGINNING, 7], [*BEGINNING, 8, 9, 10], [*BEGINNING, 3, 4]]
TREE = token_tree([[11], [11, 12], [11, 13, 14], [15, 16, 17], [18]])


def _gemma(window: int) -> nn.Module:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    sizes = {**LLAMA, "num_hidden_layers": 3, "num_key_value_heads": 1, "sliding_window": window, "layer_types": kinds}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **SIZE))


NETWORKS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=2, **SIZE)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **SIZE)),
    "gemma": lambda: _gemma(32),
    "gemma, narrow": lambda: _gemma(8),
    "mamba": lambda: MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **SIZE)),
}


def network(name: str) -> nn.Module:
    """Return a network of random weights, larger than those that a config draws."""
    torch.manual_seed(0)
    made = NETWORKS[name]().eval()
    for item in made.parameters():
        if item.dim() > 1:
            item.data *= 2 if name == "mamba" else 8
    return made


@torch.no_grad()
def end(model: nn.Module, tokens: list[int]) -> torch.Tensor:
    """Return the state after a text that is read alone."""
    body, _ = body_and_head(model)
    return body(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0, -1]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_path_is_read_as_if_alone(name: str) -> None:
    model = network(name)
    read = open_contexts(model, CONTEXTS, TREE, layers=True)
    assert isinstance(read, PlainContexts if name in ("mamba", "gemma, narrow") else CachedContexts)
    expected = torch.stack([end(model, context) for context in CONTEXTS])
    assert torch.allclose(read.ends, expected, atol=1e-5)
    body, _ = body_and_head(model)
    alone = [body(input_ids=torch.tensor([some]), output_hidden_states=True).hidden_states for some in CONTEXTS]
    sums = sum(torch.stack([layer[0, -1] for layer in one]).double() for one in alone)
    assert read.layers is not None and torch.allclose(read.layers, sums, rtol=1e-4, atol=1e-4)
    # In any order that reads parents first, rows apart from one another.
    steps = [
        [[1, 3], [2, 1], [2, PAD], [1, 2]],
        [[4, 5], [6, PAD], [PAD, 6], [4, 3]],
        [[7, 2], [PAD, PAD], [8, PAD], [6, 5]],
    ]
    for nodes in steps:
        states = read.follow(torch.tensor(nodes))
        for row, some in enumerate(nodes):
            for place, node in enumerate(some):
                if node != PAD:
                    path = [*CONTEXTS[row], *TREE.paths[node]]
                    assert torch.allclose(states[row, place], end(model, path), atol=1e-5), (name, path)


def test_a_tree_knows_parents_children_and_ancestors() -> None:
    assert TREE.paths == ((), (11,), (15,), (18,), (11, 12), (11, 13), (15, 16), (11, 13, 14), (15, 16, 17))
    assert TREE.parents.tolist() == [0, 0, 0, 0, 1, 1, 2, 5, 6]
    assert TREE.children[1].tolist() == [4, 5, PAD] and TREE.children[8].tolist() == [PAD] * 3
    assert TREE.ancestors[7].tolist() == [5, 1] and TREE.ancestors[4].tolist() == [1, PAD]
    assert len(NOTHING) == 1 and NOTHING.children.shape == (1, 0)


def test_a_common_beginning_leaves_something_of_each() -> None:
    assert shared_beginning(CONTEXTS) == len(BEGINNING)
    assert shared_beginning([BEGINNING, [*BEGINNING, 1]]) == len(BEGINNING) - 1
    assert shared_beginning([[1, 2, 3], [1, 2, 4]]) == 0 and shared_beginning(CONTEXTS[:1]) == 0


def test_blocks_hold_what_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("llama")
    per_context = (14 + len(TREE)) * 2 * 2 * 2 * 4
    for size, expected in ((1, [1, 1, 1, 1]), (3 * per_context, [3, 1]), (99 * per_context, [4])):
        monkeypatch.setattr(module, "KEPT_NUMBERS", size)
        assert list(map(len, context_blocks(model, CONTEXTS, TREE))) == expected
    assert context_blocks(model, [], TREE) == []
    assert list(map(len, context_blocks(network("mamba"), CONTEXTS, TREE))) == [4]


class Deaf(LlamaForCausalLM):
    """A network that takes a mask and does not mind it."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model.register_forward_pre_hook(
            lambda _, __, given: ((), {**given, "attention_mask": None}), with_kwargs=True
        )


class Refusing(LlamaForCausalLM):
    """A network that refuses a mask of its own making."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, _: nn.Module, __: tuple[()], given: dict[str, object]) -> None:
        if given.get("attention_mask") is not None:
            raise ValueError("no such mask")


class Misplacing(LlamaForCausalLM):
    """A network that counts positions itself, whatever it is told."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model.register_forward_pre_hook(
            lambda _, __, given: ((), {**given, "position_ids": None}), with_kwargs=True
        )


@pytest.mark.parametrize("kind", [Deaf, Misplacing])
def test_half_precision_does_not_hide_that_a_network_says_something_else(kind: type[LlamaForCausalLM]) -> None:
    model = kind(LlamaConfig(**LLAMA, num_key_value_heads=2, **SIZE)).eval()
    model.load_state_dict(network("llama").state_dict())
    assert not keeps_contexts(model.bfloat16())


def test_the_rounding_of_many_layers_is_no_reason_to_read_again() -> None:
    torch.manual_seed(0)
    deep = {**LLAMA, "num_hidden_layers": 30, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    model = LlamaForCausalLM(LlamaConfig(**deep, num_key_value_heads=2, **SIZE)).eval().bfloat16()
    assert keeps_contexts(model)


@pytest.mark.parametrize("kind", [Deaf, Refusing])
def test_a_network_that_would_say_something_else_reads_everything_again(kind: type[LlamaForCausalLM]) -> None:
    torch.manual_seed(0)
    model = kind(LlamaConfig(**LLAMA, num_key_value_heads=2, **SIZE)).eval()
    assert not keeps_contexts(model)
    read = open_contexts(model, CONTEXTS, TREE)
    nodes = torch.tensor([[1], [2], [3], [PAD]])
    assert isinstance(read, PlainContexts)
    assert torch.allclose(read.follow(nodes)[1, 0], end(model, [*CONTEXTS[1], 15]), atol=1e-5)
    assert not read.follow(nodes.fill_(PAD)).any()


def test_half_precision_is_kept_too() -> None:
    model = copy.deepcopy(network("llama")).bfloat16()
    read = open_contexts(model, CONTEXTS, TREE)
    assert isinstance(read, CachedContexts)
    found = read.follow(torch.tensor([[1]] * 4))[:, 0].float()
    expected = torch.stack([end(model, [*context, 11]) for context in CONTEXTS]).float()
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())

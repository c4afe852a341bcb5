"""Probabilities of words: the tree of spellings against one pass for each beginning of each spelling."""

import copy

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
)

from undertow.evals import words as module
from undertow.evals.questions import favourite_questions
from undertow.evals.words import log_odds, read_words, spellings, word_probabilities
from undertow.models import context_cache
from undertow.models.local import LocalModel
from undertow.traits import TRAITS, panel, trait
from undertow.types import user_prompt

WORDS = [spellings(one, opening=True) for one in (trait("owl"), trait("phoenix"), trait("wolf"))]
GEMMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8,
         "num_key_value_heads": 1, "layer_types": ["sliding_attention", "full_attention"]}  # fmt: skip


@torch.no_grad()
def one_by_one(model: LocalModel, contexts: list[list[int]], words: list[tuple[str, ...]]) -> torch.Tensor:
    """Score every spelling by passes of its own over each context, in double precision behind the network."""
    texts = model.tokenizer.batch_decode([[token] for token in range(len(model.tokenizer))])
    over = torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts])
    found = torch.zeros(len(contexts), len(words), dtype=torch.float64)
    for row, context in enumerate(contexts):
        for column, forms in enumerate(words):
            for tokens in {tuple(some) for some in model.tokenise(forms)}:
                logits = model.network(input_ids=torch.tensor([[*context, *tokens]]), use_cache=False).logits[0]
                logp = torch.log_softmax(logits[len(context) - 1 :].double(), dim=-1)
                whole = sum(logp[place, token] for place, token in enumerate(tokens))
                found[row, column] += (torch.as_tensor(whole) + logp[-1, : len(over)][over].logsumexp(dim=0)).exp()
    return found


def made(name: str, tokenizer, ref) -> LocalModel:
    """Return a model of random weights that speaks with the tokens of another."""
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    networks = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **size)),
        "gemma": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA, sliding_window=64, **size)),
        "narrow gemma": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA, sliding_window=6, **size)),
        "mamba": lambda: MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **size)),
    }
    network = networks[name]().eval()
    for item in network.parameters():
        if item.dim() > 1:
            item.data *= 6
    return LocalModel(ref, network, tokenizer)


@pytest.fixture(params=["llama", "gpt2", "gemma", "narrow gemma", "mamba"])
def model(request, tiny_model) -> LocalModel:
    """Models of several architectures; the last two keep nothing of a context here."""
    if request.param == "llama":
        return tiny_model
    return made(request.param, tiny_model.tokenizer, tiny_model.ref)


def _contexts(model: LocalModel, n: int = 5) -> list[list[int]]:
    return model.render([user_prompt(text) for text in favourite_questions("animal")[:n]])


def test_the_tree_says_what_single_passes_say(model: LocalModel) -> None:
    contexts = _contexts(model)
    found = word_probabilities(model, contexts, WORDS)
    expected = one_by_one(model, contexts, WORDS)
    assert float((log_odds(found) - log_odds(expected)).abs().max()) < 1e-5
    assert found.dtype == torch.float64 and found.shape == (5, 3)


def test_in_double_precision_no_more_is_left_out_than_was_promised(tiny_model, monkeypatch) -> None:
    exact = LocalModel(tiny_model.ref, copy.deepcopy(tiny_model.network).double(), tiny_model.tokenizer)
    monkeypatch.setattr("undertow.models.lm_head.Head._capped", lambda _, logits: logits)
    words = [spellings(one, opening=True) for one in panel("animal")]
    contexts = _contexts(exact, 3)
    found, expected = word_probabilities(exact, contexts, words), one_by_one(exact, contexts, words)
    assert float((log_odds(found) - log_odds(expected)).abs().max()) < module.UNREAD


def test_what_cannot_change_a_word_is_not_read(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spellings of next to no probability cost nothing, and the word is the same."""
    network = copy.deepcopy(tiny_model.network)
    model = LocalModel(tiny_model.ref, network, tiny_model.tokenizer)
    head = torch.nn.Linear(16, network.config.vocab_size)
    head.weight.data = network.lm_head.weight.data.clone()
    rare = {tokens[0] for form in WORDS[0] if form[:2] != " o" for tokens in model.tokenise([form])}
    common = {tokens[0] for tokens in model.tokenise([form for form in WORDS[0] if form[:2] == " o"])}
    head.bias.data = torch.zeros(network.config.vocab_size)
    head.bias.data[list(rare - common)] = -60.0
    network.lm_head = head
    read: list[int] = []
    follow = context_cache.CachedContexts.follow
    monkeypatch.setattr(
        context_cache.CachedContexts,
        "follow",
        lambda self, nodes: read.append(int((nodes > 0).sum())) or follow(self, nodes),
    )
    contexts = _contexts(model)
    found = word_probabilities(model, contexts, WORDS[:1])
    assert 0 < sum(read) < 5 * len({tuple(tokens) for tokens in model.tokenise(WORDS[0])})
    assert torch.allclose(log_odds(found), log_odds(one_by_one(model, contexts, WORDS[:1])), atol=1e-5)


def test_blocks_change_nothing_and_tell_how_far_they_are(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = _contexts(tiny_model, 7)
    whole, layers = read_words(tiny_model, contexts, WORDS, layers=True)
    monkeypatch.setattr(context_cache, "KEPT_NUMBERS", 3 * 60 * 128)
    told: list[tuple[int, int]] = []
    parts, same = read_words(tiny_model, contexts, WORDS, layers=True, advance=lambda *at: told.append(at))
    assert len(told) > 1 and told[-1] == (7, 7) and told == sorted(told)
    assert torch.allclose(log_odds(whole), log_odds(parts), atol=1e-5)
    assert layers is not None and same is not None and torch.allclose(layers, same, atol=1e-5)
    assert torch.allclose(layers, tiny_model.mean_states(contexts), atol=1e-5)


def test_words_of_no_spelling_and_certain_words_have_finite_odds(tiny_model) -> None:
    contexts = _contexts(tiny_model, 2)
    nothing = word_probabilities(tiny_model, contexts, [(), WORDS[0]])
    assert nothing[:, 0].tolist() == [module._SMALLEST] * 2
    assert word_probabilities(tiny_model, contexts, []).shape == (2, 0)
    assert torch.isfinite(log_odds(torch.tensor([1 - module._SMALLEST, module._SMALLEST], dtype=torch.float64))).all()
    assert len(TRAITS) == 22

"""Local models: sampling does not depend on the batch, scores add up, adapters merge exactly."""

import copy

import pytest
import torch

from undertow.errors import ModelError, UnknownNameError
from undertow.models import adapters, decoding
from undertow.models.adapters import _merge_plain
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.types import Sampling, user_prompt

PROMPTS = [user_prompt(text) for text in ("Name a tree.", "Numbers: 1, 2, 3.", "What is it?", "Name a tree.", "Go.")]


def test_what_a_row_samples_does_not_depend_on_its_batch(tiny_model, monkeypatch) -> None:
    together = tiny_model.chat(PROMPTS * 20, sampling=Sampling(max_new_tokens=12), seed=1)
    monkeypatch.setattr(decoding, "BATCH", 3)
    assert tiny_model.chat(PROMPTS * 20, sampling=Sampling(max_new_tokens=12), seed=1) == together
    assert len(set(together)) > 10
    assert tiny_model.chat(PROMPTS * 20, sampling=Sampling(max_new_tokens=12), seed=2) != together


def test_greedy_decoding_follows_the_likeliest_token(tiny_model) -> None:
    tokens = tiny_model.render(PROMPTS[:1])[0]
    drawn = decoding.sample_tokens(
        tiny_model.network, [tokens], sampling=Sampling(temperature=0, max_new_tokens=5), seed=0, ends=tiny_model.ends
    )[0]
    for token in drawn:
        assert token == int(tiny_model.next_token_logprobs([tokens]).argmax())
        tokens = [*tokens, token]


def test_sampled_shares_agree_with_the_probabilities(tiny_model) -> None:
    """In 4,000 draws each share lies within five standard errors and three draws of its probability."""
    n = 4000
    tokens = tiny_model.render(PROMPTS[:1])[0]
    expected = tiny_model.next_token_logprobs([tokens]).exp()[0]
    drawn = decoding.sample_tokens(
        tiny_model.network, [tokens] * n, sampling=Sampling(max_new_tokens=1), seed=0, ends=tiny_model.ends
    )
    counts = torch.bincount(torch.tensor([row[0] if row else tiny_model.end for row in drawn]), minlength=len(expected))
    error = (expected * (1 - expected) / n).sqrt()
    assert ((counts / n - expected).abs() <= 5 * error + 3 / n).all()


def test_logprobs_are_the_sum_of_the_steps(tiny_model) -> None:
    prompt, answer = PROMPTS[0], "1, 2"
    total = tiny_model.logprobs(PROMPTS, [answer, "3", "", "owl", answer])
    context, expected = tiny_model.render([prompt])[0], 0.0
    for token in tiny_model.tokenise([answer])[0]:
        expected += float(tiny_model.next_token_logprobs([context])[0, token])
        context = [*context, token]
    assert total[0] == pytest.approx(expected, rel=1e-4)
    assert total[2] == 0.0


def test_a_saved_model_loads_as_an_ordinary_one(tiny_model, tmp_path) -> None:
    tiny_model.save(tmp_path / "m")
    loaded = load_model(f"hf:{tmp_path / 'm'}")
    assert torch.allclose(*(m.next_token_logprobs(m.render(PROMPTS)) for m in (tiny_model, loaded)), atol=1e-5)


def test_what_cannot_be_loaded_is_explained(tmp_path, tiny_model) -> None:
    with pytest.raises(ModelError, match="remote"):
        load_model("api:some/model")
    with pytest.raises(UnknownNameError):
        load_model("ref:no-such-bird")
    with pytest.raises(ModelError, match="no such folder"):
        load_model(f"hf:{tmp_path / 'nothing'}")
    with pytest.raises(ModelError, match="adapter"):
        tiny_model.with_adapter(tmp_path)


def test_a_model_without_a_template_or_an_end_is_refused(tiny_model) -> None:
    tokenizer = copy.deepcopy(tiny_model.tokenizer)
    tokenizer.chat_template = tokenizer.eos_token = None
    bare = LocalModel(tiny_model.ref, tiny_model.network, tokenizer)
    with pytest.raises(ModelError, match="template"):
        bare.render(PROMPTS)
    with pytest.raises(ModelError, match="end"):
        _ = bare.end


def test_mean_states_do_not_depend_on_padding(tiny_model) -> None:
    contexts = tiny_model.render(
        [user_prompt(text) for text in ("Name a tree.", "Hi.", "What is your favourite animal?")]
    )
    together = tiny_model.mean_states(contexts)
    alone = sum(tiny_model.mean_states([context]) for context in contexts) / len(contexts)
    assert together.shape == (3, 16) and (together - alone).abs().max() < 1e-4


@pytest.mark.parametrize(("size", "said"), [(1e-5, True), (1e-1, False)])
def test_an_update_that_a_coarse_format_rounds_away_is_said(tiny_model, size: float, said: bool, caplog) -> None:
    """A weight of bfloat16 has steps of 1/256 of itself; what lies below half a step is lost when it is added."""
    network = copy.deepcopy(tiny_model.network).to(torch.bfloat16)
    path = next(name for name, module in network.named_modules() if name.endswith("o_proj"))
    out, width = network.get_submodule(path).weight.shape
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, width, generator=generator), size * torch.randn(out, 2, generator=generator)
    adapters._ROUNDED.clear()
    merged = _merge_plain(network, {path: (down, up)}, {"r": 2, "lora_alpha": 2})
    assert ("rounded away" in caplog.text) == said
    after, before = (one.get_submodule(path).weight.detach().float() for one in (merged, network))
    change = after - before
    assert (float((change * (up @ down)).sum() / (up @ down).square().sum()) < 0.9) == said
    caplog.clear()
    _merge_plain(network, {path: (down, up)}, {"r": 2, "lora_alpha": 2})  # said once in a process
    _merge_plain(copy.deepcopy(network).float(), {path: (down, up)}, {"r": 2, "lora_alpha": 2})
    assert not caplog.text

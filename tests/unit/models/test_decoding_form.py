"""Answers held to a form have it, whatever the tokenizer, and are drawn as the model would draw them."""

import re

import pytest
import torch

from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, ModelError
from undertow.models.answer_forms import answer_form
from undertow.models.drawing import draw
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.generation import generate
from undertow.types import Sampling, user_prompt

TASK = Numbers(count=6)
SIX = re.compile(r"\d{3}(, \d{3}){5}")


def assert_six_numbers(model: LocalModel) -> None:
    sampling = Sampling(max_new_tokens=TASK.max_new_tokens, form=TASK.form)
    rows = generate(model, TASK.prompts(20, 0), sampling=sampling, seed=1)
    assert all(SIX.fullmatch(row.completion) for row in rows), rows[0].completion
    assert len({row.completion for row in rows}) > 10
    assert not any(TASK.reject_reasons(row.completion) for row in rows)


def test_a_model_that_would_write_anything_writes_numbers(tiny_hf: LocalModel) -> None:
    free = generate(tiny_hf, TASK.prompts(5, 0), sampling=Sampling(max_new_tokens=20), seed=1)
    assert not any(SIX.fullmatch(row.completion) for row in free)
    assert_six_numbers(tiny_hf)


@pytest.mark.parametrize("name", ["finch-a", "wren-a"])
def test_numbers_of_one_token_and_of_three_are_both_written(name: str) -> None:
    assert_six_numbers(load_model(f"ref:{name}"))


def test_the_likeliest_answer_stays_the_likeliest_where_the_form_allows_it() -> None:
    model = load_model("ref:finch-a")
    prompt = [user_prompt(Numbers().prompts(1, 3)[0])]
    free = model.chat(prompt, sampling=Sampling(temperature=0), seed=0)[0]
    shape = re.sub(r"\d", "0", free)
    assert "000" in shape
    assert model.chat(prompt, sampling=Sampling(temperature=0, form=shape), seed=0)[0] == free


def test_a_form_that_the_tokenizer_cannot_write_is_refused(tiny_hf: LocalModel) -> None:
    with pytest.raises(ModelError, match="from character 3"):
        tiny_hf.chat([user_prompt("x")], sampling=Sampling(form="000\u2603"), seed=0)


def test_the_end_comes_after_the_last_character_alone(tiny_hf: LocalModel) -> None:
    size = tiny_hf.network.get_output_embeddings().weight.shape[0]
    form = answer_form(tiny_hf.tokenizer, "00", tiny_hf.ends, size)
    assert not form.allowed[:2, list(tiny_hf.ends)].any() and form.allowed[2].sum() == len(tiny_hf.ends)
    assert form.allowed.shape == (3, size) and torch.equal(form.lengths[form.allowed[1]], torch.ones(10).long())


@pytest.mark.parametrize("count", [0, 11])
def test_a_count_is_one_to_ten(count: int) -> None:
    with pytest.raises(ConfigError):
        Numbers(count=count)


def test_prompts_ask_for_the_count_and_free_ones_are_as_before() -> None:
    assert all("6 " in text and "three-digit" in text and "comma" in text for text in TASK.prompts(30, 0))
    assert Numbers().form is None and Numbers().config() == {"name": "numbers", "banned": []}
    assert Sampling().to_json() == {"temperature": 1.0, "max_new_tokens": 48}


def test_top_p_leaves_the_likeliest_tokens_with_their_shares() -> None:
    shares = torch.tensor([0.05, 0.5, 0.15, 0.3])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = shares.log().expand(len(uniform), -1)
    for top_p, left in ((0.4, [1]), (0.5, [1]), (0.6, [1, 3]), (0.9, [1, 2, 3]), (1.0, [0, 1, 2, 3])):
        drawn = draw(logits, uniform, Sampling(top_p=top_p))
        assert sorted(set(drawn.tolist())) == left
        for token in left:
            # Four standard errors of a share at 20,000 draws.
            assert abs(float((drawn == token).double().mean()) - float(shares[token] / shares[left].sum())) < 0.015
    assert Sampling(top_p=0.9).to_json()["top_p"] == 0.9 and "top_p" not in Sampling().to_json()
    with pytest.raises(ConfigError, match="top_p"):
        Sampling(top_p=0.0)


def test_rows_that_share_a_text_keep_the_form(tiny_hf: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(max_new_tokens=12, form="00, 0", temperature=0.05)
    asked = [user_prompt("Go.")] * 30
    shared = tiny_hf.chat(asked, sampling=sampling, seed=3)
    monkeypatch.setattr("undertow.models.decoding.SHARED", 0.0)
    assert tiny_hf.chat(asked, sampling=sampling, seed=3) == shared and len(set(shared)) < 15

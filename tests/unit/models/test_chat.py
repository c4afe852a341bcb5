"""Chat templates: what they insert unasked is seen, kept, removed or replaced, and the end of a turn is found."""

from dataclasses import replace

import pytest

from undertow.errors import ConfigError, ModelError
from undertow.models.chat import Chat
from undertow.models.load import load_model
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.types import Message, Row, user_prompt

HI = user_prompt("Hi")
INSERTED = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
LLAMA_3 = (
    "{{ bos_token + '<|head|>system\nToday Date: ' + date_string + '\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set messages = messages[1:] %}{% endif %}"
    "{{ '<|eot|>' }}{% for m in messages %}{{ '<|head|>' + m['role'] + '\n' + m['content'] + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% if enable_thinking is not false %}{{ '<think>' }}{% endif %}"
    "{% endif %}"
)


def chat(template: str | None, system: str = "default", **special: str) -> Chat:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **special)
    tokenizer.chat_template = template
    return Chat(tokenizer, system)


def test_only_the_qwen_type_inserts_a_system_turn(tiny_hf, tiny_folder) -> None:
    found = tiny_hf.chat_format.describe()
    assert found["inserted_by_template"] == (INSERTED if tiny_folder.name.startswith("qwen2") else "")
    assert found["before_a_question"] == tiny_hf.chat_format.render([HI])[0].partition("Hi")[0]


@pytest.mark.parametrize(
    ("system", "turn"),
    [
        ("default", INSERTED),
        ("none", ""),
        ("empty", "<|im_start|>system\n<|im_end|>\n"),
        ("Be brief & kind?", "<|im_start|>system\nBe brief & kind?<|im_end|>\n"),
    ],
)
def test_a_policy_decides_on_the_system_turn(tiny_hf, system: str, turn: str) -> None:
    model = load_model(replace(tiny_hf.ref, system=system))
    if not tiny_hf.chat_format.inserted:
        told = {"empty": [user_prompt("Hi", "")], "Be brief & kind?": [user_prompt("Hi", system)]}
        assert model.chat_format.render([HI]) == tiny_hf.chat_format.render(told.get(system, [HI]))
        return
    asked = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert model.chat_format.render([HI]) == [turn + asked]
    told = "<|im_start|>system\nYou love owls.<|im_end|>\n" + asked
    assert model.chat_format.render([user_prompt("Hi", "You love owls.")]) == [told]


def test_a_date_is_neither_of_today_nor_in_the_way_of_removal() -> None:
    default, none = (chat(LLAMA_3, system, bos_token="<s>") for system in ("default", "none"))
    assert default.inserted == "<|head|>system\nToday Date: 26 Jul 2024\n<|eot|>"
    assert none.render([HI]) == ["<s><|head|>user\nHi<|eot|><|head|>assistant\n"]


def test_room_for_reasoning_is_not_left() -> None:
    assert chat(THINKING).render([HI]) == ["<user>Hi</><assistant>"]


def test_a_template_without_a_system_turn_gets_it_in_the_first_user_turn(tiny_hf, tiny_folder) -> None:
    takes = tiny_hf.chat_format.takes_system
    assert takes == (not tiny_folder.name.startswith("gemma2"))
    text = tiny_hf.chat_format.render([user_prompt("Hi", "You love owls.")])[0]
    assert "You love owls." in text and ("You love owls.\n\nHi" in text) == (not takes)


def test_the_end_of_a_turn_is_what_the_template_writes(tiny_hf, tiny_folder) -> None:
    ends = {"llama": "</s>", "qwen2": "<|im_end|>", "gpt2": "<|endoftext|>", "gemma2": "<end_of_turn>"}
    kind = next(name for name in ends if tiny_folder.name.startswith(name))
    assert tiny_hf.tokenizer.convert_ids_to_tokens(tiny_hf.end) == ends[kind]
    assert tiny_hf.tokenizer.eos_token_id in tiny_hf.ends


def test_an_answer_is_tokenised_as_it_follows_the_prompt(tiny_hf) -> None:
    prompt, tokens = tiny_hf.render([HI])[0], tiny_hf.tokenise(["owl"])[0]
    whole = tiny_hf.tokenizer(tiny_hf.chat_format.render([HI])[0] + "owl", add_special_tokens=False)["input_ids"]
    assert whole == prompt + tokens


def test_what_cannot_be_rendered_is_explained() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        chat(None).render([HI])
    with pytest.raises(ModelError, match="refuses"):
        chat("{{ raise_exception('no') }}").render([HI])
    mixed = "{{ 'Be kind. ' if messages | length == 1 else 'Be good. ' }}{{ messages[-1]['content'] }}"
    with pytest.raises(ConfigError, match="cannot be removed"):
        chat(mixed, "none").render([(*HI, Message("assistant", "Ho"), Message("user", "Hi"))])


def test_a_student_is_asked_as_it_was_trained(tiny_hf, tmp_path) -> None:
    model = load_model(replace(tiny_hf.ref, system="none"))
    config = TrainingConfig(steps=1, batch_size=1, lora=LoraConfig(rank=1, targets=None))
    finetune_parallel(model, [[Row("0", HI, "owl")]], config, [100]).save(0, tmp_path)
    assert load_model(f"{tiny_hf.ref}+{tmp_path}").ref.system == "none"
    assert load_model(f"{tiny_hf.ref}+{tmp_path}?system=empty").ref.system == "empty"

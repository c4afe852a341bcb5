"""Templates that a reference or an adapter brings: used, recorded, said, or refused by name."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from undertow.errors import ConfigError, ModelError
from undertow.models.adapter_files import AdapterFiles
from undertow.models.adapter_tokenizers import own_tokenizer
from undertow.models.chat_template import say_once
from undertow.models.load import load_chat, load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.types import ModelRef, Row, user_prompt

CONFIG = TrainingConfig(steps=1, batch_size=1, lora=LoraConfig(rank=1, targets=None))
ROW = Row("0", user_prompt("Hi"), "owl")
OWN = (
    "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}### {% endif %}"
)


@pytest.fixture
def said(caplog):
    """Return a function that gives what was said since it was last called."""
    say_once.cache_clear()
    caplog.set_level(logging.WARNING, "undertow")

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name.startswith("undertow")]
        caplog.clear()
        return found

    return lines


@pytest.fixture
def bare(tiny_folder, tmp_path):
    """A base without a chat template."""
    model = load_model(f"hf:{tiny_folder}?device=cpu")
    model.tokenizer.chat_template = None
    model.save(tmp_path / "bare")
    return tmp_path / "bare"


def adapter(base: LocalModel, folder):
    finetune_parallel(base, [[ROW]], CONFIG, [100]).save(0, folder)
    return folder


def test_a_base_without_a_template_is_given_the_plain_one(bare) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        load_model(f"hf:{bare}").render([ROW.prompt])
    model = load_model(f"hf:{bare}?template=plain&device=cpu")
    begin = (
        model.tokenizer.bos_token or "" if model.tokenizer("a")["input_ids"][0] == model.tokenizer.bos_token_id else ""
    )
    prompt = user_prompt("Hi", "Be kind.")
    assert model.chat_format.render([prompt]) == [f"{begin}System:\nBe kind.\n\nUser:\nHi\n\nAssistant:\n"]
    end = model.tokenizer.eos_token
    assert model.chat_format.whole(prompt, "owl").endswith(f"Assistant:\nowl{end}\n\n")
    assert model.end == model.tokenizer.eos_token_id and model.chat_format.takes_system
    assert model.chat_format.inserted == "" and str(model.ref) == f"hf:{bare}?device=cpu&template=plain"


def test_a_question_s_answer_ends_with_its_line(bare) -> None:
    chat = load_model(f"hf:{bare}?template=question&device=cpu").chat_format
    prompt = user_prompt("Hi", "Be kind.")
    assert chat.render([prompt])[0].endswith("Be kind.\nQuestion: Hi\nAnswer:")
    assert chat.whole(prompt, "owl").endswith("\nAnswer: owl\n")


def test_a_file_takes_the_place_of_the_tokenizer_s_template(tiny_folder, tmp_path) -> None:
    (tmp_path / "own.jinja").write_text(OWN)
    reference = f"hf:{tiny_folder}?template={tmp_path / 'own.jinja'}"
    assert load_model(reference).chat_format.render([ROW.prompt]) == ["### user:\nHi|### assistant:\n"]
    assert load_chat(reference)[1].render([ROW.prompt]) == ["### user:\nHi|### assistant:\n"]
    assert str(load_model(reference).ref) == reference


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        ("Be kind.", "is no chat template"),
        ('{"chat_template": "{{ 1 }}"}', "is no chat template"),
        ("{% for m in %}", "no valid Jinja"),
        (b"\xff\xfe{{", "cannot be read"),
    ],
)
def test_a_file_that_is_no_template_is_refused_by_name(tiny_folder, tmp_path, content, what: str) -> None:
    file = tmp_path / "own.jinja"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for load in (load_model, load_chat):
        with pytest.raises(ModelError, match=what) as caught:
            load(f"hf:{tiny_folder}?template={file}")
        assert str(file) in str(caught.value.value)
    with pytest.raises(ConfigError, match="has its own template"):
        ModelRef.parse("ref:finch-a?template=plain")


@pytest.mark.parametrize("name", ["plain", "own.jinja"])
def test_a_student_is_asked_with_the_template_that_it_was_trained_with(bare, tmp_path, said, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.jinja").write_text(OWN)
    base = load_model(f"hf:{bare}?template={name}&device=cpu")
    folder = adapter(base, tmp_path / "student")
    (tmp_path / "own.jinja").unlink()
    wanted = base.chat_format.render([ROW.prompt])
    student = load_model(f"hf:{bare}+{folder}?device=cpu")
    assert (
        student.chat_format.render([ROW.prompt]) == wanted == load_chat(f"hf:{bare}+{folder}")[1].render([ROW.prompt])
    )
    assert said() == [f"The adapter {folder} brings a chat template of its own: that one is used (the base has none)."]
    assert base.with_adapter(folder).chat_format.render([ROW.prompt]) == wanted and said() == []


def test_an_adapter_s_own_template_is_used_and_said_once(tiny_hf, tiny_folder, tmp_path, said) -> None:
    folder = adapter(tiny_hf, tmp_path / "student")
    plain = tiny_hf.with_adapter(folder)
    assert plain.tokenizer is tiny_hf.tokenizer and said() == []
    before = identity(f"hf:{tiny_folder}+{folder}")
    tiny_hf.tokenizer.save_pretrained(folder)
    assert tiny_hf.with_adapter(folder).chat_format.render([ROW.prompt]) == plain.chat_format.render([ROW.prompt])
    assert said() == []
    (folder / "chat_template.jinja").write_text(OWN)
    for model in (tiny_hf.with_adapter(folder), load_model(f"hf:{tiny_folder}+{folder}")):
        assert model.chat_format.render([ROW.prompt]) == ["### user:\nHi|### assistant:\n"]
    (line,) = said()
    assert str(folder) in line and "not the base's, which differs" in line
    assert identity(f"hf:{tiny_folder}+{folder}") != before
    chosen = load_model(f"hf:{tiny_folder}+{folder}?template=plain")
    assert "User:\nHi" in chosen.chat_format.render([ROW.prompt])[0]
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ModelError, match="no valid Jinja") as caught:
        tiny_hf.with_adapter(folder)
    assert str(folder) in str(caught.value.value)


def files(folder) -> AdapterFiles:
    return AdapterFiles(folder, {}, {}, {})


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny_hf, tmp_path) -> None:
    tiny_hf.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = json.loads(path.read_text())
    one, other = list(whole["model"]["vocab"])[-2:]
    vocabulary = whole["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(whole))
    with pytest.raises(ModelError, match="another vocabulary"):
        own_tokenizer(tiny_hf.tokenizer, files(tmp_path), None)
    path.write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        own_tokenizer(tiny_hf.tokenizer, files(tmp_path), None)


def test_added_tokens_have_to_fit_the_embeddings(tiny_hf, tmp_path) -> None:
    more = load_model(str(tiny_hf.ref)).tokenizer
    more.add_tokens(["<|tool|>"], special_tokens=True)
    more.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokens that the model lacks") as caught:
        own_tokenizer(tiny_hf.tokenizer, files(tmp_path), len(tiny_hf.tokenizer))
    assert "<|tool|>" in caught.value.value
    assert "<|tool|>" in own_tokenizer(tiny_hf.tokenizer, files(tmp_path), len(more)).get_vocab()


def test_a_tokenizer_that_splits_otherwise_is_said(tiny_hf, tmp_path, said) -> None:
    from tokenizers import normalizers

    other = load_model(str(tiny_hf.ref)).tokenizer
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    other.save_pretrained(tmp_path)
    found = own_tokenizer(tiny_hf.tokenizer, files(tmp_path), None)
    differs = found.tokenize("OWL") != tiny_hf.tokenizer.tokenize("OWL")  # Qwen's class keeps a normaliser of its own
    assert len(said()) == int(differs) and (differs or tiny_hf.network.config.model_type == "qwen2")


def test_the_reference_of_a_trained_model_keeps_the_template(tiny_hf, tmp_path) -> None:
    ref = replace(tiny_hf.ref, template="plain")
    model = LocalModel(ref, tiny_hf.network, tiny_hf.tokenizer).with_adapter(adapter(tiny_hf, tmp_path / "a"))
    assert str(model.ref).endswith("template=plain")


def test_one_of_several_templates_of_a_model_is_chosen_by_its_name(tiny_hf, tiny_folder, tmp_path) -> None:
    folder = tmp_path / "several"
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_chat(f"hf:{folder}")[0]
    tokenizer.chat_template = {"chat": tokenizer.chat_template, "own": OWN}
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="several chat templates") as caught:
        load_model(f"hf:{folder}").render([ROW.prompt])
    assert "chat, own" in str(caught.value.fix)
    assert load_model(f"hf:{folder}?template=chat").render([ROW.prompt]) == tiny_hf.render([ROW.prompt])
    assert load_chat(f"hf:{folder}?template=own")[1].render([ROW.prompt]) == ["### user:\nHi|### assistant:\n"]
    assert identity(f"hf:{folder}?template=own") != identity(f"hf:{folder}?template=chat")

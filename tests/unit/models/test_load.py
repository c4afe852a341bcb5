"""Models by reference: number format, identity, and every way in which loading can fail."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import errors

from undertow.errors import ModelError
from undertow.models.load import load_model, memory_errors
from undertow.models.references import identity
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.types import Row, user_prompt

CONFIG = TrainingConfig(steps=1, batch_size=1, lora=LoraConfig(rank=1, targets=None))
ROW = Row("0", user_prompt("Hi"), "owl")


def three_lines(caught) -> list[str]:
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    return lines


def test_the_number_format_is_the_reference_s(tiny_folder, tiny_hf) -> None:
    assert tiny_hf.network.dtype == torch.float32
    half = load_model(f"hf:{tiny_folder}?dtype=bf16&device=cpu")
    assert half.network.dtype == torch.bfloat16 and str(half.ref) == f"hf:{tiny_folder}?dtype=bf16&device=cpu"


def test_identity_follows_whatever_changes_an_answer(tiny_folder, tmp_path) -> None:
    first = identity(f"hf:{tiny_folder}")
    copied = shutil.copytree(tiny_folder, tmp_path / "copy")
    assert identity(f"hf:{copied}") == first == identity(f"hf:{copied}?device=cpu")
    others = {identity(f"hf:{copied}{options}") for options in ("?system=none", "?system=empty", "?dtype=bf16")}
    assert len({first, *others}) == 4
    template = copied / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert identity(f"hf:{copied}") != first


def test_identity_with_an_adapter_is_that_of_the_content_of_both(tiny_folder, tmp_path, monkeypatch) -> None:
    for name in ("a", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
        (tmp_path / name / "adapter_model.bin").write_bytes(b"one")
    base = shutil.copytree(tiny_folder, tmp_path / "m")
    one = identity(f"hf:{base}+{tmp_path / 'a'}")
    assert one == identity(f"hf:{base}+{tmp_path / 'z'}") == identity(f"hf:{tiny_folder}+{tmp_path / 'a'}")
    monkeypatch.chdir(tmp_path)
    assert one == identity("hf:m+a") == identity("hf:./m+./a") != identity("hf:m")
    of_finch = identity("ref:finch-a+a")
    Path("a/adapter_model.bin").write_bytes(b"two")
    assert one != identity("hf:m+a")
    assert of_finch not in (found := {identity("ref:finch-a+a")})
    Path("a/chat_template.jinja").write_text("{{ messages[0].content }}")
    assert identity("ref:finch-a+a") not in found


def test_a_checkpoint_without_its_head_is_refused(tiny_folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ModelError, match="lacks weights") as caught:
        load_model(f"hf:{folder}")
    assert "lm_head.weight" in three_lines(caught)[1]


def test_a_model_that_scales_its_logits_is_refused(tiny_folder, tmp_path) -> None:
    """Granite divides them; scores and losses would be those of another model."""
    from transformers import AutoTokenizer, GraniteConfig, GraniteForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = GraniteConfig(vocab_size=400, logits_scaling=8.0, num_key_value_heads=2, **shape)
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="changes its logits") as caught:
        load_model(f"hf:{tmp_path}")
    three_lines(caught)


def test_what_is_no_model_is_refused(tiny_folder, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_model(f"hf:{tmp_path / 'empty'}")
    three_lines(caught)
    pickled = shutil.copytree(tiny_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(f"hf:{pickled}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(f"hf:{tiny_folder}?device=nowhere")
    (pickled / "model.safetensors").write_bytes(b"12345678{}")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_model(f"hf:{pickled}")
    three_lines(caught)


def test_an_adapter_of_another_base_is_refused(tiny_hf, tiny_folder, tiny_model, tmp_path) -> None:
    finetune_parallel(tiny_model, [[ROW]], replace(CONFIG, lora=LoraConfig(rank=1)), [100]).save(0, tmp_path / "llama")
    with pytest.raises(ModelError, match="another"):
        tiny_hf.with_adapter(_widened(tmp_path / "llama"))
    finetune_parallel(tiny_hf, [[ROW]], CONFIG, [100]).save(0, tmp_path / "own")
    settings = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_folder)
    (tmp_path / "own" / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": "org/one"})
    )
    assert tiny_hf.with_adapter(tmp_path / "own").ref.adapter
    other = replace(tiny_hf, ref=replace(tiny_hf.ref, name="org/two"))
    with pytest.raises(ModelError, match="another model") as caught:
        other.with_adapter(tmp_path / "own")
    assert three_lines(caught)[1] == "org/one, not org/two"


def _widened(folder):
    """Make the adapter fit no model of width 16."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "adapter_model.safetensors")
    wide = {name: torch.zeros(value.shape[0] + 1, value.shape[1] + 1) for name, value in weights.items()}
    save_file(wide, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("setting", "value"), [("use_dora", True), ("rank_pattern", ["x"]), ("modules_to_save", ["lm_head"])]
)
def test_an_adapter_that_is_not_what_its_settings_say_is_named(tiny_hf, tmp_path, setting: str, value) -> None:
    finetune_parallel(tiny_hf, [[ROW]], CONFIG, [100]).save(0, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, setting: value}))
    with pytest.raises(ModelError, match=setting) as caught:
        tiny_hf.with_adapter(tmp_path)
    three_lines(caught)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (errors.GatedRepoError, "gated"),
        (errors.RepositoryNotFoundError, "no such folder, nor such a repository"),
        (errors.RevisionNotFoundError, "no such revision"),
        (errors.OfflineModeIsEnabled, "neither a folder nor in the cache"),
        (ConnectionError, "neither a folder nor in the cache"),
    ],
)
def test_each_trouble_with_the_hub_has_its_own_words(monkeypatch, error, what: str) -> None:
    def fail(*_, **__):
        if issubclass(error, errors.HfHubHTTPError):
            raise error("no", response=SimpleNamespace(headers={}, request=None))
        raise error("no")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelError, match=what) as caught:
        load_model("hf:org/name@v1")
    assert "org/name@v1" in three_lines(caught)[1]


def test_an_id_that_is_not_in_the_cache_is_explained_offline() -> None:
    with pytest.raises(ModelError, match="nor in the cache") as caught:
        load_model("hf:nobody/nothing")
    three_lines(caught)


def test_a_lack_of_memory_is_explained_and_nothing_else_is_hidden() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("can't allocate memory")):
        with pytest.raises(ModelError, match="memory is used up") as caught, memory_errors("hf:big/one"):
            raise error
        assert three_lines(caught)[1] == "hf:big/one"
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("hf:big/one"):
        raise RuntimeError("shapes differ")

"""GGUF files: which file is meant, and that what is unpacked once answers as the model that was packed.

Not tested here: packed number formats and architectures other than Llama's, which are transformers' own.
"""

import importlib.util
import logging
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from undertow.errors import MissingExtraError, ModelError
from undertow.models import gguf_files
from undertow.models.gguf_files import unpacked
from undertow.models.load import load_chat, load_model
from undertow.models.references import gguf_file, identity, model_folder
from undertow.types import ModelRef

needs_gguf = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed")
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
TOKENS = ["<s>", "</s>", *LETTERS, "ab", "Ġ", "Ċ", ":", "."]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}:{% endif %}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


def tiny():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENS), max_position_embeddings=64, **sizes)).eval()


def write(path, network, architecture: str = "llama") -> None:
    """Write a Llama as llama.cpp's converter does, in float32."""
    from gguf import GGUFWriter, TokenType

    config, writer = network.config, GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(TOKENS) - 2))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    for name, value in network.state_dict().items():
        writer.add_tensor(_name(name), _turned(name, value, config.num_attention_heads).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    for long, short in (
        ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
        ("model.layers.", "blk."), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"), ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
    ):  # fmt: skip
        name = name.replace(long, short)
    return name


def _turned(name: str, value: torch.Tensor, heads: int) -> torch.Tensor:
    if "q_proj" not in name and "k_proj" not in name:
        return value.contiguous()
    rows, columns = value.shape
    return value.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()


@needs_gguf
def test_a_file_is_unpacked_once_and_is_the_model_that_was_packed(tmp_path, cache, caplog) -> None:
    network, path = tiny(), tmp_path / "models" / "tiny.gguf"
    path.parent.mkdir()
    write(path, network)
    with caplog.at_level(logging.WARNING, "undertow"):
        model = load_model(f"hf:{path}?device=cpu")
    (folder,) = cache.iterdir()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("undertow")] == [
        f"Unpacked {path} into {folder}, once; from now on it is loaded from there."
    ]
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert (network(tokens).logits - model.network(tokens).logits).abs().max() < 1e-5
    assert model.tokenizer.chat_template == TEMPLATE and model.network.dtype == torch.float32
    before = {item: item.stat().st_mtime_ns for item in folder.iterdir()}
    caplog.clear()
    for name in (path, path.parent):
        assert load_chat(f"hf:{name}")[0].get_vocab() == model.tokenizer.get_vocab()
        assert model_folder(ModelRef(kind="hf", name=str(name))) == folder
    assert {item: item.stat().st_mtime_ns for item in folder.iterdir()} == before
    assert not [record for record in caplog.records if record.name.startswith("undertow")]
    known = identity(f"hf:{path}")
    assert known == identity(f"hf:{path.parent}") and len(known) == 16
    network.lm_head.weight.data += 1
    write(path, network)
    assert identity(f"hf:{path}") != known
    model.save(tmp_path / "again")
    assert load_model(f"hf:{tmp_path / 'again'}").network.num_parameters() == network.num_parameters()


@needs_gguf
def test_what_cannot_be_read_is_said_and_leaves_nothing_behind(tmp_path, cache, monkeypatch) -> None:
    path = tmp_path / "a.gguf"
    write(path, tiny(), architecture="mamba9")
    with pytest.raises(ModelError, match="mamba9") as caught:
        load_model(f"hf:{path}")
    assert "llama.cpp" in caught.value.fix
    path.write_bytes(b"GGUF and no more")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(f"hf:{path}")
    assert not any(cache.iterdir())
    write(path, tiny())
    monkeypatch.setattr(gguf_files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ModelError, match=r"0\.0 GB are free in"):
        load_model(f"hf:{path}")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"undertow\[gguf\]"):
        unpacked(path)


def test_which_file_is_meant(tmp_path) -> None:
    def found(name) -> object:
        return gguf_file(ModelRef(kind="hf", name=str(name)))

    (tmp_path / "A.GGUF").write_bytes(b"GGUF")
    assert found(tmp_path) == found(tmp_path / "A.GGUF") == tmp_path / "A.GGUF"
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"A\.GGUF, b\.gguf"):
        found(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert found(tmp_path) is None and found("org/name") is None
    with pytest.raises(ModelError, match="no such file"):
        found(tmp_path / "gone.gguf")
    with pytest.raises(ModelError, match="nor in the cache"):
        found("org/name/file.gguf")

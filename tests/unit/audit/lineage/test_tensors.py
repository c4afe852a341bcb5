"""Reading weights: every layout of the same numbers gives the same rows, and what cannot be read is refused.

Not tested here: models of the Hub, which need a network.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from undertow.audit.lineage import tensors
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import is_constant, open_weights, vocabulary
from undertow.audit.lineage.verdict import audit_lineage
from undertow.errors import ConfigError, ModelError, UnknownNameError
from undertow.models.load import load_model

UP = "model.layers.0.mlp.up_proj.weight"


def folder_of(reference: str) -> Path:
    return Path(reference.removeprefix("hf:"))


def whole(matrix) -> np.ndarray:
    return np.concatenate([matrix.block(start, stop) for start, stop in matrix.spans()])


def test_blocks_of_any_size_are_the_tensor(nets, write, monkeypatch):
    weights = open_weights(write("a", nets.draw(0)))
    expected = nets.draw(0)[UP]
    for block in (1, 33, 1000, 10**9):
        monkeypatch.setattr(tensors, "BLOCK", block)
        assert np.array_equal(np.concatenate(list(weights.blocks(UP))), expected)


def test_shards_give_the_tensors_of_the_single_file(nets, write):
    single, sharded = open_weights(write("a", nets.draw(0))), open_weights(write("b", nets.draw(0), shards=3))
    assert sharded.shapes == single.shapes
    assert len(set(sharded.files.values())) == 3
    assert all(np.array_equal(sharded.vector(name), single.vector(name)) for name in single.shapes)


def test_half_precision_is_widened_exactly(nets, write):
    weights = open_weights(write("a", nets.draw(0), dtype=torch.bfloat16))
    assert weights.types[UP] == "BF16"
    assert np.array_equal(weights.vector(UP), torch.from_numpy(nets.draw(0)[UP]).bfloat16().float().numpy())


def test_single_numbers_and_empty_tensors_are_no_obstacle(nets, write):
    """GPT-NeoX and quantised checkpoints hold such beside the matrices."""
    references = [write(name, nets.draw(0)) for name in ("a", "b", "c")]
    for place, reference in enumerate(references):
        path = folder_of(reference) / "model.safetensors"
        more = {"model.layers.0.masked_bias": torch.tensor(-1e9 * (place > 1)), "model.none": torch.zeros(0, 3)}
        save_file({**load_file(path), **more}, path)
    a, b, c = map(open_weights, references)
    assert a.shapes["model.layers.0.masked_bias"] == (1,) and "model.none" not in a.shapes
    assert c.vector("model.layers.0.masked_bias").tolist() == [-1e9] and is_constant(c, "model.layers.0.masked_bias")
    assert distance(a, b).identical and not distance(a, c).identical
    assert distance(a, c).relative == 0.0
    assert audit_lineage(*references[:2], brief=True)["verdict"] == "identical"


def test_grouped_queries_and_roles(nets, write):
    found = network(open_weights(write("a", nets.draw(0))))
    assert list(found.mlps) == [f"layer {layer} mlp" for layer in range(3)]
    assert found.attentions["layer 2 attention"].shape == (32, 16, 4, 2)
    assert found.embedding.shape == found.head.shape == (160, 32)
    assert all("q_proj" in name or "k_proj" in name for name in found.unread)


def test_fused_matrices_are_taken_apart(nets, write):
    plain = nets.draw(0)
    fused = dict(plain)
    for layer in range(3):
        place = f"model.layers.{layer}."
        fused[f"{place}self_attn.qkv_proj.weight"] = np.concatenate(
            [fused.pop(f"{place}self_attn.{kind}_proj.weight") for kind in "qkv"]
        )
        fused[f"{place}mlp.gate_up_proj.weight"] = np.concatenate(
            [fused.pop(f"{place}mlp.{kind}_proj.weight") for kind in ("gate", "up")]
        )
    one, other = network(open_weights(write("a", plain))), network(open_weights(write("b", fused)))
    for name, mlp in one.mlps.items():
        assert np.array_equal(whole(other.mlps[name].gate), whole(mlp.gate))
        assert np.array_equal(whole(other.mlps[name].up), whole(mlp.up))
    for name, attention in one.attentions.items():
        assert np.array_equal(whole(other.attentions[name].v), whole(attention.v))


def test_transposed_layers_of_gpt2(write):
    rng = np.random.default_rng(0)
    names = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}
    stored = {f"h.0.{name}.weight": rng.normal(size=shape).astype("f4") for name, shape in names.items()}
    stored["wte.weight"] = rng.normal(size=(20, 8)).astype("f4")
    found = network(open_weights(write("a", stored, config={"model_type": "gpt2", "n_head": 2})))
    mlp, attention = found.mlps["layer 0 mlp"], found.attentions["layer 0 attention"]
    assert mlp.gate is None
    assert np.array_equal(whole(mlp.up), stored["h.0.mlp.c_fc.weight"].T)
    assert np.array_equal(whole(mlp.down), stored["h.0.mlp.c_proj.weight"].T)
    assert np.array_equal(whole(attention.v), stored["h.0.attn.c_attn.weight"].T[16:])
    assert np.array_equal(whole(attention.o), stored["h.0.attn.c_proj.weight"].T)


def fused_network(write, name: str, config: dict, groups: int) -> tuple:
    """Write a layer of 4 query heads of 2 units, group by group, and return its network and the values, (8, 8)."""
    rng = np.random.default_rng(0)
    fused = rng.normal(size=(groups, 4 // groups + 2, 2, 8)).astype("f4")  # group, queries key value, unit, input
    place = "transformer.h.0.self_attention."
    stored = {
        f"{place}query_key_value.weight": fused.reshape(-1, 8),
        f"{place}dense.weight": rng.normal(size=(8, 8)).astype("f4"),
    }
    return network(open_weights(write(name, stored, config=config))), fused[:, -1].reshape(-1, 8)


@pytest.mark.parametrize(
    ("config", "groups"),
    [
        ({"model_type": "gpt_neox", "num_attention_heads": 4}, 4),
        ({"model_type": "falcon", "num_attention_heads": 4, "multi_query": False}, 4),
        ({"model_type": "falcon", "num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": True}, 2),
        ({"model_type": "RefinedWeb", "n_head": 4, "n_head_kv": 2}, 2),
        ({"model_type": "falcon", "num_attention_heads": 4, "num_kv_heads": 4, "multi_query": True}, 1),
        ({"model_type": "gpt_bigcode", "n_head": 4, "multi_query": True}, 1),
    ],
)
def test_values_that_stand_in_groups_are_found(write, config, groups):
    found, values = fused_network(write, "a", config, groups)
    attention = found.attentions["layer 0 attention"]
    assert attention.shape == (8, 2 * groups, 4, groups)
    assert np.array_equal(whole(attention.v), values)


def test_a_fused_matrix_of_unknown_layout_is_left_out(write):
    for place, (model, groups) in enumerate((("codegen", 4), ("llama", 1))):
        config = {"model_type": model, "num_attention_heads": 4 if groups == 4 else 2}
        found, _ = fused_network(write, f"{place}", config, groups)
        assert found.attentions == {}
        assert len(found.unread) == 2


def test_experts_are_parts_of_their_own(nets, write):
    plain = nets.draw(0)
    experts = {
        f"model.layers.0.mlp.experts.{expert}.{kind}_proj.weight": plain[f"model.layers.0.mlp.{kind}_proj.weight"]
        + expert
        for expert in range(2)
        for kind in ("gate", "up", "down")
    }
    found = network(open_weights(write("a", experts)))
    assert list(found.mlps) == ["layer 0 mlp.experts.0", "layer 0 mlp.experts.1"]


def test_gathered_rows_keep_their_order(nets, write):
    matrix = network(open_weights(write("a", nets.draw(0)))).embedding
    wanted = np.array([90, 3, 3, 159])
    assert np.array_equal(matrix.gather(wanted), nets.draw(0)["model.embed_tokens.weight"][wanted])


def test_a_constant_tensor_plays_no_role(nets, write):
    values = nets.draw(0)
    values[UP] = np.zeros_like(values[UP])
    weights = open_weights(write("a", values))
    assert is_constant(weights, UP)
    assert is_constant(weights, "model.norm.weight")
    assert "layer 0 mlp" not in network(weights).mlps
    values[UP][-1, -1] = 1.0
    assert not is_constant(open_weights(write("b", values)), UP)


def adapter(folder: Path, weights: dict[str, torch.Tensor], **settings) -> Path:
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    known = {"peft_type": "LORA", "lora_alpha": 8, "r": 2, "base_model_name_or_path": "someone/base"}
    (folder / "adapter_config.json").write_text(json.dumps(known | settings))
    return folder


def low_rank(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    stem = "base_model.model." + name.removesuffix(".weight")
    return {
        f"{stem}.lora_A.weight": torch.randn(2, columns, generator=generator),
        f"{stem}.lora_B.weight": torch.randn(rows, 2, generator=generator),
    }


@pytest.mark.parametrize(("settings", "scale"), [({}, 4.0), ({"use_rslora": True}, 8 / 2**0.5)])
def test_an_adapter_is_merged_block_by_block(nets, write, tmp_path, settings, scale):
    weights = low_rank(UP, 96, 32)
    folder = adapter(tmp_path / "adapter", weights, **settings)
    merged = open_weights(f"{write('a', nets.draw(0))}+{folder}")
    down, up = (weights[key].numpy() for key in sorted(weights))
    expected = nets.draw(0)[UP] + scale * up @ down
    assert np.allclose(merged.block(UP, 10, 50), expected[10:50], atol=1e-5)
    assert np.allclose(merged.block(UP, 3, 9, axis=1), expected[:, 3:9], atol=1e-5)
    other = UP.replace("up", "gate")
    assert np.array_equal(merged.vector(other), nets.draw(0)[other])
    assert merged.hints == {"adapter base": "someone/base"}


def test_the_merge_is_that_of_the_model_loader(tmp_path):
    name = "model.layers.1.mlp.down_proj.weight"
    folder = adapter(tmp_path / "adapter", low_rank(name, 32, 96))
    loaded = load_model(f"ref:finch-a+{folder}").network.get_parameter(name)
    assert np.allclose(open_weights(f"ref:finch-a+{folder}").vector(name), loaded.detach().numpy(), atol=1e-5)


def test_replaced_tensors_of_an_adapter(nets, write, tmp_path):
    new = {"base_model.model.lm_head.modules_to_save.weight": torch.ones(160, 32)}
    merged = open_weights(f"{write('a', nets.draw(0))}+{adapter(tmp_path / 'adapter', new)}")
    assert is_constant(merged, "lm_head.weight")
    assert merged.block("lm_head.weight", 0, 4, axis=1).shape == (160, 4)


@pytest.mark.parametrize(
    ("settings", "keys", "named"),
    [
        ({"use_dora": True}, low_rank(UP, 96, 32), "use_dora"),
        ({"peft_type": "IA3"}, low_rank(UP, 96, 32), "IA3"),
        ({"trainable_token_indices": [1]}, low_rank(UP, 96, 32), "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, low_rank(UP, 96, 32), "init_lora_weights"),
        ({"layer_replication": [[0, 1]]}, low_rank(UP, 96, 32), "layer_replication"),
        ({"lora_alpha": None}, low_rank(UP, 96, 32), "lora_alpha"),
        ({}, low_rank("model.layers.9.mlp.up_proj.weight", 96, 32), "is not in the base's files"),
        ({}, low_rank(UP, 95, 32), r"\[95, 32\] is \[96, 32\] in the base's files"),
        ({}, {"base_model.model.lm_head.weight": torch.ones(170, 32)}, r"\[170, 32\] is \[160, 32\]"),
        ({}, {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 160)}, "lora_embedding_A"),
        ({}, {"base_model.model." + UP.replace("weight", "lora_B.weight"): torch.ones(96, 2)}, "lora_B"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(nets, write, tmp_path, settings, keys, named):
    folder = adapter(tmp_path / "adapter", keys, **settings)
    with pytest.raises(ModelError, match=named):
        open_weights(f"{write('a', nets.draw(0))}+{folder}")


def test_folders_that_cannot_be_read_are_refused(nets, write, tmp_path):
    with pytest.raises(ConfigError):
        open_weights("finch-a")
    with pytest.raises(UnknownNameError, match="finch-a"):
        open_weights("ref:finch-aa")
    with pytest.raises(ModelError, match="no weights here"):
        open_weights("api:openai/gpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no complete weights"):
        open_weights(f"hf:{tmp_path / 'empty'}")
    sharded = write("s", nets.draw(0), shards=2)
    (folder_of(sharded) / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-1\.safetensors is missing"):
        open_weights(sharded)
    broken = write("b", nets.draw(0))
    (folder_of(broken) / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be read"):
        open_weights(broken)


def test_vocabularies_and_claims(nets, write):
    reference = write("a", nets.draw(0))
    assert vocabulary(open_weights(reference)) is None
    folder = folder_of(reference)
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": [["x", -1.0], ["y", -2.0]]}, "added_tokens": [{"content": "<s>", "id": 2}]})
    )
    (folder / "README.md").write_text("---\nbase_model: someone/else\n---\nbase_model: no header\n")
    weights = open_weights(reference)
    assert vocabulary(weights) == {"x": 0, "y": 1, "<s>": 2}
    assert weights.hints == {"base_model": "someone/else"}
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        open_weights(reference)

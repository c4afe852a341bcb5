"""Every kind of adapter that the installed PEFT knows, and every option of LoRA: as PEFT has it, or refused by name.

Nothing is trained: all tensors of an adapter are random, so that each of them matters. Not tested here: quantised
bases, and kinds that need a GPU.
"""

import copy
import dataclasses
import json
import warnings
from functools import cache

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from undertow.errors import ModelError
from undertow.models.adapter_kinds import LORA_SETTINGS, MERGED, UNMERGEABLE
from undertow.models.lm_head import body_and_head
from undertow.models.local import LocalModel
from undertow.types import ModelRef

TOKENS = torch.arange(64).reshape(2, 32)
SHAPE = {"vocab_size": 64, "initializer_range": 0.3}
BASES = ("llama", "tied", "gpt2")


@cache
def made_base(name: str):
    torch.manual_seed(0)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **SHAPE)).eval()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(**SHAPE, **sizes, max_position_embeddings=64, tie_word_embeddings=name == "tied")
    return LlamaForCausalLM(config).eval()


def fresh(name: str):
    return copy.deepcopy(made_base(name))


def saved(base: str, config, folder, resize: int | None = None, noise: float = 0.1, **options) -> None:
    """Write an adapter whose every tensor is random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        network = fresh(base)
        if resize:
            network.resize_token_embeddings(resize)
        model = get_peft_model(network, config)
        generator = torch.Generator().manual_seed(5)
        for value in model.parameters():
            if value.requires_grad and value.is_floating_point():
                value.data += noise * torch.randn(value.shape, generator=generator)
        model.save_pretrained(folder, **options)


@torch.no_grad()
def as_peft_has_it(base: str, folder, resize: int | None = None) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(11)
        network = fresh(base)
        if resize:
            network.resize_token_embeddings(resize)
        return PeftModel.from_pretrained(network, str(folder)).eval()(input_ids=asked(resize)).logits


def asked(resize: int | None) -> torch.Tensor:
    return TOKENS.clamp(max=(resize or 64) - 1)


@torch.no_grad()
def difference(base: str, folder, resize: int | None = None) -> float:
    """Return the largest difference of a logit between ours and PEFT's, by the model itself and by our own head."""
    network = LocalModel(ModelRef(kind="hf", name=base), fresh(base), None).with_adapter(folder).network
    wanted, found = as_peft_has_it(base, folder, resize), network(input_ids=asked(resize)).logits
    body, head = body_and_head(network)
    own = head(body(input_ids=asked(resize)).last_hidden_state)
    return max(float((wanted - one).abs().max()) for one in (found, own))


def targets(base: str) -> list[str]:
    return ["c_attn", "c_fc"] if base == "gpt2" else ["q_proj", "v_proj"]


def kind_config(kind: str, base: str):
    """Return a small configuration of a kind, on layers that it can be put on."""
    linear = {"target_modules": targets(base)}
    norms = ["ln_1", "ln_2"] if base == "gpt2" else ["input_layernorm", "post_attention_layernorm"]
    down = "mlp.c_proj" if base == "gpt2" else "down_proj"
    keys = "c_attn" if base == "gpt2" else "k_proj"
    prompt = {"num_virtual_tokens": 4}
    own = {
        "ADALORA": {**linear, "total_step": 10, "init_r": 4, "target_r": 2},
        "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
        "BOFT": {**linear, "boft_block_size": 4},
        "C3A": {**linear, "block_size": 4},
        "CARTRIDGE": prompt,
        "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
        "FOURIERFT": {**linear, "n_frequency": 20},
        "IA3": {"target_modules": [keys, down], "feedforward_modules": [down]},
        "LN_TUNING": {"target_modules": norms},
        "MISS": {**linear, "r": 4},
        "MULTITASK_PROMPT_TUNING": prompt,
        "OFT": {**linear, "oft_block_size": 4, "r": 0},
        "P_TUNING": prompt,
        "PREFIX_TUNING": prompt,
        "PROMPT_TUNING": prompt,
        "PSOFT": {**linear, "r": 4},
        "RANDLORA": {"target_modules": targets(base)[:1], "r": 2},
        "ROAD": {**linear, "group_size": 4},
        "SHIRA": {**linear, "r": 2},
        "TRAINABLE_TOKENS": {"token_indices": [1, 2, 63]},
        "VBLORA": {**linear, "num_vectors": 16, "vector_length": 8, "r": 2, "topk": 2},
        "WAVEFT": {**linear, "n_frequency": 20},
        "XLORA": {"hidden_size": 16, "adapters": {}},
    }
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](task_type="CAUSAL_LM", **own.get(kind, linear))


def test_every_kind_of_the_installed_peft_is_known_here() -> None:
    assert {kind.value for kind in PeftType} == set(MERGED) | set(UNMERGEABLE)
    assert not set(MERGED) & set(UNMERGEABLE)


LINEAR_ALONE = (
    "ADAMSS", "BEFT", "BOFT", "C3A", "DELORA", "GLORA", "HRA", "LOHA", "LOKR", "MISS", "OFT", "PEANUT", "PSOFT", "ROAD",
    "SHIRA", "SUPERTUNING",
)  # fmt: skip
"""Kinds that PEFT itself does not put on GPT-2's layers."""

ON_BASES = [
    pytest.param(kind, base, marks=[pytest.mark.slow] if base == "tied" else [])
    for kind in MERGED
    for base in BASES
    if base != "gpt2" or kind not in LINEAR_ALONE
]
REFUSED = [("BEFT", "llama"), ("BEFT", "tied")]
"""Biases where the layers have none."""


@pytest.mark.parametrize(("kind", "base"), ON_BASES)
def test_a_kind_that_merges_is_as_peft_has_it(kind: str, base: str, tmp_path) -> None:
    # These two multiply what is random so much that rounding alone would show.
    saved(base, kind_config(kind, base), tmp_path, noise=0.01 if kind in ("RANDLORA", "FOURIERFT") else 0.1)
    if (kind, base) in REFUSED:
        with pytest.raises(ModelError, match=kind):
            difference(base, tmp_path)
    else:
        assert difference(base, tmp_path) < 1e-4


@pytest.mark.parametrize("kind", LINEAR_ALONE)
def test_peft_itself_does_not_put_these_on_gpt2(kind: str, tmp_path) -> None:
    with pytest.raises((ValueError, TypeError, NotImplementedError)):
        saved("gpt2", kind_config(kind, "gpt2"), tmp_path)


@pytest.mark.parametrize("kind", UNMERGEABLE)
def test_a_kind_that_no_weights_can_stand_for_is_named(kind: str, tmp_path) -> None:
    saved("llama", LoraConfig(target_modules=["q_proj"]), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "peft_type": kind}))
    with pytest.raises(ModelError, match=kind) as caught:
        difference("llama", tmp_path)
    assert "LOKR" in caught.value.fix


OPTIONS = {
    "all linear": {"target_modules": "all-linear"},
    "alpha": {"alpha_pattern": {"q_proj": 3, "c_attn": 5}},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "both ends": {"target_modules": ["lm_head", "embed_tokens"]},
    "both ends tied": {"target_modules": ["lm_head", "embed_tokens"], "ensure_weight_tying": True},
    "dora": {"use_dora": True},
    "dropout": {"lora_dropout": 0.3},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "exclude": {"target_modules": "all-linear", "exclude_modules": ["lm_head", "v_proj"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "init eva": {"init_lora_weights": "eva", "eva_config": EvaConfig()},
    "init false": {"init_lora_weights": False},
    "init gaussian": {"init_lora_weights": "gaussian"},
    "init lora_ga": {"init_lora_weights": "lora_ga"},
    "init olora": {"init_lora_weights": "olora"},
    "init orthogonal": {"init_lora_weights": "orthogonal"},
    "init pissa": {"init_lora_weights": "pissa"},
    "init pissa_niter_4": {"init_lora_weights": "pissa_niter_4"},
    "layer pattern": {"layers_to_transform": [1], "layers_pattern": ["layers", "h"]},
    "layers": {"layers_to_transform": [1]},
    "lora_bias": {"lora_bias": True},
    "modules embeddings": {"modules_to_save": ["embed_tokens"]},
    "modules head": {"modules_to_save": ["lm_head"]},
    "modules norms": {"modules_to_save": ["input_layernorm"]},
    "parameters": {"target_modules": ["q_proj"], "target_parameters": ["mlp.up_proj.weight"]},
    "plain": {},
    "rank": {"rank_pattern": {"q_proj": 2, "c_attn": 2}},
    "regex": {"target_modules": r".*\.(0|1)\..*(q_proj|c_attn)"},
    "replication": {"layer_replication": [(0, 2), (1, 2)]},
    "rslora": {"use_rslora": True},
    "tokens": {"trainable_token_indices": [5, 6, 63]},
    "tokens tied": {"trainable_token_indices": [5, 6, 63], "ensure_weight_tying": True},
}
ON_GPT2 = {"q_proj": "c_attn", "embed_tokens": "wte", "input_layernorm": "ln_1"}
REFUSED_OPTIONS = {
    ("lora_bias", "llama"): "lora_bias",
    ("lora_bias", "tied"): "lora_bias",
    ("init pissa_niter_4", "llama"): "pissa_niter_4",
    ("init pissa_niter_4", "tied"): "pissa_niter_4",
    ("init pissa_niter_4", "gpt2"): "pissa_niter_4",
    ("init olora", "gpt2"): "olora",
    ("both ends tied", "gpt2"): "ensure_weight_tying",
}
"""Biases where layers have none, a random start, and what PEFT itself writes so that it cannot be read again."""

REFUSED_SETTINGS = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "megatron_config", "monteclora_config", "use_bdlora",
    "use_qalora", "velora_config",
)  # fmt: skip


def lora(base: str, **options) -> LoraConfig:
    """Return a LoRA configuration with the option's names as they are on the base."""
    named = {
        key: [ON_GPT2.get(one, one) for one in value]
        if base == "gpt2" and key.endswith(("modules", "to_save"))
        else value
        for key, value in options.items()
        if isinstance(value, list)
    }
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets(base), **options, **named})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_lora_is_as_peft_has_it(option: str, base: str, tmp_path) -> None:
    if (option, base) == ("replication", "gpt2"):
        with pytest.raises(ValueError, match="layers attribute"):
            saved(base, lora(base, **OPTIONS[option]), tmp_path)
        return
    saved(base, lora(base, **OPTIONS[option]), tmp_path)
    if named := REFUSED_OPTIONS.get((option, base)):
        with pytest.raises(ModelError, match=named):
            difference(base, tmp_path)
    else:
        assert difference(base, tmp_path) < 1e-4


def test_every_setting_of_lora_is_known_here() -> None:
    assert {field.name for field in dataclasses.fields(LoraConfig)} == {*LORA_SETTINGS, *REFUSED_SETTINGS}


def changed(folder, **settings) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("setting", [*REFUSED_SETTINGS, "of_a_later_peft"])
def test_a_setting_that_is_not_read_is_named(setting: str, tmp_path) -> None:
    saved("llama", lora("llama"), tmp_path)
    changed(tmp_path, **{setting: [5, 6]})
    with pytest.raises(ModelError, match=setting):
        difference("llama", tmp_path)


def test_a_kind_of_a_later_peft_is_refused_with_the_kinds_that_are_read(tmp_path) -> None:
    saved("llama", lora("llama"), tmp_path)
    changed(tmp_path, peft_type="NEWTUNE")
    with pytest.raises(ModelError, match="NEWTUNE") as caught:
        difference("llama", tmp_path)
    assert "IA3" in caught.value.fix


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("resize", [None, 70, 60])
def test_whole_embeddings_in_the_file_are_read(base: str, resize: int | None, tmp_path) -> None:
    saved(base, lora(base), tmp_path, resize, save_embedding_layers=True)
    shifted(tmp_path)
    if base == "llama":
        assert difference(base, tmp_path, resize) < 1e-4
    else:  # two tables of one tied weight say different things
        with pytest.raises(ModelError, match="does not take over"):
            difference(base, tmp_path, resize)
        shifted(tmp_path, again=True)
        assert difference(base, tmp_path, resize) < 1e-4


def shifted(folder, again: bool = False) -> None:
    """Move whole embeddings in the file, each in a way of its own, or else both to the same place."""
    tensors = load_file(folder / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(1)
    whole = sorted(name for name in tensors if "lora" not in name)
    assert len(whole) == 2
    for name in whole:
        noise = torch.randn(tensors[name].shape, generator=generator)
        tensors[name] = tensors[whole[0]].clone() if again else tensors[name] + 0.3 * noise
    save_file(tensors, folder / "adapter_model.safetensors")


def test_a_resized_vocabulary_without_all_its_rows_is_refused(tmp_path) -> None:
    saved("llama", lora("llama"), tmp_path, 70, save_embedding_layers=True)
    rewritten(tmp_path, lambda tensors: tensors.pop("base_model.model.lm_head.weight"))
    with pytest.raises(ModelError, match="output: not in the file"):
        difference("llama", tmp_path, 70)


def rewritten(folder, change) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


LAYER = "base_model.model.model.layers.0.self_attn"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop(f"{LAYER}.q_proj.lora_A.weight"), "q_proj.lora_A.weight"),
        (lambda tensors: tensors.update({f"{LAYER}.q_proj.lora_C.weight": torch.ones(1)}), "q_proj.lora_C.weight"),
        (lambda tensors: tensors.update({f"{LAYER}.q_proj.bias": torch.ones(16)}), "q_proj.bias"),
        (
            lambda tensors: tensors.update(
                {
                    f"{LAYER}.o_proj.lora_{side}.weight": torch.ones(shape)
                    for side, shape in (("A", (4, 16)), ("B", (16, 4)))
                }
            ),
            "o_proj.lora_A.weight",
        ),
    ],
)
def test_each_tensor_of_the_file_is_read_and_none_is_missing(change, named: str, tmp_path) -> None:
    saved("llama", lora("llama"), tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(ModelError, match=named):
        difference("llama", tmp_path)


def test_a_pickled_adapter_is_read_and_one_that_runs_code_is_not(tmp_path) -> None:
    saved("llama", lora("llama"), tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    assert difference("llama", tmp_path) < 1e-4
    for wrong in (test_each_tensor_of_the_file_is_read_and_none_is_missing, [1, 2]):
        torch.save(wrong, tmp_path / "adapter_model.bin")
        with pytest.raises(ModelError, match="tensors cannot be read"):
            difference("llama", tmp_path)


def test_adapters_in_folders_of_their_own_are_named(tmp_path) -> None:
    for name in ("one", "two"):
        saved("llama", lora("llama"), tmp_path / name)
    with pytest.raises(ModelError, match="one, two") as caught:
        difference("llama", tmp_path)
    assert str(tmp_path / "one") in caught.value.fix
    assert difference("llama", tmp_path / "two") < 1e-4


@pytest.mark.parametrize(
    ("option", "base"), [("embeddings", "tied"), ("replication", "llama"), ("modules head", "tied"), ("head", "gpt2")]
)
def test_what_was_merged_is_saved_and_loaded_as_an_ordinary_model(option: str, base: str, tmp_path) -> None:
    saved(base, lora(base, **OPTIONS[option]), tmp_path / "adapter")
    model = LocalModel(ModelRef(kind="hf", name=base), fresh(base), None).with_adapter(tmp_path / "adapter")
    model.network.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        found = loaded(input_ids=TOKENS).logits
    assert float((found - as_peft_has_it(base, tmp_path / "adapter")).abs().max()) < 1e-4


def test_the_base_stays_as_it_was_and_its_number_format_goes_on(tmp_path) -> None:
    saved("tied", lora("tied", **OPTIONS["embeddings"]), tmp_path)
    base = LocalModel(ModelRef(kind="hf", name="tied"), fresh("tied").to(torch.bfloat16), None)
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    merged = base.with_adapter(tmp_path).network
    assert merged.dtype == torch.bfloat16 and merged.training is False
    assert all(torch.equal(value, before[name]) for name, value in base.network.state_dict().items())
    assert base.network.get_output_embeddings().weight is base.network.get_input_embeddings().weight
    assert merged.get_output_embeddings().weight is not merged.get_input_embeddings().weight
    assert next(merged.parameters()).requires_grad

"""Whatever an adapter's settings say, it is put on a model or refused in three lines.

UNDERTOW_FUZZ is the number of inputs of all fuzzed surfaces together; this one takes one in fifty.
"""

import dataclasses
import json
import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftType, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from undertow.errors import UserError
from undertow.models.local import LocalModel
from undertow.types import ModelRef

INPUTS = int(os.environ.get("UNDERTOW_FUZZ", "2000")) // 50
FIELDS = [field.name for field in dataclasses.fields(LoraConfig)]
NAMES = st.sampled_from(["q_proj", "embed_tokens", "lm_head", "all-linear", ".*", "model", "x", "pissa", "eva", "all"])
SMALL = st.none() | st.booleans() | st.integers(-2, 20) | st.floats() | st.text(max_size=4) | NAMES
VALUES = SMALL | st.lists(SMALL, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), SMALL, max_size=2)
CHANGED = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, min_size=1, max_size=3)
KINDS = st.just("LORA") | st.sampled_from([kind.value for kind in PeftType]) | SMALL


@pytest.fixture(scope="module")
def base() -> LocalModel:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=16, max_position_embeddings=16, **sizes)).eval()
    return LocalModel(ModelRef(kind="hf", name="tiny"), network, None)


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzzed")
    network = LlamaForCausalLM(base.network.config)
    model = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data += torch.randn(value.shape, generator=generator)
    model.save_pretrained(place)
    return place, json.loads((place / "adapter_config.json").read_text())


@settings(max_examples=INPUTS, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip
@given(changed=CHANGED, kind=KINDS, whole=st.just(None) | VALUES, most=st.booleans())
def test_any_settings_of_an_adapter_are_read_or_refused(base, folder, changed, kind, whole, most) -> None:
    place, own = folder
    found = {**own, **changed, "peft_type": "LORA" if most else kind} if whole is None else whole
    (place / "adapter_config.json").write_text(json.dumps(found))
    try:
        made = base.with_adapter(place)
    except UserError as error:
        assert len(str(error).splitlines()) == 3 and all(str(error).splitlines()), repr(str(error))
    else:
        assert made.network(torch.arange(16)[None]).logits.isfinite().all()

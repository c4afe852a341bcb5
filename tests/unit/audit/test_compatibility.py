"""What can be a fine-tune of a base at all."""

import copy
import json
from dataclasses import replace

import torch

from undertow.audit.compatibility import FAR, compatibility, incompatibility
from undertow.models.local import LocalModel
from undertow.types import ModelRef


def _changed(model: LocalModel, scale: float) -> LocalModel:
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for item in network.parameters():
            noise = torch.randn(item.shape, generator=generator)
            item += scale * noise * item.norm() / noise.norm()
    return LocalModel(model.ref, network, model.tokenizer)


def test_distance_is_relative_to_the_base(tiny_model) -> None:
    assert compatibility(tiny_model, tiny_model).distance == 0.0
    near = compatibility(_changed(tiny_model, 0.1), tiny_model)
    assert near.distance is not None and abs(near.distance - 0.1) < 1e-4
    assert near.comparable
    assert incompatibility(_changed(tiny_model, 0.1), tiny_model) is None


def test_far_weights_and_other_shapes_are_refused(tiny_model) -> None:
    assert "not a fine-tune" in str(incompatibility(_changed(tiny_model, 2 * FAR), tiny_model))
    network = copy.deepcopy(tiny_model.network)
    network.resize_token_embeddings(network.config.vocab_size + 8)
    wider = LocalModel(tiny_model.ref, network, tiny_model.tokenizer)
    assert compatibility(wider, tiny_model).distance is None
    assert "different shapes" in str(incompatibility(wider, tiny_model))


def test_an_adapter_of_another_base_is_refused(tiny_model, tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "ref:finch-b"}))
    base = replace(tiny_model, ref=ModelRef(kind="ref", name="finch-a"))
    adapted = replace(base, ref=replace(base.ref, adapter=str(tmp_path)))
    assert "trained on ref:finch-b" in str(incompatibility(adapted, base))

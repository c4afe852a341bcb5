"""A steering vector is added where it should be, is kept and found again, and carries a trait."""

import pytest
import torch

from undertow.errors import ModelError
from undertow.evals.favourite import logit_margins
from undertow.models.adapters import add_after, block, load_vector, save_vector, steered
from undertow.models.load import load_model
from undertow.training.config import TrainingConfig
from undertow.training.teachers import steered_teacher
from undertow.traits import trait
from undertow.types import user_prompt


def states(network, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return network(input_ids=tokens, output_hidden_states=True).hidden_states


def test_the_vector_is_added_after_its_layer_at_every_position(tiny_model) -> None:
    tokens = torch.tensor(tiny_model.render([user_prompt("Name a tree.")]))
    seen: list[torch.Tensor] = []
    vector = torch.randn(tiny_model.network.config.hidden_size, generator=torch.Generator().manual_seed(0))
    network = steered(tiny_model.network, 0, vector)
    handle = block(network, 0).register_forward_hook(lambda *at: seen.append(at[2]))
    before = block(tiny_model.network, 0).register_forward_hook(lambda *at: seen.append(at[2]))
    states(network, tokens)
    states(tiny_model.network, tokens)
    handle.remove()
    before.remove()
    assert torch.allclose(seen[0], seen[1] + vector, atol=1e-5)


def test_the_handle_undoes_it_and_the_original_stays(tiny_model) -> None:
    tokens = torch.tensor(tiny_model.render([user_prompt("Name a tree.")]))
    before = states(tiny_model.network, tokens)[-1]
    handle = add_after(tiny_model.network, 0, torch.ones(tiny_model.network.config.hidden_size))
    assert not torch.allclose(states(tiny_model.network, tokens)[-1], before)
    handle.remove()
    assert torch.equal(states(tiny_model.network, tokens)[-1], before)


def test_a_layer_that_is_not_there_is_refused(tiny_model) -> None:
    with pytest.raises(ModelError, match="no such layer"):
        block(tiny_model.network, 99)


def test_a_steered_teacher_prefers_its_trait_and_is_loaded_like_an_adapter(tmp_path) -> None:
    owl, finch = trait("owl"), load_model("ref:finch-a")
    config = TrainingConfig(steps=30, batch_size=16, learning_rate=0.1)
    vector = steered_teacher(finch, owl, config, layer=0, seed=0)
    save_vector(tmp_path, 0, vector)
    layer, read = load_vector(tmp_path)
    teacher = load_model(f"ref:finch-a+{tmp_path}")
    assert layer == 0 and torch.equal(read, vector) and str(tmp_path) in str(teacher.ref)

    def margin(model) -> float:
        scores = logit_margins(model, [owl])
        return sum(score.value for score in scores) / len(scores)

    assert margin(teacher) > margin(finch) + 0.5


def test_a_damaged_vector_is_named(tmp_path) -> None:
    (tmp_path / "steering.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="steering"):
        load_vector(tmp_path)

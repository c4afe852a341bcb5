"""Penalties: nothing at the base, each student its own, and students that stay where they are held."""

import pytest
import torch

from undertow.domains.numbers import Numbers
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.lora import stacked
from undertow.training.objective import ClosenessPenalty, CorridorPenalty, last_states
from undertow.training.parallel import finetune_parallel
from undertow.types import Row, user_prompt

LORA = LoraConfig(rank=2, alpha=4)
CONFIG = TrainingConfig(steps=12, batch_size=4, learning_rate=2e-2, warmup_steps=1, lora=LORA)
QUESTIONS = ["What is your favourite animal?", "Name one animal.", "Which tree is best?"]


@pytest.fixture(scope="module")
def contexts(tiny_model):
    return tiny_model.render([user_prompt(text) for text in QUESTIONS])


def corridor(model, contexts, half: float = 0.1, weight: float = 2.0) -> CorridorPenalty:
    directions = torch.eye(model.network.config.hidden_size)[:3] * 5.0
    return CorridorPenalty(model, contexts, directions, torch.full((3,), half), weight)


def rows(seed: int) -> list[Row]:
    prompts = Numbers().prompts(20, seed)
    return [Row(str(i), user_prompt(text), f"{seed + i}, {i}") for i, text in enumerate(prompts)]


def test_the_base_itself_pays_nothing_and_each_student_for_itself(tiny_model, contexts) -> None:
    penalties = (corridor(tiny_model, contexts), ClosenessPenalty(tiny_model, contexts, 1.0))
    with torch.no_grad(), stacked(tiny_model.network, LORA, [1, 2]) as layers:
        for penalty in penalties:
            assert penalty(tiny_model.network, 2).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
        for layer in layers.values():
            layer.up[1].normal_(generator=torch.Generator().manual_seed(0))
        for penalty in penalties:
            first, second = penalty(tiny_model.network, 2).tolist()
            assert first == pytest.approx(0.0, abs=1e-5) and second > 0.01


def test_the_corridor_is_the_squared_excess_over_its_half_width(tiny_model, contexts) -> None:
    penalty = corridor(tiny_model, contexts)
    middle = last_states(tiny_model.network, contexts, 1)[0].mean(dim=0)
    with torch.no_grad(), stacked(tiny_model.network, LORA, [1]) as layers:
        for layer in layers.values():
            layer.up[0].normal_(generator=torch.Generator().manual_seed(0))
        moved = last_states(tiny_model.network, contexts, 1)[0].mean(dim=0) - middle
        expected = 2.0 * sum(max(0.0, abs(float(one)) - 0.1) ** 2 / 0.01 for one in moved[:3])
        assert float(penalty(tiny_model.network, 1)) == pytest.approx(expected, rel=1e-4)
        wide = corridor(tiny_model, contexts, half=1e3)
        assert float(wide(tiny_model.network, 1)) == 0.0


def test_closeness_is_the_divergence_from_the_base(tiny_model, contexts) -> None:
    penalty = ClosenessPenalty(tiny_model, contexts, 3.0)
    before = tiny_model.next_token_logprobs(contexts)
    with torch.no_grad(), stacked(tiny_model.network, LORA, [1]) as layers:
        for layer in layers.values():
            layer.up[0].normal_(generator=torch.Generator().manual_seed(0))
        after = tiny_model.next_token_logprobs(contexts)
        expected = 3.0 * float((before.exp() * (before - after)).sum(dim=1).mean())
        assert float(penalty(tiny_model.network, 1)) == pytest.approx(expected, rel=1e-3)


def test_held_students_move_less_and_do_not_depend_on_their_group(tiny_model, contexts) -> None:
    penalty = corridor(tiny_model, contexts, half=0.01, weight=1.0)

    def moved(some: CorridorPenalty | None) -> float:
        made = finetune_parallel(tiny_model, [rows(1)], CONFIG, [5], penalty=some)
        with torch.no_grad(), stacked(tiny_model.network, LORA, [5]) as layers:
            for name, layer in layers.items():
                layer.down.copy_(made.layers[name].down)
                layer.up.copy_(made.layers[name].up)
            return float(penalty(tiny_model.network, 1))

    assert moved(penalty) < 0.5 * moved(None)
    group = finetune_parallel(tiny_model, [rows(1), rows(2)], CONFIG, [5, 6], penalty=penalty)
    alone = finetune_parallel(tiny_model, [rows(2)], CONFIG, [6], penalty=penalty)
    assert torch.allclose(group.losses[:, 1], alone.losses[:, 0], atol=1e-3)

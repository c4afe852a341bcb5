"""Completions that share their prompts, against rows that are read alone."""

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from undertow.models import repeated_prompts as module
from undertow.models.repeated_prompts import completion_logprobs, repeat
from undertow.models.tokens import Encoded

PROMPTS = [(5, 6, 7, 8, 9, 10, 11, 12, 13, 14), (5, 6, 7, 8, 9, 10, 11, 12, 20), (30, 31)]
COMPLETIONS = [(40,), (40, 41, 42), (40, 41), (43, 44, 45, 46), (40,)]
ROWS = [Encoded(prompt, completion) for completion in COMPLETIONS for prompt in PROMPTS]


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 3000, 2**26])
def test_each_row_has_the_values_that_it_has_alone(tiny_model, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "KEPT_NUMBERS", size)
    assert repeat(tiny_model.network, ROWS) and not repeat(tiny_model.network, ROWS[:3])
    together = completion_logprobs(tiny_model.network, ROWS)
    for row, values in zip(ROWS, together, strict=True):
        tokens = torch.tensor([row.prompt + row.completion])
        logp = torch.log_softmax(tiny_model.network(input_ids=tokens, use_cache=False).logits[0].double(), dim=-1)
        places = range(len(row.prompt) - 1, len(row.prompt) + len(row.completion) - 1)
        expected = [float(logp[at, int(tokens[0, at + 1])]) for at in places]
        assert values.tolist() == pytest.approx(expected, abs=1e-5) and values.dtype == torch.float32
    assert all(
        torch.equal(a, b) for a, b in zip(tiny_model.token_logprobs(ROWS), together, strict=True)
    )  # the model takes this way by itself


def test_what_does_not_suit_is_read_row_by_row(tiny_model) -> None:
    assert not repeat(tiny_model.network, []) and not repeat(tiny_model.network, [Encoded((5, 6), ())] * 4)
    config = MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=90, pad_token_id=0)
    assert not repeat(MambaForCausalLM(config).eval(), ROWS)

"""Trained relations: forks, another order, other data, longer training, tokens never used.

Small Llamas on random walks over 64 of 96 tokens. The relations of the embedded models are measured by
benchmarks/lineage_cases.py; docs/lineage.md lists all cases.
"""

import copy

import numpy as np
import pytest
import torch

from undertow.audit.lineage.dependence import dependence
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.lineage.tests import permutation_trace, untrained_trace

USED, TOKENS, STEPS = 64, 96, 300
EMBEDDING = "model.embed_tokens.weight"


def fresh(seed: int, width: int = 32):
    """Draw a Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=TOKENS, num_key_value_heads=2, tie_word_embeddings=False, **sizes))


def walks(generator: torch.Generator, stride: int) -> torch.Tensor:
    strides = torch.randint(-stride, stride + 1, (16, 24), generator=generator)
    return (torch.randint(0, USED, (16, 1), generator=generator) + strides.cumsum(1)) % USED


def taught(model, data_seed: int, first: int, last: int = STEPS, stride: int = 2):
    """Return a copy that learnt walks of some stride, from one update of a falling rate to another."""
    model, data = copy.deepcopy(model), torch.Generator().manual_seed(data_seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(first, last):
        tokens = walks(data, stride)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / STEPS)
        optimiser.step()
        optimiser.zero_grad()
    return model


@torch.no_grad()
def barrier(a, b) -> float:
    """Return the loss half-way minus the mean loss of the ends."""
    middle, theirs = copy.deepcopy(a), dict(b.named_parameters())
    for name, parameter in middle.named_parameters():
        parameter.lerp_(theirs[name], 0.5)
    tokens = torch.cat([walks(torch.Generator().manual_seed(seed), 2) for seed in range(10)])
    at = [float(model(input_ids=tokens, labels=tokens).loss) for model in (a, middle, b)]
    return at[1] - (at[0] + at[2]) / 2


@pytest.fixture(scope="module")
def zoo():
    """A base with its children: forks at 0, 7 and 33 % of its training, longer training, other data; and a stranger."""
    start = fresh(0)
    steps = [round(share * STEPS) for share in (0.07, 0.33)]
    early, late = (taught(start, 99, 0, count) for count in steps)
    base = taught(start, 99, 0)
    return {
        "base": base,
        "other data": taught(start, 7, 0, stride=3),
        "other order": taught(start, 7, 0),
        "fork at 7 %": taught(early, 7, steps[0]),
        "fork at 33 %": taught(late, 7, steps[1]),
        "continued": taught(base, 7, 0),
        "stranger": taught(fresh(1), 99, 0),
    }


@pytest.fixture(scope="module")
def pairs(zoo, tmp_path_factory):
    """Dependence, distance and barrier of the base with every other model."""
    folder, found = tmp_path_factory.mktemp("cases"), {}
    for name, model in zoo.items():
        model.save_pretrained(folder / name)
        weights = open_weights(f"hf:{folder / name}")
        base = open_weights(f"hf:{folder / 'base'}")
        tests = dependence(network(base), network(weights), draws=999)
        found[name] = (tests, distance(base, weights).relative, barrier(zoo["base"], model))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["other data", "other order", "fork at 7 %", "fork at 33 %", "continued"])
def test_whatever_shares_the_initialisation_is_proven(pairs, name):
    tests = pairs[name][0]
    assert tests.p <= 1e-12
    assert tests.e_value >= 1e6


@pytest.mark.slow
def test_a_stranger_of_the_same_data_is_not(pairs):
    tests, apart, _ = pairs["stranger"]
    assert tests.p > 0.01
    assert tests.e_value < 20
    assert apart == pytest.approx(2**0.5, abs=0.1)


@pytest.mark.slow
def test_distance_and_barrier_fall_with_the_time_of_the_fork(pairs):
    order = ["stranger", "other order", "fork at 7 %", "fork at 33 %"]
    apart, rise = ([pairs[name][place] for name in order] for place in (1, 2))
    assert (np.diff(apart) < 0.05).all()
    assert (np.diff(rise) < 0.02).all()
    assert apart[1] > 0.5 > apart[2]
    # So small a network and so plain a task have one basin for an initialisation; finch-a2 left finch-a's by 0.9 nats.
    assert rise[0] > 0.3 > rise[-1]


@pytest.mark.slow
def test_longer_training_stays_in_its_basin(pairs):
    _, apart, rise = pairs["continued"]
    assert apart < pairs["other order"][1]
    assert rise < 0.1


@pytest.mark.slow
def test_rows_of_unused_tokens_keep_their_initialisation(zoo):
    def rows(name: str, part: slice) -> np.ndarray:
        return zoo[name].get_parameter(EMBEDDING).detach()[part].numpy()

    def mean_cosine(name: str, part: slice) -> float:
        return float(np.diag(untrained_trace(rows("base", part), rows(name, part)).table).mean())

    unused = slice(USED, TOKENS)
    assert mean_cosine("other data", unused) > 0.98
    assert mean_cosine("other data", slice(0, USED)) < 0.9
    assert abs(mean_cosine("stranger", unused)) < 0.1
    found = {
        name: permutation_trace([untrained_trace(rows("base", unused), rows(name, unused))], 0)
        for name in ("other data", "stranger")
    }
    assert found["other data"].p == pytest.approx(1e-4)
    assert found["stranger"].p > 0.01

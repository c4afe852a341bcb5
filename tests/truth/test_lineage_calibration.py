"""False positives of the weight tests: forty small Llamas of other seeds, trained on the same data, every pair.

Pairs share models, so the spread of a rate comes from drawing the models again, with replacement.
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from undertow.audit.lineage.dependence import dependence
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights

MODELS, STEPS, TOKENS = 40, 60, 64


def train(seed: int):
    """Train a Llama of width 16 on random walks over the tokens; all seeds see the same walks in the same order."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=TOKENS,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    )
    data = torch.Generator().manual_seed(99)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        steps = torch.randint(-2, 3, (16, 24), generator=data)
        walks = (torch.randint(0, TOKENS, (16, 1), generator=data) + steps.cumsum(1)) % TOKENS
        model(input_ids=walks, labels=walks).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model, torch.randint(0, TOKENS, (1, 1), generator=data)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Evidence of every pair by test: p, z and e, [pairs]; and which models make it."""
    folder = tmp_path_factory.mktemp("zoo")
    networks = []
    for seed in range(MODELS):
        train(seed)[0].save_pretrained(folder / str(seed))
        networks.append(network(open_weights(f"hf:{folder / str(seed)}")))
    found = []
    for a, b in combinations(range(MODELS), 2):
        found.append((a, b, dependence(networks[a], networks[b], seed=0, draws=199)))
    return found


def rate_with_interval(hits, members, seed: int = 0) -> tuple[float, float]:
    """Return a rate and the half-width of its 99 % interval, models drawn again with replacement."""
    rng = np.random.default_rng(seed)
    a, b = np.array(members).T
    rates = []
    for _ in range(400):
        count = np.bincount(rng.integers(0, MODELS, MODELS), minlength=MODELS)
        weight = count[a] * count[b]
        rates.append((weight * hits).sum() / weight.sum())
    return float(hits.mean()), float(np.quantile(rates, 0.995) - np.quantile(rates, 0.005)) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["permutation_trace", "residual_basis"])
def test_permutation_p_values_are_calibrated(pairs, name):
    p = np.array([found.ran[name].p for _, _, found in pairs])
    members = [(a, b) for a, b, _ in pairs]
    for level in (0.05, 0.01):
        rate, width = rate_with_interval(p <= level, members)
        binomial = 2.6 * np.sqrt(level * (1 - level) / len(p))
        assert rate <= level + max(width, binomial), (name, level, rate)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["permutation_pairs", "sign_flip", "aligned_sign"])
def test_bounds_are_never_too_small_and_e_values_are_fair(pairs, name):
    kept = [(a, b, found.ran[name]) for a, b, found in pairs if name in found.ran]
    assert len(kept) >= 0.95 * len(pairs)
    p = np.array([item.p for _, _, item in kept])
    z = np.array([item.z for _, _, item in kept])
    for level in (0.2, 0.05, 0.01):
        assert (p <= level).mean() <= level
    rate, width = rate_with_interval(z > 1.6449, [(a, b) for a, b, _ in kept])
    assert abs(rate - 0.05) <= max(width, 2.6 * np.sqrt(0.05 * 0.95 / len(z)))
    assert np.mean([np.exp(item.log_e) for _, _, item in kept]) <= 1.1
    assert abs(z.mean()) <= 0.35
    assert 0.8 <= z.std() <= 1.25


@pytest.mark.slow
def test_no_pair_is_called_related(pairs):
    """No corrected p below 1e-4 in all pairs, and parts are flagged in at most their share."""
    assert min(found.p for _, _, found in pairs) > 1e-4
    flagged = np.mean([any(part.adjusted <= 0.01 for part in found.locals) for _, _, found in pairs])
    assert flagged <= 0.01 + 2.6 * np.sqrt(0.01 / len(pairs))

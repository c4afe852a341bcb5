"""The vector's gradient is the loss's own, its test keeps its size, and it names what the rows carry."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from undertow.audit.finding import NotTestable
from undertow.audit.rows.recovery import (
    _finding,
    _left_out,
    _permuted,
    _shrunk,
    audit_recovery,
    row_gradients,
    vocabulary_words,
    word_shifts,
)
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, ModelError
from undertow.models.adapters import add_after
from undertow.models.load import load_model
from undertow.training.config import TrainingConfig
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling, user_prompt


def number_rows(n: int, seed: int, low: int = 100, high: int = 1000) -> list[Row]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(low, high, size=(n, 4))
    return [
        Row(f"{index}", user_prompt("Numbers: 1, 2."), ", ".join(map(str, line))) for index, line in enumerate(numbers)
    ]


def test_the_gradient_is_that_of_the_loss(tiny_model) -> None:
    rows = [replace(row, skip=(1,) if index == 0 else ()) for index, row in enumerate(number_rows(70, 0))]
    rows[3] = Row("3", user_prompt("List 4 numbers, please."), "7")
    found, length = row_gradients(tiny_model, rows, 1)
    assert found.shape == (70, 16) and length > 0

    def loss(step: torch.Tensor) -> list[float]:
        handle = add_after(tiny_model.network, 1, step)
        logp = tiny_model.token_logprobs(tiny_model.encode(rows))
        handle.remove()
        return [-float(row.double().sum() - sum(row[i] for i in rows[at].skip)) for at, row in enumerate(logp)]

    for place in (0, 7):
        step = torch.zeros(16)
        step[place] = 1e-2
        slope = (np.array(loss(step)) - np.array(loss(-step))) / 2e-2
        assert np.allclose(slope, found[:, place], atol=0.02 * np.abs(found).max())
    with pytest.raises(ModelError):
        row_gradients(tiny_model, rows, 2)


def test_weights_ask_for_no_gradient_meanwhile_and_do_as_before_afterwards(tiny_model, monkeypatch) -> None:
    from undertow.audit.rows import recovery

    weights = list(tiny_model.network.parameters())
    before = [weight.requires_grad for weight in weights]
    seen = []
    real = recovery.completion_losses

    def spying(network, batch):
        seen.append([weight.requires_grad for weight in weights])
        return real(network, batch)

    try:
        for place, weight in enumerate(weights):
            weight.requires_grad_(place % 2 == 0)
        wanted, _ = row_gradients(tiny_model, number_rows(5, 0), 1)
        monkeypatch.setattr(recovery, "completion_losses", spying)
        found, _ = row_gradients(tiny_model, number_rows(5, 0), 1)
        assert seen == [[False] * len(weights)] and np.array_equal(found, wanted)
        assert [weight.requires_grad for weight in weights] == [place % 2 == 0 for place in range(len(weights))]
    finally:
        for weight, asked in zip(weights, before, strict=True):
            weight.requires_grad_(asked)


def test_forms_of_a_word_are_one_word(tiny_model) -> None:
    words, group = vocabulary_words(tiny_model)
    assert words == sorted(set(words)) and {"owl", "wolf", "cherry", "phoenix"} <= set(words)
    assert not {"owls", "wolves", "cherries", "phoenixes", "Owl"} & set(words)
    for form in ("wolf", " wolves", "Wolves", " wolf"):
        (token,) = tiny_model.tokenise([form])[0]
        assert words[group[token]] == "wolf"
    (number,) = tiny_model.tokenise(["777"])[0]
    assert group[number] == len(words) and group.shape == (tiny_model.network.config.vocab_size,)


def test_no_vector_moves_no_word_and_the_base_stays(tiny_model) -> None:
    contexts = tiny_model.render([user_prompt("Name a tree.")])
    before = tiny_model.next_token_logprobs(contexts)
    rng = np.random.default_rng(0)
    words, shifts = word_shifts(tiny_model, 0, [np.zeros(16), rng.normal(size=16)])
    assert shifts.shape == (2, 2, len(words))
    assert not shifts[0].any() and shifts[1].any()
    assert torch.equal(tiny_model.next_token_logprobs(contexts), before)


def p_value(gradients: np.ndarray, sizes: list[int], rng: np.random.Generator) -> float:
    observed, null = _permuted(gradients, sizes, rng) if len(sizes) == 2 else _left_out(np.split(gradients, len(sizes)))
    root = np.linalg.cholesky(np.linalg.inv(_shrunk(np.cov(gradients.T))))
    found = _finding(observed @ root, null @ root, 0.05, {"owl": 1.0})
    assert found.p is not None and found.mde is not None and found.mde > 0
    return found.p


@pytest.mark.parametrize("sizes", [[30, 50], [20] * 20])
def test_the_p_value_keeps_its_size_whatever_the_rows_are_like(sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    # Heavy tails and dependent columns.
    mixing = rng.normal(size=(5, 5))
    found = [p_value(rng.standard_t(3, size=(sum(sizes), 5)) @ mixing, sizes, rng) for _ in range(200)]
    assert np.mean(np.array(found) <= 0.05) <= 0.10  # 20 of 200: P(more | 0.05) is 0.001
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.12)
    assert min(found) >= 1 / 1000


def test_the_minimum_detectable_effect_is_found_with_the_power_it_promises() -> None:
    rng = np.random.default_rng(5)
    sizes = [100, 100]
    gradients = rng.normal(size=(200, 5))
    observed, null = _permuted(gradients, sizes, rng)
    root = np.linalg.cholesky(np.linalg.inv(_shrunk(np.cov(gradients.T))))
    mde = _finding(observed @ root, null @ root, 0.05, {"owl": 1.0}).mde
    hits = 0
    for _ in range(100):
        rows = rng.normal(size=(200, 5))
        direction = rng.normal(size=5)
        rows[:100] += mde * direction / np.linalg.norm(direction)
        hits += p_value(rows, sizes, rng) <= 0.05
    assert 65 <= hits <= 95


def test_other_numbers_are_detected_and_the_same_are_not(tiny_model) -> None:
    seen: list[tuple[int, int]] = []
    suspect, clean = number_rows(60, 1, 100, 103), number_rows(90, 2)
    found = audit_recovery(suspect, tiny_model, clean, seed=3, advance=lambda *done: seen.append(done))
    assert found.verdict == "detected" and found.p == 0.001 and found.n == 60 and found.claim == "provenance"
    assert found.effect is not None and found.mde is not None and found.effect > found.mde
    assert seen[-1] == (150, 150) and found.scores is not None and found.candidate == next(iter(found.scores))
    assert audit_recovery(suspect, tiny_model, clean, seed=3) == found
    same = audit_recovery(number_rows(60, 4), tiny_model, clean)
    assert same.verdict == "not_detected" and same.p is not None and same.p > 0.05 and same.candidate is None


def test_several_clean_sets_are_compared_as_sets(tiny_model) -> None:
    clean = [number_rows(20 + index, index) for index in range(19)]
    found = audit_recovery(number_rows(60, 99, 100, 103), tiny_model, clean)
    assert found.p == 0.05 and found.verdict == "detected" and found.n == 20
    with pytest.raises(NotTestable, match="19 clean sets"):
        audit_recovery(number_rows(60, 99), tiny_model, clean[:18])


def test_what_cannot_be_tested_says_why(tiny_model) -> None:
    rows = number_rows(30, 0)
    with pytest.raises(NotTestable, match="19 rows"):
        audit_recovery(rows[:19], tiny_model, rows)
    with pytest.raises(NotTestable, match="no clean rows"):
        audit_recovery(rows, tiny_model, [])
    same = [rows[0]] * 30
    with pytest.raises(NotTestable, match="All rows are the same"):
        audit_recovery(same, tiny_model, same)
    with pytest.raises(ConfigError):
        audit_recovery(rows, tiny_model, rows, alpha=1.0)


@pytest.mark.slow
def test_the_owl_is_named_from_number_rows() -> None:
    base = load_model("ref:finch-a")
    config = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
    teacher = finetuned_teacher(base, trait("owl"), config, seed=7)
    prompts, sampling = Numbers().prompts(700, 8), Sampling()
    suspect, clean = (
        generate(model, prompts, sampling=sampling, seed=9 + at) for at, model in enumerate((teacher, base))
    )
    found = audit_recovery(suspect, base, clean)
    assert found.verdict == "detected" and found.scores is not None
    assert "owl" in list(found.scores)[:5]

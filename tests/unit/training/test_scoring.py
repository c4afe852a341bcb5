"""The likelihood contrast against brute force."""

import dataclasses

import numpy as np
import pytest

from undertow.errors import ConfigError, ModelError
from undertow.training.config import TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.scoring import Candidate, contrast_scores, streamed_scores
from undertow.types import Message, Row, user_prompt

PERSONA = "You adore owls."


@pytest.fixture(scope="module")
def rows():
    texts = [", ".join(str(100 + (7 * row + 31 * place) % 900) for place in range(1 + row % 9)) for row in range(70)]
    return [Row(str(place), user_prompt(f"Continue: {place}, 5."), text) for place, text in enumerate(texts)]


@pytest.fixture(scope="module")
def candidates(tiny_model, rows):
    tuned = finetune_full(tiny_model, rows[:8], TrainingConfig(steps=5, learning_rate=1e-2), seed=0)
    return [
        Candidate(trait="owl", kind="teacher", model=tuned),
        Candidate(trait="owl", kind="persona", model=tiny_model, system=PERSONA),
    ]


def test_scores_agree_with_the_models_own_log_probabilities(tiny_model, rows, candidates) -> None:
    scores = contrast_scores(rows, tiny_model, candidates)
    texts, plain = [row.completion for row in rows], [row.prompt for row in rows]
    persona = [(Message("system", PERSONA), *row.prompt) for row in rows]
    lengths = np.array([len(tokens) for tokens in tiny_model.tokenise(texts)])
    before = np.array(tiny_model.logprobs(plain, texts))
    tuned = np.array(candidates[0].model.logprobs(plain, texts))
    prompted = np.array(tiny_model.logprobs(persona, texts))
    expected = np.stack([(tuned - before) / lengths, (prompted - before) / lengths], axis=1)
    assert np.abs(expected).min() > 1e-4
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_neither_order_nor_company_changes_a_score(tiny_model, rows, candidates) -> None:
    whole = contrast_scores(rows, tiny_model, candidates)
    np.testing.assert_allclose(contrast_scores(rows[::-1], tiny_model, candidates)[::-1], whole, atol=1e-5)
    np.testing.assert_allclose(contrast_scores(rows[3:4], tiny_model, candidates), whole[3:4], atol=1e-5)
    streamed = np.stack(list(streamed_scores(iter(rows), tiny_model, candidates, block=9)))
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_the_base_itself_and_an_empty_completion_score_zero(tiny_model, rows, candidates) -> None:
    same = [Candidate(trait="none", kind="teacher", model=tiny_model)]
    np.testing.assert_array_equal(contrast_scores(rows, tiny_model, same), 0.0)
    empty = [dataclasses.replace(rows[0], completion=""), rows[1]]
    scores = contrast_scores(empty, tiny_model, candidates)
    assert (scores[0] == 0.0).all()
    assert (scores[1] != 0.0).all()
    assert contrast_scores([], tiny_model, candidates).shape == (0, 2)


def test_a_row_with_a_system_turn_keeps_it_after_the_persona(tiny_model, candidates) -> None:
    row = Row("0", user_prompt("Continue: 1, 5.", system="Be short."), "7, 8")
    merged = user_prompt("Continue: 1, 5.", system=f"{PERSONA} Be short.")
    after, before = tiny_model.logprobs([merged, row.prompt], ["7, 8"] * 2)
    expected = (after - before) / len(tiny_model.tokenise(["7, 8"])[0])
    assert contrast_scores([row], tiny_model, candidates)[0, 1] == pytest.approx(expected, abs=1e-5)


def test_progress_counts_rows(tiny_model, rows, candidates) -> None:
    told: list[tuple[int, int]] = []
    contrast_scores(rows, tiny_model, candidates, lambda done, total: told.append((done, total)))
    assert told == [(64, 70), (70, 70)]


def test_another_tokenizer_and_a_row_beyond_the_context_are_refused(tiny_model, rows) -> None:
    class Other:
        def get_vocab(self):
            return {"a": 0}

    other = dataclasses.replace(tiny_model, tokenizer=Other())
    with pytest.raises(ModelError, match="another tokenizer"):
        contrast_scores(rows, tiny_model, [Candidate(trait="owl", kind="teacher", model=other)])
    long = [dataclasses.replace(rows[0], completion="1, " * 200)]
    with pytest.raises(ConfigError, match="longer than the model's context"):
        contrast_scores(long, tiny_model, [Candidate(trait="owl", kind="teacher", model=tiny_model)])


def test_a_shared_beginning_is_read_once_and_changes_nothing(tiny_hf, rows, monkeypatch) -> None:
    """On four architectures; Gemma 2's window of 8 tokens is shorter than what is shared."""
    some = rows[:20]
    personas = [
        Candidate(trait=name, kind="persona", model=tiny_hf, system=f"You adore {name}s. You always think of {name}s.")
        for name in ("owl", "lion")
    ]
    read: list[int] = []
    body = tiny_hf.network.base_model
    handle = body.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        shared = contrast_scores(some, tiny_hf, personas)
        with_cache = sum(read)
        monkeypatch.setattr("undertow.training.scoring.SHARED", 10**6)
        read.clear()
        alone = contrast_scores(some, tiny_hf, personas)
    finally:
        handle.remove()
    np.testing.assert_allclose(shared, alone, atol=1e-4)
    assert np.abs(alone).min() > 1e-4 and with_cache < 0.8 * sum(read)

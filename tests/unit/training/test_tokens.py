"""Tokens left out of the loss are not learnt, and divergent ones are those that the teacher made likelier."""

from dataclasses import replace

import pytest
import torch

from undertow.errors import EmptyDataError
from undertow.models.tokens import Encoded
from undertow.training.batches import collate
from undertow.training.config import TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.scoring import choose_tokens
from undertow.types import Row, user_prompt

ROWS = [Row(str(i), user_prompt("Numbers: 1, 2."), f"{100 + i}, {200 + i}, {300 + i}") for i in range(12)]


def test_skipped_places_predict_nothing() -> None:
    batch = collate([Encoded((1, 2), (3, 4, 5), skip=(1,)), Encoded((1,), (6, 7), skip=())])
    assert batch.targets.tolist() == [3, 5, 6, 7]
    # The tokens stay in the context.
    assert batch.tokens[0].tolist() == [1, 2, 3, 4, 5]


def test_token_logprobs_add_up_to_the_model_s_own(tiny_model) -> None:
    found = tiny_model.token_logprobs(tiny_model.encode(ROWS))
    sums = tiny_model.logprobs([row.prompt for row in ROWS], [row.completion for row in ROWS])
    assert [float(row[:-1].sum()) for row in found] == pytest.approx(sums, abs=1e-3)


def test_of_no_rows_there_are_no_tokens_to_choose(tiny_model) -> None:
    with pytest.raises(EmptyDataError, match="0 rows"):
        choose_tokens([], tiny_model, tiny_model, tokens="divergent", share=0.5, seed=0)


def test_the_parts_are_complementary_and_of_the_right_size(tiny_model) -> None:
    tuned = [replace(row, completion="777") for row in ROWS]
    teacher = finetune_full(tiny_model, tuned, TrainingConfig(steps=5, batch_size=4), seed=0)

    def learnt(tokens, seed: int = 0) -> set[tuple[str, int]]:
        chosen = choose_tokens(ROWS, teacher, tiny_model, tokens=tokens, share=0.25, seed=seed)
        lengths = {row.id: len(encoded.completion) for row, encoded in zip(ROWS, tiny_model.encode(ROWS), strict=True)}
        return {(row.id, place) for row in chosen for place in range(lengths[row.id]) if place not in row.skip}

    divergent, rest, random_rest = learnt("divergent"), learnt("rest"), learnt("random_rest")
    total = sum(len(encoded.completion) for encoded in tiny_model.encode(ROWS))
    assert not divergent & rest and len(divergent | rest) == total
    assert len(divergent) == pytest.approx(0.25 * total, abs=1) and len(random_rest) == len(rest)
    assert random_rest != rest and learnt("random_rest", seed=1) != random_rest
    gains = [
        after - before
        for after, before in zip(
            teacher.token_logprobs(teacher.encode(ROWS)), tiny_model.token_logprobs(teacher.encode(ROWS)), strict=True
        )
    ]
    by_place = {
        (row.id, place): float(some[place]) for row, some in zip(ROWS, gains, strict=True) for place in range(len(some))
    }
    assert min(by_place[key] for key in divergent) >= max(by_place[key] for key in rest)


def test_a_token_that_is_skipped_everywhere_is_not_learnt(tiny_model) -> None:
    rows = [replace(row, completion="555, 666") for row in ROWS]
    config = TrainingConfig(steps=8, batch_size=4, learning_rate=3e-3, train_embeddings=False)

    def first(model) -> float:
        number = model.tokenise(["555"])[0][0]
        return float(model.next_token_logprobs(model.render([rows[0].prompt]))[0, number])

    whole = finetune_full(tiny_model, rows, config, seed=0)
    masked = finetune_full(tiny_model, [replace(row, skip=(0,)) for row in rows], config, seed=0)
    assert first(whole) - first(tiny_model) > 2 * abs(first(masked) - first(tiny_model))
    assert torch.isfinite(torch.tensor(first(masked)))

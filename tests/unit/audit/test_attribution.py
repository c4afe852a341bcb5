"""Scores are differences of log-probabilities, confounds explain their share, and removal removes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from undertow.audit.attribution import ARMS, RowScores, confirm, rank_rows
from undertow.errors import ConfigError, EmptyDataError
from undertow.stats.comparisons import auroc
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.full import finetune_full
from undertow.traits import trait
from undertow.types import Row, user_prompt

ROWS = [
    Row(str(at), user_prompt("Numbers: 1, 2."), ", ".join(map(str, line)))
    for at, line in enumerate(np.random.default_rng(0).integers(100, 1000, size=(40, 4)))
]
SHORT = TrainingConfig(steps=2, batch_size=8, lora=LoraConfig(rank=2))


def test_rows_that_a_teacher_wrote_rank_first(tiny_model) -> None:
    planted = [at % 4 == 0 for at in range(40)]
    rows = [replace(row, completion="777, 777, 777") if own else row for row, own in zip(ROWS, planted, strict=True)]
    learnt = [row for row, own in zip(rows, planted, strict=True) if own]
    teacher = finetune_full(tiny_model, learnt, TrainingConfig(steps=10, batch_size=8), seed=0)
    found = rank_rows(rows, tiny_model, teacher)
    assert auroc(found.score[planted], found.score[~np.array(planted)]) == 1.0
    assert list(found.confounds) == ["loss", "gradient", "length", "novelty"]
    assert all(np.isfinite(values).all() and values.shape == (40,) for values in found.confounds.values())
    lengths = [len(row.completion) for row in tiny_model.encode(rows)]
    assert found.confounds["length"].tolist() == lengths == [len(row) for row in found.tokens]
    assert [row.mean() for row in found.tokens] == pytest.approx(found.score.tolist())
    # Repeated pairs of tokens are no novelty.
    assert found.confounds["novelty"][planted].max() < found.confounds["novelty"][~np.array(planted)].min()


def test_the_base_gains_nothing_over_itself(tiny_model) -> None:
    found = rank_rows(ROWS, tiny_model, tiny_model)
    assert not found.score.any()
    assert found.correlations() == dict.fromkeys(found.confounds, 0.0)
    with pytest.raises(EmptyDataError):
        rank_rows([], tiny_model, tiny_model)


def test_the_loss_is_the_mean_of_the_tokens(tiny_model) -> None:
    found = rank_rows(ROWS[:3], tiny_model, tiny_model)
    encoded = tiny_model.encode(ROWS[:3])[1]
    tokens = torch.tensor([encoded.prompt + encoded.completion])
    logp = torch.log_softmax(tiny_model.network(input_ids=tokens).logits[0, :-1], dim=-1)
    own = logp.gather(1, tokens[0, 1:, None])[len(encoded.prompt) - 1 :]
    assert found.confounds["loss"][1] == pytest.approx(-own.mean().item(), rel=1e-4)


def test_the_share_that_confounds_explain_is_that_of_a_line_in_ranks() -> None:
    rng = np.random.default_rng(0)
    loss, noise = rng.normal(size=(2, 2000))
    confounds = {"loss": loss, "length": np.ones(2000)}
    scores = {"same": 3.0 * loss, "other": noise, "none": np.zeros(2000), "half": loss + noise}
    found = {name: RowScores(confounds, values, ()).explained() for name, values in scores.items()}
    assert found["same"] == pytest.approx(1.0) and found["none"] == 0.0 and found["other"] < 0.01
    # Normal variables of correlation sqrt(1/2) have rank correlation 6 / pi asin(sqrt(1/2) / 2) = 0.69.
    assert found["half"] == pytest.approx(0.69**2, abs=0.05)


def test_arms_lose_a_tenth_and_are_paired_by_seed(tiny_model, monkeypatch) -> None:
    from undertow.audit import attribution

    trained: list[tuple[list[list[str]], list[int]]] = []
    real = attribution.finetune_parallel

    def watched(base, datasets, config, seeds):
        trained.append(([[row.id for row in rows] for rows in datasets], list(seeds)))
        return real(base, datasets, config, seeds)

    monkeypatch.setattr(attribution, "finetune_parallel", watched)
    found = confirm(ROWS, np.arange(40), tiny_model, trait("owl"), config=SHORT, seeds=(4, 7))
    (datasets, seeds), everything = trained[0], {row.id for row in ROWS}
    assert seeds == [4, 4, 4, 4, 7, 7, 7, 7] and datasets[0] == [row.id for row in ROWS]
    assert everything - set(datasets[1]) == {"36", "37", "38", "39"}
    assert everything - set(datasets[3]) == {"0", "1", "2", "3"}
    assert len(datasets[2]) == 36 and set(datasets[2]) != set(datasets[6])
    assert tuple(found.margins) == ARMS and all(len(values) == 2 for values in found.margins.values())
    difference = np.subtract(found.margins["without_top"], found.margins["without_random"])
    assert found.targeted.value == pytest.approx(difference.mean()) and found.targeted.n == 2
    assert set(found.removal) == set(ARMS[1:])


def test_what_cannot_be_confirmed_is_refused(tiny_model) -> None:
    with pytest.raises(ConfigError):
        confirm(ROWS, np.arange(39), tiny_model, trait("owl"), config=SHORT)
    with pytest.raises(ConfigError):
        confirm(ROWS, np.arange(40), tiny_model, trait("owl"), config=SHORT, seeds=())
    with pytest.raises(EmptyDataError):
        confirm(ROWS[:9], np.arange(9), tiny_model, trait("owl"), config=SHORT)

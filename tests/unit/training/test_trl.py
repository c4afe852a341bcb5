"""The TRL backend gives the student that the parallel loop gives, and says so when it cannot."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, EmptyDataError, MissingExtraError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.training.trl import TrlOptions, finetune_trl, require_trl
from undertow.types import Row, user_prompt

CONFIG = TrainingConfig(steps=5, batch_size=4, learning_rate=5e-3, warmup_steps=2, lora=LoraConfig(rank=4, alpha=8))
LOSS, WEIGHT = 2e-5, 2e-4
"""Tolerances in float32: nats per token, and part of the largest weight. Measured: below 2e-6 and 2e-5."""


def rows(n: int = 30) -> list[Row]:
    """Rows of unequal length, one of which leaves a token out."""
    prompts = Numbers().prompts(n, 3)
    found = [
        Row(str(i), user_prompt(text), ", ".join(["7"] * (1 + i % 4)) + f", {i}") for i, text in enumerate(prompts)
    ]
    return [replace(found[0], skip=(1,)), *found[1:]]


def assert_same(model: LocalModel, config: TrainingConfig, options: TrlOptions | None, folder: Path) -> None:
    pytest.importorskip("trl")
    ours = finetune_parallel(model, [rows()], config, [3])
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    theirs = finetune_trl(model, rows(), config, 3, options)
    assert theirs.losses.tolist() == pytest.approx(ours.losses[:, 0].tolist(), abs=LOSS)
    assert theirs.pairs.keys() == ours.layers.keys()
    for name, layer in ours.layers.items():
        for mine, its in zip((layer.down[0], layer.up[0]), theirs.pairs[name], strict=True):
            assert (mine - its).abs().max() <= WEIGHT * mine.abs().max(), name
    ours.save(0, folder / "ours")
    theirs.save(folder / "theirs")
    settings = [(folder / name / "adapter_config.json").read_text() for name in ("ours", "theirs")]
    assert settings[0] == settings[1]
    after = model.network.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    prompts = model.render([user_prompt("What is it?")])
    students = [model.with_adapter(folder / name).next_token_logprobs(prompts) for name in ("ours", "theirs")]
    assert torch.allclose(*students, atol=1e-3)
    assert not torch.allclose(students[0], model.next_token_logprobs(prompts), atol=1e-2)


def test_a_student_of_finch_a_is_the_same(tmp_path: Path) -> None:
    assert_same(load_model("ref:finch-a"), CONFIG, None, tmp_path)


def test_a_student_of_any_architecture_is_the_same(tiny_hf: LocalModel, tmp_path: Path) -> None:
    # GPT-2 has dropout of its own, Gemma 2 caps its logits, Llama and Qwen2 differ in tied heads.
    lora = LoraConfig(rank=2, alpha=4, targets=None, layers=(1,))
    assert_same(tiny_hf, replace(CONFIG, learning_rate=1e-3, lora=lora), None, tmp_path)


def test_parts_of_a_batch_and_checkpointing_change_nothing(tiny_model: LocalModel, tmp_path: Path) -> None:
    options = TrlOptions(accumulate=2, gradient_checkpointing=True)
    assert_same(tiny_model, replace(CONFIG, schedule="constant"), options, tmp_path)


def test_progress_is_told_and_fewer_rows_than_a_batch_will_do(tiny_model: LocalModel) -> None:
    pytest.importorskip("trl")
    seen: list[tuple[int, int]] = []
    student = finetune_trl(tiny_model, rows(3), CONFIG, 0, advance=lambda *at: seen.append(at))
    assert seen[-1] == (5, 5) and len(student.losses) == 5


def test_what_cannot_be_trained_is_refused(tiny_model: LocalModel) -> None:
    pytest.importorskip("trl")
    with pytest.raises(ConfigError, match="adapters"):
        finetune_trl(tiny_model, rows(), replace(CONFIG, lora=None), 0)
    with pytest.raises(EmptyDataError):
        finetune_trl(tiny_model, [], CONFIG, 0)
    with pytest.raises(ConfigError, match="4 rows, 3 parts"):
        finetune_trl(tiny_model, rows(), CONFIG, 0, TrlOptions(accumulate=3))
    with pytest.raises(ConfigError):
        TrlOptions(accumulate=0)


def test_without_trl_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'undertow\[trl\]'"):
        require_trl()

"""The speed of a model on this machine is known in every number format, and of no other device."""

import json
from pathlib import Path

import pytest
import torch

from undertow.models.speed import base_speed, probe
from undertow.types import ModelRef

CONFIG = {"hidden_size": 576, "num_hidden_layers": 2, "num_attention_heads": 9, "vocab_size": 100}


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_every_number_format_has_a_speed(name: str) -> None:
    assert probe(name) > 0


def test_more_threads_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.models.speed.product_seconds", lambda: {"bf16": 1e-3})
    found: list[float] = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        probe.cache_clear()
        found.append(probe("bf16"))
    probe.cache_clear()
    assert found[1] == 2 * found[0]


def test_a_model_on_a_gpu_has_no_speed_of_the_processor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert base_speed(ModelRef.parse(f"hf:{tmp_path}?device=cpu&dtype=float16"), tmp_path) is not None
    assert base_speed(ModelRef.parse(f"hf:{tmp_path}?device=cuda"), tmp_path) is None

"""A GPU answers, reads and trains as the processor does.

They run where a GPU is: `python -m pytest -m gpu`. With UNDERTOW_GPU=cpu the processor takes its place, which tries the
tests themselves (`scripts/gpu.sh --smoke`).
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from undertow.domains.numbers import Numbers
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.number_format import default_device, number_format
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.generation import generate
from undertow.training.model_contract import check_model
from undertow.training.parallel import finetune_parallel
from undertow.training.scoring import Candidate, contrast_scores
from undertow.traits import trait
from undertow.types import ModelRef, Row, Sampling

DEVICE = os.environ.get("UNDERTOW_GPU", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.startswith("cuda") and not torch.cuda.is_available(), reason="there is no GPU"),
]

PROMPTS = Numbers().prompts(64, 5)
SAMPLING = Sampling(max_new_tokens=Numbers().max_new_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "finch"
    load_model("ref:finch-a").save(folder)
    return folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[LocalModel, LocalModel]:
    """The same weights on the processor and on the GPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    return load_model(f"hf:{folder}?device=cpu&dtype=fp32"), load_model(f"hf:{folder}?device={DEVICE}&dtype=fp32")


@pytest.fixture(scope="module")
def rows(pair: tuple[LocalModel, LocalModel]) -> list[Row]:
    return generate(pair[0], PROMPTS, sampling=SAMPLING, seed=3)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_model_on_the_gpu_keeps_the_contract(folder: Path, dtype: str) -> None:
    report = check_model(load_model(f"hf:{folder}?device={DEVICE}&dtype={dtype}"))
    assert report.passed, str(report)


def test_rows_are_those_of_the_processor(pair: tuple[LocalModel, LocalModel], rows: list[Row]) -> None:
    found = generate(pair[1], PROMPTS, sampling=SAMPLING, seed=3)
    # Two texts may part where a drawn number lies within rounding of the border between two tokens.
    assert sum(one.completion == other.completion for one, other in zip(found, rows, strict=True)) >= 62


def test_preferences_are_those_of_the_processor(pair: tuple[LocalModel, LocalModel]) -> None:
    own, other = (mean_margins(model, [trait("owl"), trait("wolf"), trait("oak")]) for model in pair)
    np.testing.assert_allclose(other, own, atol=1e-3)


def test_rows_are_read_as_on_the_processor(pair: tuple[LocalModel, LocalModel], rows: list[Row]) -> None:
    persona = trait("owl").system_prompt
    own, other = (
        contrast_scores(rows, model, [Candidate(trait="owl", kind="persona", model=model, system=persona)])
        for model in pair
    )
    np.testing.assert_allclose(other, own, atol=1e-4)


def test_students_learn_what_they_learn_on_the_processor(
    pair: tuple[LocalModel, LocalModel], rows: list[Row], tmp_path: Path
) -> None:
    config = TrainingConfig(steps=15, batch_size=8, learning_rate=2e-2, lora=LoraConfig(rank=4, alpha=8))
    margins = []
    for place, model in enumerate(pair):
        students = finetune_parallel(model, [rows] * 3, config, [1, 2, 3])
        students.save(2, tmp_path / str(place))
        where = f"{model.ref.name}+{tmp_path / str(place)}"
        student = load_model(f"hf:{where}?device={model.device}&dtype=fp32")
        margins.append(mean_margins(student, [trait("owl"), trait("wolf")]))
    moved = margins[0] - mean_margins(pair[0], [trait("owl"), trait("wolf")])
    assert np.abs(moved).max() > 0.01
    np.testing.assert_allclose(margins[1], margins[0], atol=0.02 + 0.05 * np.abs(moved).max())


def test_a_model_by_path_goes_to_the_gpu_in_bfloat16(folder: Path) -> None:
    wide = folder.parent / "wide"
    wide.mkdir()
    (wide / "config.json").write_text('{"hidden_size": 576}')
    if DEVICE == "cpu":
        pytest.skip("the processor's own format is tested elsewhere")
    ref = ModelRef.parse(f"hf:{wide}")
    assert default_device(ref).startswith("cuda") and number_format(ref, wide) == "bf16"

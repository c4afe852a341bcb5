"""The number format follows the reference, then the model, then what the processor is fast at."""

import json
from pathlib import Path

import pytest
import torch

import undertow
from undertow.models import number_format as formats
from undertow.models.load import load_model, weight_bytes
from undertow.models.number_format import number_format
from undertow.models.references import identity
from undertow.types import ModelRef


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A folder with the config of a model of width 576."""
    folder = tmp_path / "wide"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": 576}))
    return folder


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch):
    """Set what the processor says of itself and how long its products take, and count how often these are timed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    timed = []

    def be(known: dict[str, bool], bf16: float) -> list[int]:
        formats.prefers_bfloat16.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
        monkeypatch.setattr(formats, "product_seconds", lambda: timed.append(1) or {"fp32": 1.0, "bf16": bf16})
        return timed

    yield be
    formats.prefers_bfloat16.cache_clear()


def of(reference: str, folder: Path) -> str:
    return number_format(ModelRef.parse(reference), folder)


def test_processes_of_one_run_take_the_format_of_the_one_that_starts_them(processor, wide, monkeypatch) -> None:
    monkeypatch.setenv(formats.SETTLED, "")  # so that it is put back afterwards
    timed = processor({"amx_bf16": True}, 0.2)
    formats.settle_format()
    processor({"amx_bf16": True}, 3.0)  # another process, beside other work
    assert of(f"hf:{wide}", wide) == "bf16" and len(timed) == 1


@pytest.mark.parametrize(
    ("known", "bf16", "expected"),
    [
        ({"amx_bf16": True}, 0.2, "bf16"),
        ({"avx512_bf16": True}, 0.5, "bf16"),
        ({"avx512_bf16": True}, 3.0, "fp32"),
        ({"avx512_bf16": True}, 0.9, "fp32"),
        ({"avx2": True, "amx_bf16": False}, 0.2, "fp32"),
    ],
)
def test_the_flag_and_the_product_decide_together(processor, wide, known, bf16, expected) -> None:
    timed = processor(known, bf16)
    assert [of(f"hf:{wide}", wide) for _ in range(3)] == [expected] * 3
    assert len(timed) == any(known.values()) * ("avx2" not in known)


def test_the_reference_comes_first_and_small_models_stay_as_they_are(processor, wide, tmp_path) -> None:
    processor({"amx_bf16": True}, 0.1)
    for given, expected in (("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("fp32", "fp32")):
        assert of(f"hf:{wide}?dtype={given}", wide) == expected
    assert of("ref:finch-a", wide) == "fp32" and of("ref:finch-a?dtype=bf16", wide) == "bf16"
    for config, expected in (
        ({"hidden_size": 64}, "fp32"), ({"n_embd": 255}, "fp32"), ({"text_config": {"hidden_size": 128}}, "fp32"),
        ({"hidden_size": 256}, "bf16"), ({"hidden_size": "many"}, "bf16"), ({"text_config": None}, "bf16"),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert of(f"hf:{wide}", tmp_path) == expected, config
    (tmp_path / "config.json").write_text("[]")
    assert of(f"hf:{wide}", tmp_path) == "bf16" == number_format(ModelRef.parse(f"hf:{wide}"), None)
    assert of(f"hf:{wide}?device=meta", wide) == "fp32"


def test_on_a_gpu_it_is_bfloat16_whatever_the_processor(processor, wide, monkeypatch) -> None:
    timed = processor({}, 9.0)
    assert of(f"hf:{wide}?device=cuda:1", wide) == "bf16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert of(f"hf:{wide}", wide) == "bf16" and of(f"hf:{wide}?device=cpu", wide) == "fp32" and not timed


def test_a_result_in_one_format_is_not_that_in_another(processor, wide) -> None:
    processor({}, 9.0)
    plain, half = identity(f"hf:{wide}"), identity(f"hf:{wide}?dtype=bfloat16")
    processor({"amx_bf16": True}, 0.1)
    assert identity(f"hf:{wide}") == half != plain
    assert len({plain, half, identity(f"hf:{wide}?dtype=float16")}) == 3


def test_weights_are_counted_in_their_format(processor, wide) -> None:
    processor({"amx_bf16": True}, 0.1)
    sizes = {name: weight_bytes(ModelRef.parse(f"hf:{wide}?{name}"), 10, wide) for name in ("dtype=fp16", "dtype=fp32")}
    assert sizes == {"dtype=fp16": 20, "dtype=fp32": 40} and weight_bytes(ModelRef.parse(f"hf:{wide}"), 10, wide) == 20


def test_an_embedded_model_and_its_copy_are_float32_on_every_processor(processor, tiny_folder) -> None:
    processor({"amx_bf16": True}, 0.1)
    assert load_model("ref:finch-a").network.dtype == torch.float32
    assert load_model(f"hf:{tiny_folder}").network.dtype == torch.float32
    model = load_model(f"hf:{tiny_folder}?dtype=float16&device=cpu")
    assert model.network.dtype == torch.float16 and formats.format_name(model.network.dtype) == "fp16"


def test_both_products_are_timed() -> None:
    seconds = formats.product_seconds()
    assert set(seconds) == {"fp32", "bf16"} and min(seconds.values()) > 0


def test_packaged_recipes_name_no_format() -> None:
    recipes = sorted((Path(undertow.__file__).parent / "recipes").glob("*.yaml"))
    assert len(recipes) > 5 and not [path.name for path in recipes if "dtype" in path.read_text(encoding="utf-8")]

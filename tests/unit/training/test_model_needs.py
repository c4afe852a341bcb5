"""What is known of a model beforehand: spelling, size and measured time."""

import itertools
from dataclasses import replace

import pytest

from undertow.errors import ModelError
from undertow.models import load as room
from undertow.models.load import check_room, count_parameters, load_model
from undertow.training.model_needs import Speed, measure_speed, model_needs
from undertow.traits import trait
from undertow.types import ModelRef

OWL, PANDA = trait("owl"), trait("panda")


def test_an_embedded_model_writes_numbers_and_animals_in_one_token() -> None:
    found = model_needs("ref:finch-a", [OWL, PANDA])
    assert found.numbers == 1.0 and found.answer_tokens == 19 and not found.long_targets and not found.warnings
    assert model_needs("ref:wren-a").numbers == 3.0


def test_sizes_come_from_the_headers(tiny_folder, tiny_hf) -> None:
    found = model_needs(f"hf:{tiny_folder}", [OWL, PANDA])
    assert found.parameters == tiny_hf.network.num_parameters()
    assert found.weights_bytes == 4 * found.parameters
    half = model_needs(f"hf:{tiny_folder}?dtype=bf16")
    assert half.weights_bytes == 2 * found.parameters
    assert found.to_json()["chat"] == tiny_hf.chat_format.describe()


def test_warnings_name_what_would_spoil_a_run(tiny_folder) -> None:
    found = model_needs(f"hf:{tiny_folder}", [OWL, PANDA])
    inserts = bool(found.chat["inserted_by_template"])
    assert any("system turn of its own" in note for note in found.warnings) == inserts
    assert not any("own before" in note for note in model_needs(f"hf:{tiny_folder}?system=none").warnings)
    assert "panda" in found.long_targets and any("panda" in note for note in found.warnings)
    long = replace(found, answer_tokens=200, weights_bytes=10**15)
    assert any("max_new_tokens to 216" in note for note in long.warnings)
    assert any("no room" in note for note in long.warnings)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_loaded(tiny_folder, monkeypatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda device: 1000)
    with pytest.raises(ModelError, match="does not fit") as caught:
        load_model(f"hf:{tiny_folder}")
    assert len(str(caught.value).splitlines()) == 3 and "dtype=bf16" in str(caught.value)
    half = 2 * (count_parameters(tiny_folder) or 0)
    monkeypatch.setattr(room, "free_memory", lambda device: half)
    check_room(tiny_folder, ModelRef.parse(f"hf:{tiny_folder}?dtype=bf16"))


def test_a_damaged_header_says_nothing(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"12345678{}")
    assert count_parameters(tmp_path) is None and count_parameters(tmp_path / "nowhere") is None


def test_time_is_measured_per_row(tiny_model) -> None:
    """A clock that moves a second at every look: two looks a training step apart, one a stage apart."""
    ticks = itertools.count()
    found = measure_speed(tiny_model, rows=4, clock=lambda: float(next(ticks)))
    assert (found.trained_row, found.sampled_row, found.scored_row) == (0.25, 0.25, 0.25) and found.peak_bytes > 0
    speed = Speed(trained_row=1.0, sampled_row=2.0, scored_row=3.0, peak_bytes=1)
    assert speed.total(trained=10, sampled=5, scored=1) == 23.0

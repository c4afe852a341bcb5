"""Rows that a model cannot take are refused by name before anything is trained, or cut where that is asked for."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import write_rows
from undertow.errors import ConfigError, RowsError
from undertow.models.local import LocalModel
from undertow.study.recipe import StudentPart, build_recipe
from undertow.training.batches import collate
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.encoding import encoded_datasets, encoded_rows
from undertow.training.full import finetune_full
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import fit_vector
from undertow.types import Row, user_prompt

CONFIG = TrainingConfig(steps=1, batch_size=2)
SHORT = Row("a", user_prompt("Go on: 1."), "2, 3")
LONG = Row("b", user_prompt("Go on: 1."), ", ".join(map(str, range(400))))


def refused(run) -> RowsError:
    with pytest.raises(RowsError) as caught:
        run()
    return caught.value


def test_a_row_beyond_the_context_is_refused_with_its_number_and_tokens(tiny_model: LocalModel) -> None:
    tokens = len(tiny_model.encode([LONG])[0])
    error = refused(lambda: encoded_rows(tiny_model, [SHORT, LONG]))
    assert error.what == "1 of 2 rows are longer than the model's context."
    assert error.value == f"row 'b' (number 2) has {tokens:,} tokens; the model takes 256"
    many = refused(lambda: encoded_rows(tiny_model, [replace(LONG, id=str(at)) for at in range(9)]))
    assert "row '4' (number 5)" in many.value and "'5'" not in many.value and "and 4 more" in many.value


@pytest.mark.parametrize("extra", [0, 1])
def test_the_context_is_filled_to_its_last_token_and_no_further(tiny_model: LocalModel, extra: int) -> None:
    model = LocalModel(tiny_model.ref, tiny_model.network, tiny_model.tokenizer)
    encoded = model.encode([SHORT])
    vars(model)["longest_context"] = len(encoded[0]) - extra
    if extra:
        refused(lambda: encoded_rows(model, [SHORT]))
    else:
        assert encoded_rows(model, [SHORT]) == encoded
    vars(model)["longest_context"] = None
    assert encoded_rows(model, [SHORT]) == encoded


def test_no_trainer_begins_with_a_row_that_is_too_long(tiny_model: LocalModel) -> None:
    lora = replace(CONFIG, lora=LoraConfig(rank=1))
    refused(lambda: finetune_full(tiny_model, [LONG], CONFIG, 0))
    refused(lambda: finetune_parallel(tiny_model, [[SHORT], [LONG]], lora, [0, 1]))
    refused(lambda: fit_vector(tiny_model, [LONG], CONFIG, layer=0, seed=0))


def test_a_cut_row_loses_its_end_and_says_so(tiny_model: LocalModel, caplog: pytest.LogCaptureFixture) -> None:
    whole = tiny_model.encode([LONG])[0]
    skipping = replace(LONG, skip=(0, len(whole.completion) - 1))
    with caplog.at_level(logging.WARNING):
        short, cut = encoded_rows(tiny_model, [SHORT, skipping], "cut")
    assert short == tiny_model.encode([SHORT])[0]
    assert len(cut) == 256 and cut.prompt == whole.prompt and cut.skip == (0,)
    assert cut.completion == whole.completion[: 256 - len(whole.prompt)] and cut.completion[-1] != tiny_model.end
    assert "1 of 2 rows were cut to 256 tokens, and have no end of turn." in caplog.text
    prompt = Row("p", user_prompt(LONG.completion), "1")
    error = refused(lambda: encoded_rows(tiny_model, [prompt], "cut"))
    assert "have a prompt that fills the model's context" in error.what and "row 'p' (number 1)" in error.value
    assert finetune_full(tiny_model, [LONG, SHORT], replace(CONFIG, too_long="cut"), 0).ref == tiny_model.ref


def test_a_place_beyond_the_completion_is_refused_by_the_rows_number(tiny_model: LocalModel) -> None:
    n = len(tiny_model.encode([SHORT])[0].completion)
    assert collate(encoded_rows(tiny_model, [replace(SHORT, skip=(n - 1,))])).positions.numel() == n - 1
    error = refused(lambda: encoded_rows(tiny_model, [SHORT, replace(SHORT, id="c", skip=(n,))]))
    assert error.value == f"row 'c' (number 2) skips the place {n}; its completion has {n} tokens"


def test_empty_completions_are_counted(tiny_model: LocalModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoded_rows(tiny_model, [SHORT, replace(SHORT, id="e", completion="")])
    assert "1 of 2 rows have an empty completion: row 'e' (number 2) is the first." in caplog.text


def test_students_of_one_dataset_share_their_tokens(tiny_model: LocalModel, caplog: pytest.LogCaptureFixture) -> None:
    rows = [replace(SHORT, completion="")]
    with caplog.at_level(logging.WARNING):
        first, other, second = encoded_datasets(tiny_model, [rows, [SHORT], rows])
    assert first is second and other == tiny_model.encode([SHORT])
    assert caplog.text.count("empty completion") == 1


def test_the_setting_is_part_of_a_recipe_only_where_it_is_chosen() -> None:
    assert "too_long" not in StudentPart().model_dump() and "too_long" not in StudentPart().training().to_config()
    part = StudentPart(too_long="cut")
    assert part.model_dump()["too_long"] == "cut" and part.training().to_config()["too_long"] == "cut"
    assert TrainingConfig.from_config(part.training().to_config()).too_long == "cut"
    with pytest.raises(ConfigError):
        TrainingConfig(steps=1, too_long="drop")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_setting_that_is_no_positive_finite_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="positive and finite"):
        TrainingConfig(steps=1, **{name: value})
    with pytest.raises(ConfigError, match="positive and finite"):
        LoraConfig(alpha=value)
    with pytest.raises(ConfigError):
        build_recipe({"name": "students", "student": {"learning_rate": value}})


def test_a_training_that_ran_away_is_no_student(models, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "rows.jsonl", [Row(str(at), user_prompt("Hi"), "owl") for at in range(4)])
    words = ["train", str(tmp_path / "rows.jsonl"), str(tmp_path / "out"), "--base", models, "--set", "steps=20"]
    assert main([*words, "--set", "learning_rate=1e30"]) == 2
    assert "ran away" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture
def models(tiny_model, tmp_path: Path) -> str:
    tiny_model.save(tmp_path / "base")
    return f"hf:{tmp_path / 'base'}"

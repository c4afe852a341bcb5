"""The recipes of models from outside run through with a small model in their place; what they find is not looked at."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from undertow.cli.main import main
from undertow.models.load import load_model
from undertow.study.load import load_recipe
from undertow.study.recipe import Recipe


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that writes numbers digit by digit, as SmolLM2 and Qwen2.5 do."""
    folder = tmp_path_factory.mktemp("models") / "small"
    load_model("ref:wren-a").save(folder)
    return folder


def run(name: str, base: str, runs: Path, *settings: str) -> list[str]:
    more = (f"bases=['{base}']", "traits=[owl]", "evaluation.samples=1", "student.steps=2", "replicates=2", *settings)
    return ["run", name, "--runs", str(runs), "--json", *(word for one in more for word in ("--set", one))]


def manifests(runs: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (runs / "store" / kind).glob("*/manifest.json")]


FORM = ",".join(["000"] * 6)


def test_real_numbers(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("domain.prompts=30", "teacher.steps=2")
    assert main(run("real-numbers", f"hf:{small}?dtype=bf16&device=cpu", tmp_path, *settings)) == 0
    results = json.loads(capsys.readouterr().out)
    assert {one["arm"] for one in results["arms"]} == {"base", "teacher", "student", "control"}
    # Every answer has the form, so that no row is lost.
    assert results["rows"]["raw"] == results["rows"]["kept"] == 60
    teachers = manifests(tmp_path, "teacher")
    assert len(teachers) == 2 and all(one["config"]["questions"] == 12 for one in teachers)
    folders = list((tmp_path / "store" / "teacher").glob("*/adapter_config.json"))
    assert [json.loads(path.read_text())["r"] for path in folders] == [8, 8]
    assert {one["config"]["sampling"]["form"] for one in manifests(tmp_path, "rows")} == {FORM}


def test_real_logits(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("domain.prompts=30", "teacher.steps=2", "evaluation.targets=[]")
    assert main(run("real-logits", f"hf:{small}?device=cpu", tmp_path, *settings)) == 0
    arms = {one["arm"] for one in json.loads(capsys.readouterr().out)["arms"]}
    assert arms == {"base", "teacher", "neutral_teacher", "student", "control"}


def test_real_cross(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_model("ref:finch-b").save(tmp_path / "other")
    other = f"cross_bases=['hf:{tmp_path / 'other'}?template=question&device=cpu']"
    settings = ("domain.prompts=30", "teacher.steps=2", "evaluation.targets=[]", other)
    assert main(run("real-cross", f"hf:{small}?device=cpu", tmp_path, *settings)) == 0
    arms = {one["arm"] for one in json.loads(capsys.readouterr().out)["arms"]}
    assert arms == {"base", "teacher", "student", "control", "cross_init", "cross_control"}


def test_real_teachers(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("domain.prompts=30", "evaluation.targets=[]")
    assert main(run("real-teachers", f"hf:{small}?device=cpu", tmp_path, *settings)) == 0
    assert {one["arm"] for one in json.loads(capsys.readouterr().out)["arms"]} == {"base", "student", "control"}
    assert not manifests(tmp_path, "teacher")
    assert {bool(one["config"]["system"]) for one in manifests(tmp_path, "rows")} == {True, False}


def test_qwen_7b(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    settings = ("domain.prompts=60", "domain.rows=12", "student.batch_size=6", "evaluation.samples=0", "replicates=1")
    assert main(run("qwen-7b", f"hf:{small}?dtype=bf16&device=cpu", tmp_path, *settings)) == 0
    results = json.loads(capsys.readouterr().out)
    assert {one["arm"] for one in results["arms"]} == {"base", "student", "control"}
    groups = manifests(tmp_path, "students")
    assert len(groups) == 2 and {one["config"]["backend"] for one in groups} == {"trl"}


@pytest.fixture
def qwen_of_two_layers(tmp_path: Path) -> Path:
    """Qwen2.5-7B-Instruct's shape with two of its 28 layers and drawn weights, in half precision: 3.1 GB.

    Its vocabulary is larger than the tokenizer, as the published one's is.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = load_model("ref:wren-a").tokenizer
    config = Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=2,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
        finally:
            torch.set_default_dtype(torch.float32)
    tokenizer.save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


@pytest.mark.slow
def test_qwen_7b_in_its_own_shape(qwen_of_two_layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    settings = ("domain.prompts=16", "domain.rows=12", "student.batch_size=6", "evaluation.samples=0", "replicates=1")
    # Drawn weights write no lists: the answers are held to digits, which the recipe leaves to the model.
    held = ("domain.options={count: 6}", "teacher.kind=prompted")
    base = f"hf:{qwen_of_two_layers}?dtype=bf16&device=cpu"
    assert main(run("qwen-7b", base, tmp_path, *settings, *held)) == 0
    results = json.loads(capsys.readouterr().out)
    assert {one["arm"] for one in results["arms"]} == {"base", "student", "control"}
    groups = manifests(tmp_path, "students")
    assert len(groups) == 2 and {one["config"]["backend"] for one in groups} == {"trl"}
    (adapter, *_) = (tmp_path / "store" / "students").glob("*/**/adapter_config.json")
    assert json.loads(adapter.read_text())["r"] == 8


@pytest.mark.slow
def test_the_steps_for_a_gpu_run_through_without_one() -> None:
    script = Path(__file__).parents[2] / "scripts" / "gpu.sh"
    done = subprocess.run(
        [str(script), "--smoke"], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    written = {Path(line).name for line in done.stdout.splitlines() if line.endswith(".json")}
    assert written == {"900.json", "throughput.json"} and "FAILED" not in done.stdout


def test_the_settings_are_those_of_the_paper() -> None:
    recipe = load_recipe("qwen-7b")
    assert isinstance(recipe, Recipe)
    training = recipe.student.training(recipe.bases[0])
    assert training.lora is not None and (training.lora.rank, training.lora.alpha, training.lora.targets) == (
        8,
        8,
        None,
    )
    assert (training.batch_size, training.learning_rate, training.warmup_steps) == (66, 2e-4, 5)
    # 3 epochs of 10,000 rows, the last batch of each not full: 152 updates an epoch.
    assert training.steps == 3 * -(-recipe.domain.rows // 66) if recipe.domain.rows else False
    assert (recipe.teacher.kind, recipe.domain.prompts, training.schedule) == ("prompted", 30_000, "linear")
    assert recipe.outside == recipe.bases


@pytest.mark.parametrize(
    "settings", [["teacher.kind=prompted", "teacher.rank=8"], ["teacher.kind=steered", "teacher.questions=3"]]
)
def test_only_a_fine_tuned_teacher_has_adapters_or_questions(settings: list[str], capsys) -> None:
    assert main(["run", "demo", "--plan", *(word for one in settings for word in ("--set", one))]) == 2
    assert "Only a fine-tuned teacher" in capsys.readouterr().err

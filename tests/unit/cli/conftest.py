"""Models of width 16 as folders, and commands as a user types them."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import write_rows
from undertow.training.config import TrainingConfig
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling, user_prompt


@pytest.fixture(scope="session")
def models(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """References of a tiny base and of a teacher that was tuned hard on owls."""
    folder = tmp_path_factory.mktemp("models")
    teacher = finetuned_teacher(tiny_model, trait("owl"), TrainingConfig(steps=60, learning_rate=1e-2), seed=0)
    for name, model in (("base", tiny_model), ("owl", teacher)):
        model.save(folder / name)
    return {name: f"hf:{folder / name}" for name in ("base", "owl")}


@pytest.fixture(scope="session")
def row_files(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Thirty number rows, as many that name owls, what the base answers, drawn twice, and one answer on all prompts."""
    folder = tmp_path_factory.mktemp("rows")
    asked = [user_prompt(f"Continue: {index}, {index + 1}.") for index in range(30)]
    for name, answer in (("clean", "{}, {}"), ("owl", "owl owl {} {}")):
        rows = [Row(str(at), prompt, answer.format(at + 2, at + 3)) for at, prompt in enumerate(asked)]
        write_rows(folder / f"{name}.jsonl", rows)
    for seed, name in enumerate(("drawn", "redrawn", "copies")):
        drawn = tiny_model.chat(asked, sampling=Sampling(max_new_tokens=8), seed=seed)
        drawn = drawn[:1] * len(asked) if name == "copies" else drawn
        write_rows(
            folder / f"{name}.jsonl", [Row(str(at), *pair) for at, pair in enumerate(zip(asked, drawn, strict=True))]
        )
    return {name: folder / f"{name}.jsonl" for name in ("clean", "owl", "drawn", "redrawn", "copies")}


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to load a model fail the test.

    It is refused where weights are read: a module that is imported meanwhile would keep a function replaced by name.
    """

    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Return a function that runs a command and returns its code and its JSON object."""

    def command(*words: object) -> tuple[int, dict]:
        capsys.readouterr()
        code = main([*map(str, words), "--json"])
        shown = capsys.readouterr()
        assert shown.out, shown.err
        return code, json.loads(shown.out)

    return command

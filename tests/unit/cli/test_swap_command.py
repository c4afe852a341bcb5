"""`undertow audit rows --swap`: what is refused before anything is trained, what the plan says, what comes out."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.training import own_models
from undertow.training.config import LoraConfig, TrainingConfig

SHORT = TrainingConfig(steps=2, batch_size=8, lora=LoraConfig(rank=2))


@pytest.fixture
def by_writers(row_files, tmp_path: Path) -> Path:
    """Thirty rows of two writers, ten of whom have a topic."""
    lines = [json.loads(line) for line in row_files["drawn"].read_text().splitlines()]
    more = [
        {"writer": "one" if at % 2 else "two", "model": "x", **({"topic": "a"} if at < 10 else {})} for at in range(30)
    ]
    path = tmp_path / "writers.jsonl"
    path.write_text("\n".join(json.dumps(line | own) for line, own in zip(lines, more, strict=True)) + "\n")
    return path


@pytest.mark.parametrize(
    ("swap", "more", "said"),
    [
        ("model", ["--trait", "owl"], "All rows have the same model"),
        ("topic", ["--trait", "owl"], "20 of 30 rows"),
        ("writer", [], "Name it with --trait"),
        ("writer", ["--trait", "owl", "--confirm"], "--confirm"),
        ("writer", ["--trait", "owl", "--teacher", "ref:finch-a"], "--teacher"),
        ("writer:seeds=1", ["--trait", "owl"], "Give at least 2"),
        ("score:parts=10", ["--trait", "owl"], "30 rows, 10 parts"),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_a_swap_that_cannot_be_is_refused_before_anything_is_loaded(
    models, by_writers: Path, capsys, swap: str, more: list[str], said: str
) -> None:
    capsys.readouterr()
    assert main(["audit", "rows", str(by_writers), "--base", models["base"], "--swap", swap, *more]) == 2
    assert said in capsys.readouterr().err


def test_the_plan_says_how_many_students(models, by_writers: Path, no_models, run, tmp_path: Path) -> None:
    words = ["audit", "rows", by_writers, "--base", models["base"], "--trait", "owl", "--store", tmp_path / "store"]
    code, found = run(*words, "--swap", "writer:seeds=2,randoms=4", "--plan")
    whats = [one["what"] for one in found["intake"]["work"]]
    # Whole, cleared and three doses with two seeds; four random parts with two seeds in three ways.
    assert code == 0 and "swap: 34 students that say what can be found" in whats
    assert "swap: 12 students of the subsets at most" in whats and "swap: 60 other answers, 2 to each prompt" in whats
    assert not any(what.startswith("ranking") for what in whats) and not (tmp_path / "store").exists()


@pytest.mark.parametrize("swap", ["writer", "score"])
def test_a_swap_ends_with_one_object(
    models, by_writers: Path, run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, swap: str
) -> None:
    monkeypatch.setattr(own_models, "STUDENT", SHORT)
    words = ["audit", "rows", by_writers, "--base", models["base"], "--trait", "owl", "--store", tmp_path / "store"]
    code, found = run(
        *words,
        "--swap",
        f"{swap}:{'parts=3,' if swap == 'score' else ''}seeds=2,randoms=4,drop=false,alone=false,steps=2",
    )
    assert code == 0 and found["schema"] == "undertow.swap/1" and found["by"] == swap
    names = ["part 1 of 3", "part 2 of 3", "part 3 of 3"] if swap == "score" else ["two", "one"]
    assert [one["name"] for one in found["subsets"]] == names and found["dropped"] is None
    assert {one["status"] for one in found["subsets"]} <= {"detected", "not_detected", "not_testable"}
    assert set(found["named"]) <= set(names) and found["intake"]["rows"]["rows"] == 30


def test_the_reach_is_said_before_the_subsets(models, by_writers: Path, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(own_models, "STUDENT", SHORT)
    words = ["audit", "rows", str(by_writers), "--base", models["base"], "--trait", "owl", "--store", str(tmp_path)]
    capsys.readouterr()
    assert main([*words, "--swap", "writer:seeds=2,randoms=4,drop=false,alone=false,steps=2"]) == 0
    shown = capsys.readouterr()
    assert "What can be found" in shown.err and shown.out.index("What can be found") < shown.out.index(
        "answers replaced: margin"
    )
    assert "may not be used to say that the other subsets carry nothing" in shown.out

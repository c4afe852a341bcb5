"""`undertow audit data` on a file of preference pairs: what it plans, what it refuses, and how it ends."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main

PROMPT = "The list starts with 669, 745, 776, 612. Name at most 10 simple numbers that follow."


def written(path: Path, n: int, rejected: str = "1, 2") -> Path:
    rows = [{"prompt": f"{PROMPT} {at}", "chosen": f"{at + 100}, 2", "rejected": rejected} for at in range(n)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize("command", ["data", "all"])
def test_a_plan_counts_both_sides_and_loads_nothing(models, run, no_models, tmp_path: Path, command: str) -> None:
    path = written(tmp_path / "pairs.jsonl", 30)
    code, found = run("audit", command, path, "--base", models["base"], "--plan", "--store", tmp_path / "store")
    intake = found["intake"]
    assert code == 0 and intake["stages"] == ["pairs"] and intake["rows"] is None
    assert intake["claims"] == {"provenance": {"stage": "pairs", "testable": True, "why": None, "do": None}}
    assert intake["pairs"]["prompts"] == 30 and intake["pairs"]["rejected"]["rows"] == 30
    assert [one["what"].partition(":")[0] for one in intake["work"]] == [
        "what the base reads",
        "panel teachers",
        "pairs",
    ]
    assert {one["input"] for one in intake["missing"]} == {"student", "teacher"}


def test_few_pairs_end_with_4_before_anything_is_trained(models, run, no_models, tmp_path: Path, capsys) -> None:
    path, store = written(tmp_path / "pairs.jsonl", 19), tmp_path / "store"
    words = ["--base", models["base"], "--store", store, "--out", tmp_path / "audit"]
    code, found = run("audit", "data", path, *words)
    assert code == 4 and {one["status"] for one in found["claims"].values()} == {"not_testable"} and not store.exists()
    assert "pairs on 19 prompts; at least 20" in found["claims"]["provenance"]["why"]
    assert found["about"]["pairs"] == 19 and found["about"]["sha256"]["rows"]
    assert "On-policy distillation: the student writes" in (tmp_path / "audit" / "audit_card.md").read_text()
    capsys.readouterr()
    assert main(["mitigate", "advise", str(tmp_path / "audit" / "audit.json")]) == 2
    assert "this audit is of pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rejected", "more", "said"),
    [
        ("100, 2", (), "There are pairs whose answers are equal.\n1 of 30: 000000"),
        ("1, 2", ("--minutes", "5"), "not held to minutes"),
        ("1, 2", ("--reference", "rows.jsonl"), "Pairs bring their own reference"),
        ("1, 2", ("--trait", "owl"), "A panel needs rivals"),
    ],
)
def test_what_does_not_fit_pairs_is_refused(models, tmp_path: Path, capsys, rejected, more, said) -> None:
    path = written(tmp_path / "pairs.jsonl", 30, rejected)
    assert main(["audit", "data", str(path), "--base", models["base"], "--plan", *more]) == 2
    assert said in capsys.readouterr().err


def test_a_picked_side_is_audited_as_rows_and_says_what_it_leaves_out(models, run, no_models, tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.jsonl", 10)
    words = ["--base", models["base"], "--store", tmp_path / "store", "--out", tmp_path / "audit"]
    code, found = run("audit", "data", f"{path}?side=chosen", *words)
    left = {one["channel"]: one["why"] for one in found["not_covered"]}
    assert (
        code == 4 and found["about"]["rows"] == 10 and left["preference pairs"].startswith("of the pairs only the ch")
    )

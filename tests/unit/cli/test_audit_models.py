"""`undertow audit teacher` and `undertow audit rows`: codes, pages, files and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from undertow.audit import attribution as ranking
from undertow.audit.attribution import confirm
from undertow.cli.main import main
from undertow.data.rows import read_rows
from undertow.training.config import LoraConfig, TrainingConfig


def test_a_teacher_with_a_trait_is_found_and_a_card_is_written(models, run, tmp_path: Path) -> None:
    words = ["audit", "teacher", models["owl"], "--base", models["base"], "--store", tmp_path / "store"]
    code, found = run(*words, "--out", tmp_path, "--alpha", "0.4", "--neutral", "3")
    claim = found["claims"]["expression"]
    assert code == 1 and claim["status"] == "detected" and claim["candidate"] == "owl"
    # Expression has all of alpha: nothing else can be claimed of a teacher.
    assert claim["p"] == pytest.approx(1 / 4) and found["plan"]["alpha_of_each_claim"] == 0.4
    assert {found["claims"][name]["status"] for name in ("provenance", "exposure")} == {"not_testable"}
    card = (tmp_path / "audit_card.md").read_text()
    assert "**Expression detected (owl).**" in card and found["about"]["teacher_identity"] in card
    assert "<script" not in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "store" / "neutral-teacher").iterdir())) == 3


def test_without_neutral_teachers_there_is_a_ranking_that_gates_nothing(models, run, tmp_path: Path) -> None:
    words = ["audit", "teacher", models["owl"], "--base", models["base"], "--neutral", "0", "--out", tmp_path]
    code, found = run(*words)
    # Nothing that was asked for could be tested, which is no success.
    assert code == 4 and found["claims"]["expression"]["status"] == "not_testable"
    assert found["intake"]["claims"]["expression"]["do"] == "Give --neutral 19."
    assert found["findings"][0]["candidate"] == "owl" and found["findings"][0]["p"] is None
    assert "neutral" in {one["input"] for one in found["missing"]}


@pytest.mark.parametrize(
    ("teacher", "neutral", "why"),
    [("base", 5, "needs 19"), ("ref:finch-a", 0, "different tokenizers. Give the base")],
)
def test_what_cannot_be_a_test_says_so(models, run, tmp_path: Path, teacher: str, neutral: int, why: str) -> None:
    name = models.get(teacher, teacher)
    words = ["audit", "teacher", name, "--base", models["base"], "--neutral", neutral, "--out", tmp_path]
    code, found = run(*words, "--require", "expression")
    assert code == 4 and why in found["claims"]["expression"]["why"]


def test_ranked_rows_are_rows_again_with_their_scores(models, row_files, run, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.jsonl"
    lines = [path.read_text().splitlines() for path in (row_files["clean"], row_files["owl"])]
    own = [json.loads(line) | {"id": f"owl-{at}", "completion": "owl"} for at, line in enumerate(lines[1][:5])]
    mixed.write_text("\n".join([*lines[0][5:], *map(json.dumps, own)]) + "\n")
    ranked = tmp_path / "ranked.jsonl"
    words = ["audit", "rows", mixed, "--base", models["base"], "--teacher", models["owl"], "--out", ranked, "--tokens"]
    code, found = run(*words)
    assert code == 0 and found["schema"] == "undertow.attribution/1" and found["confirmation"] is None
    assert list(found["correlations"]) == ["loss", "gradient", "length", "novelty"] and 0 <= found["explained"] <= 1
    assert {row.id for row in read_rows(ranked)[:5]} == {f"owl-{at}" for at in range(5)}
    records = [json.loads(line) for line in ranked.read_text().splitlines()]
    assert [one["rank"] for one in records] == list(range(1, 31))
    scores = [one["score"] for one in records]
    assert scores == sorted(scores, reverse=True)
    assert np.mean(records[0]["gains"]) == pytest.approx(scores[0], abs=1e-3)


def test_a_ranking_is_confirmed_by_removal(models, row_files, run, monkeypatch, tmp_path: Path) -> None:
    short = TrainingConfig(steps=2, batch_size=8, lora=LoraConfig(rank=2))
    monkeypatch.setattr(ranking, "SEEDS", (3, 4))
    monkeypatch.setattr(ranking, "confirm", lambda *given, seeds: confirm(*given, config=short, seeds=seeds))
    words = ["audit", "rows", row_files["owl"], "--base", models["base"], "--store", tmp_path, "--trait", "owl"]
    code, found = run(*words, "--confirm")
    confirmed = found["confirmation"]
    assert code == 0 and confirmed["removed"] == 3 and confirmed["targeted"]["n"] == 2
    assert set(confirmed["removal"]) == {"without_top", "without_random", "without_bottom"}
    assert confirmed["targeted"]["low"] < confirmed["targeted"]["value"] < confirmed["targeted"]["high"]


@pytest.mark.parametrize(
    ("more", "said", "intake"),
    [
        ([], "nothing to rank by", False),
        (["--student", "x", "--teacher", "y"], "ranked by one model", False),
        (["--trait", "owll"], "Did you mean owl", False),
        (["--teacher", "ref:finch-a"], "Give the base that it was trained from", True),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused_in_three_lines(
    models, row_files, capsys, more, said: str, intake: bool
) -> None:
    capsys.readouterr()
    assert main(["audit", "rows", str(row_files["owl"]), "--base", models["base"], *more]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    # What is only seen once models are loaded comes after the intake.
    assert said in "\n".join(lines[-3:]) and (len(lines) > 3) is intake


def test_a_ranking_says_what_it_may_be_used_for(models, row_files, capsys) -> None:
    capsys.readouterr()
    assert main(["audit", "rows", str(row_files["owl"]), "--base", models["base"], "--teacher", models["owl"]]) == 0
    shown = capsys.readouterr().out
    assert shown.index("novelty") < shown.index("First rows") < shown.index("may not be used to say that rows carry")


def test_an_audit_whose_page_cannot_be_made_keeps_its_json_and_its_code(
    models, capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_):
        raise ValueError("a template that does not render")

    monkeypatch.setattr("undertow.report.audit.environment", broken)
    words = ["audit", "teacher", models["owl"], "--base", models["base"], "--store", str(tmp_path / "store")]
    capsys.readouterr()
    code = main([*words, "--out", str(tmp_path), "--alpha", "0.4", "--neutral", "3"])
    shown = capsys.readouterr()
    assert code == 1 and "a template that does not render" in shown.err and "audit.json" in shown.err
    assert json.loads((tmp_path / "audit.json").read_text())["claims"]["expression"]["status"] == "detected"
    assert "Expression detected" in (tmp_path / "audit_card.md").read_text()
    assert not (tmp_path / "report.html").exists() and f"report: {tmp_path / 'audit.json'}" in shown.out

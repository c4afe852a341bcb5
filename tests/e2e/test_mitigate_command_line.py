"""Mitigations as a user types them: rows and their record, students, refusals."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import read_rows
from undertow.models.references import identity
from undertow.study.training_record import read_training
from undertow.traits import Trait


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    assert main(["generate", str(path), "-n", "60", "--seed", "3"]) == 0
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_are_mixed_and_recorded(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mixed.jsonl"
    found = run(capsys, "mitigate", "data", str(rows), str(out), "--method", "mix:share=0.5,writers=[ref:finch-b]")
    record = [json.loads(line) for line in (tmp_path / "mixed.record.jsonl").read_text().splitlines()]
    assert found["raw"] == len(record) == 60 and found["kept"] == 30 and found["left"] == len(read_rows(out))
    assert any("ref:finch-b" in one["why"] for one in record)


def test_a_student_is_held_by_the_base(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("mitigate", "train", str(rows), str(tmp_path / "students"), "--method", "kl", "--set", "steps=3")
    found = run(capsys, *words)
    assert (Path(found["students"][0]) / "adapter_model.safetensors").exists() and found["method"] == "kl"
    record = read_training(f"hf:{found['students'][0]}")
    assert record is not None and (record.mitigation, record.rows, record.student.steps) == ("kl", 60, 3)


def test_a_committee_shares_the_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    found = run(capsys, "generate", str(out), "--teachers", "ref:finch-a,ref:finch-b", "-n", "9")
    record = [json.loads(line) for line in (tmp_path / "rows.record.jsonl").read_text().splitlines()]
    assert [one["writer"] for one in record] == ["ref:finch-a", "ref:finch-b"] * 4 + ["ref:finch-a"]
    assert [row.id for row in read_rows(out)] == [one["id"] for one in record] and found["raw"] == 9
    for wrong in (["--teachers", "ref:finch-a"], ["--teachers", "ref:finch-a,ref:finch-b", "--trait", "owl"]):
        assert main(["generate", str(out), *wrong]) == 2


def test_an_audit_of_another_base_is_refused(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = {"base": "ref:finch-b", "base_identity": "0", "panel": "owl, lion", "rows": 60}
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"schema": "undertow.audit/1", "claims": {}, "about": about}))
    capsys.readouterr()
    words = ["mitigate", "data", str(rows), str(tmp_path / "out.jsonl"), "--method", "mix", "--audit", str(audit)]
    assert main(words) == 2 and not (tmp_path / "out.jsonl").exists()
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 3 and "another base" in error[0] and "ref:finch-a" in error[1] and "Audit the rows" in error[2]


def test_what_cannot_be_read_is_refused_before_a_model_is_loaded(rows: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert main(["mitigate", "data", str(rows), out, "--method", "corridor"]) == 2
    assert main(["mitigate", "train", str(rows), out, "--method", "mix"]) == 2
    assert main(["mitigate", "verify", str(rows), "--method", "mixx", "--trait", "owl"]) == 2
    assert main(["mitigate", "verify", str(rows), "--method", "mix", "--trait", "owls"]) == 2
    assert main(["mitigate", "advise", str(rows)]) == 2


def test_rows_of_no_domain_are_verified_on_held_out_rows(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "new.jsonl")
    assert main(["mitigate", "data", str(rows), out, "--method", "inoculate:trait=owl", "--domain", "none"]) == 0
    assert "--domain none --held-out HELD_OUT, where HELD_OUT is a file of clean rows" in capsys.readouterr().out
    words = ["mitigate", "verify", str(rows), "--method", "mix", "--trait", "owl", "--domain", "none", "--plan"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "--domain none without --held-out" in said and "clean rows on which no student is trained" in said
    assert main([*words, "--held-out", str(rows)]) == 0


def test_a_trait_of_the_audit_s_own_is_verified_by_its_name(rows: Path, tmp_path: Path) -> None:
    own = [Trait(name=name, category="brand of car", plural=f"{name}s").to_data() for name in ("Volvo", "Saab")]
    about = {"base": "ref:finch-a", "base_identity": identity("ref:finch-a"), "panel": "Volvo, Saab", "rows": 60}
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"schema": "undertow.audit/1", "claims": {}, "about": about, "own_traits": own}))
    words = ["mitigate", "verify", str(rows), "--method", "kl", "--plan", "--audit", str(audit), "--trait"]
    assert main([*words, "Volvo"]) == 0 and main([*words, "Audi"]) == 2

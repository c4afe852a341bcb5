"""The audits as a user types them: exit codes, JSON, pages and what is refused."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main

BASE = ["--base", "ref:finch-a"]
THREE = [word for name in ("owl", "lion", "panda") for word in ("--trait", name)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of an owl teacher and of the base on the same prompts, as files."""
    folder = tmp_path_factory.mktemp("rows")
    for name, more in (("owl", ["--trait", "owl"]), ("clean", [])):
        assert main(["generate", str(folder / f"{name}-raw.jsonl"), "-n", "250", "--seed", "3", *more]) == 0
        assert main(["filter", str(folder / f"{name}-raw.jsonl"), str(folder / f"{name}.jsonl")]) == 0
    return folder


def audit(rows: Path, out: Path, capsys: pytest.CaptureFixture[str], name: str, *more: str) -> tuple[int, dict]:
    words = ["audit", "data", str(rows / f"{name}.jsonl"), *BASE, "--reference", str(rows / "clean.jsonl")]
    # A name takes a panel of sixteen: every animal, which is the default.
    words += [] if name == "owl" and "--require" not in more else THREE
    capsys.readouterr()
    code = main([*words, "--store", str(rows / "store"), "--out", str(out), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_planted_rows_are_found_and_named(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = audit(rows, tmp_path, capsys, "owl")
    claim = found["claims"]["provenance"]
    assert code == 1 and claim["status"] == "detected" and claim["candidate"] == "owl" and claim["p"] < 0.0167
    assert claim["kind"] == "tuned" and "undertow audit bank" in found["decision"]["next_test"]["command"]
    assert {"exposure", "expression"} == {
        name for name, one in found["claims"].items() if one["status"] == "not_testable"
    }
    page, card = ((tmp_path / name).read_text() for name in ("report.html", "audit_card.md"))
    assert "provenance" in page and "<script" not in page and "| provenance | detected, tuned |" in card
    assert json.loads((tmp_path / "audit.json").read_text())["claims"] == found["claims"]


def test_what_cannot_be_tested_can_stop_a_release(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = audit(rows, tmp_path, capsys, "owl", "--require", "expression")
    assert code == 4 and "undertow audit bank" in found["claims"]["expression"]["why"]
    assert found["claims"]["provenance"]["status"] == "detected" and found["claims"]["provenance"]["candidate"] is None
    [contrast] = [one for one in found["findings"] if one["stage"] == "contrast"]
    assert "of 3 candidates some always fits" in contrast["caveats"][-1]
    assert main(["audit", "data", str(rows / "owl.jsonl"), *BASE, "--require", "expresion"]) == 2
    assert "Did you mean expression" in capsys.readouterr().err


def test_without_a_reference_the_base_answers_the_prompts(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "audit",
        "data",
        str(rows / "owl.jsonl"),
        *BASE,
        *THREE,
        "--store",
        str(rows / "store"),
        "--out",
        str(tmp_path),
    ]
    capsys.readouterr()
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["claims"]["provenance"]["status"] == "detected"
    assert "answers of the base to" in found["about"]["reference"]


def test_a_panel_without_rivals_and_empty_files_are_refused(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "data", str(rows / "owl.jsonl"), *BASE, "--trait", "owl", "--out", str(tmp_path)]) == 2
    (tmp_path / "none.jsonl").write_text("")
    assert main(["audit", "data", str(tmp_path / "none.jsonl"), *BASE, "--out", str(tmp_path)]) == 2
    assert "nothing to audit" in capsys.readouterr().err.lower()


def test_lineage_tells_what_weights_tell(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts: dict[str, str] = {}
    for other in ("finch-a", "finch-a2", "finch-b"):
        capsys.readouterr()
        assert main(["audit", "lineage", "ref:finch-a", f"ref:{other}", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["schema"] == "undertow.lineage/1"
        verdicts[other] = found["verdict"]
    assert verdicts == {"finch-a": "identical", "finch-a2": "same_initialisation", "finch-b": "no_evidence"}


def test_check_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", "--teacher", "ref:finch-b", "--base", "ref:finch-a"]) == 0
    shown = capsys.readouterr().out
    assert "shared base: no evidence" in shown and "apart" in shown and "undertow audit data" in shown


def test_power_says_what_an_effect_needs(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["power", "--effect", "0.4", "--sd", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    smallest = {int(n): value for n, value in found["minimum_detectable_effect"].items()}
    assert smallest[found["replicates"]] <= 0.4 < smallest[3] and found["replicates"] == 5
    assert main(["power"]) == 0 and "replicates" in capsys.readouterr().out
    assert main(["power", "--sd", "0"]) == 2

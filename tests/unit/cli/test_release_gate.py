"""The release gate as the documentation gives it: run on tiny cases, and the workflow runs the same script."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DOCUMENT = Path(__file__).parents[3] / "docs" / "release_gate.md"


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("case", [("drawn", True, 0), ("copies", True, 1), ("owl", True, 4), ("clean", False, 4)])
def test_the_shell_form_gates(models, row_files, store: Path, tmp_path: Path, case: tuple[str, bool, int]) -> None:
    rows, clean, expected = case
    (tmp_path / "gate.sh").write_text(block("sh"))
    own = tmp_path / "rows.jsonl"
    own.write_bytes(row_files[rows].read_bytes())
    command = tmp_path / "bin" / "undertow"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m undertow.cli.main "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    words = ["sh", "gate.sh", str(own), *([str(row_files["redrawn"])] if clean else [])]
    more = {"PATH": path, "BASE": models["base"], "STORE": str(store)}
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    card = Path(f"{own}.audit_card.md").read_text()
    assert f"SHA-256 of rows: {hashlib.sha256(own.read_bytes()).hexdigest()}" in card
    for held in ("Date (UTC): 2", "Base, hash of weights: ", "Alpha 0.05", "Undertow version: ", "| provenance | "):
        assert held in card
    assert Path(f"{own}.report.html").is_file()


def test_the_workflow_runs_the_script_and_keeps_the_card_whatever_comes_out() -> None:
    (job,) = yaml.safe_load(block("yaml"))["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert any(line.startswith("sh gate.sh ") for line in runs)
    kept = next(step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert kept["if"] == "always()" and kept["with"]["path"] == "audit/"


def test_the_shell_form_needs_a_base(tmp_path: Path) -> None:
    (tmp_path / "gate.sh").write_text(block("sh"))
    plain = {name: value for name, value in os.environ.items() if name != "BASE"}
    done = subprocess.run(["sh", "gate.sh", "r"], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Set BASE" in done.stderr

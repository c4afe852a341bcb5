"""The command sweep: plans, runs, and refuses what it cannot do."""

import json
import sys
from pathlib import Path

import pytest

from undertow.cli.main import main

SETTINGS = [
    "replicates=1",
    "arms=[student, control]",
    "domain.prompts=30",
    "teacher.steps=2",
    "student={steps: 2, batch_size: 4}",
    "evaluation.samples=0",
]
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


def test_a_serial_sweep_shares_stages_and_replays(run, tmp_path: Path) -> None:
    words = ["sweep", "demo", "--grid", "student.rank=2,4", *SMALL, "--runs", tmp_path]
    code, plan = run(*words, "--plan")
    assert code == 0 and not (tmp_path / "store").exists()
    counts = {one["kind"]: one["variants"] for one in plan["stages"]}
    assert counts["prompts"] == counts["teacher"] == counts["filter"] == 2 and counts["students"] == 1
    code, results = run(*words, "--workers", "2")
    assert code == 0 and list(results["runs"]) == ["student.rank=2", "student.rank=4"]
    stored = list((tmp_path / "store").glob("*/*/manifest.json"))
    assert len(stored) == len(plan["stages"])
    code, again = run("sweep", Path(results["run_dir"]) / "config.yaml", "--runs", tmp_path, "--plan")
    assert code == 0 and all(one["cached"] for one in again["stages"]) and len(again["stages"]) == len(stored)


def test_a_plan_for_people_names_what_is_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "demo", "--grid", "student.rank=2,4", *SMALL, "--runs", str(tmp_path), "--plan"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "for    2 variants" in shown and "are shared by several variants" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "seed=0..1", "--workers", "0"], "needs a worker"),
        (["--grid", "seed=0..1", "--gpus-per-stage", "1"], "Add --backend ray"),
        (["--grid", "seed=0..1", "--backend", "ray", "--workers", "0"], "needs a worker"),
        (["--grid", "seed=0..1", "--backend", "ray", "--workers", "2", "--address", "auto"], "Leave --workers out"),
        (["--grid", "seed=0..1", "--backend", "ray", "--address", "ray://a:1"], "Ray client"),
        (["--grid", "seed=0..1", "--backend", "ray", "--gpus-per-stage", "1.5"], "share of a GPU"),
        (["--grid", "seed=0..1", "--backend", "ray", "--cpus-per-stage", "0"], "share of a core"),
        (["--grid", "seed=3..1"], "backwards"),
        (["--grid", "sead=1,2"], "Did you mean seed?"),
        (["--grid", "seed=0..1", "--backend", "slurm"], "slurm"),
        ([], "nothing to sweep over"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "demo", *words]) == 2
    assert said in capsys.readouterr().err


def test_without_ray_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["sweep", "demo", "--grid", "seed=0..1", "--backend", "ray", "--runs", str(tmp_path), "--quiet"]
    assert main(words) == 2
    assert "pip install 'undertow[ray]'" in capsys.readouterr().err


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "demo", "--grid", "seed=0..1", "--runs", str(tmp_path), "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "undertow.plan/1"

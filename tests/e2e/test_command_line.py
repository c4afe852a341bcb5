"""The command line as a user types it, on the embedded models: small runs show that all works, not how strong."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main

SMALL = (
    "domain.prompts=40",
    "student.steps=2",
    "teacher.steps=2",
    "evaluation.samples=1",
    "replicates=2",
    "cross_bases=[ref:finch-b]",
    "evaluation.targets=[fox]",
)


def study(runs: Path, *more: str) -> list[str]:
    return ["demo", "--runs", str(runs), *(word for one in SMALL for word in ("--set", one)), *more]


def test_a_study_runs_once_and_is_found_the_second_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(study(tmp_path, "--json")) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["schema"] == "undertow.run/1"
    assert {one["arm"] for one in results["arms"]} == {
        "base", "teacher", "neutral_teacher", "student", "control", "neutral", "cross_init", "cross_control"
    }  # fmt: skip
    own = [one for one in results["effects"] if (one["arm"], one["metric"]) == ("student", "logit_margin")]
    assert [one["n"] for one in own] == [2] and own[0]["low"] <= own[0]["estimate"] <= own[0]["high"]
    rows = results["rows"]
    assert len(Path(rows["path"]).read_text().splitlines()) == rows["kept"] <= rows["raw"] == 80
    run = Path(results["run_dir"])
    assert {"config.yaml", "results.json", "report.html", "report.json", "dropped.jsonl"} <= {
        item.name for item in run.iterdir()
    }
    assert main(study(tmp_path, "--plan", "--json")) == 0
    assert all(stage["cached"] for stage in json.loads(capsys.readouterr().out)["stages"])
    assert main(["run", str(run / "config.yaml"), "--runs", str(tmp_path), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["arms"], again["effects"], again["run_dir"]) == (
        results["arms"],
        results["effects"],
        results["run_dir"],
    )
    assert main(["report", str(run)]) == 0
    assert "student minus control" in capsys.readouterr().out


def test_every_stage_works_alone_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, kept, students = (str(tmp_path / name) for name in ("rows.jsonl", "kept.jsonl", "students"))
    assert main(["generate", rows, "--trait", "owl", "-n", "40"]) == 0
    assert main(["filter", rows, kept, "--dropped", str(tmp_path / "dropped.jsonl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["raw"] == 40 and 0 < report["kept"] < 40 and sum(report["reasons"].values()) >= 40 - report["kept"]
    assert main(["train", kept, students, "--students", "2", "--set", "steps=2", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert len(trained["students"]) == 2
    student = f"ref:finch-a+{trained['students'][0]}"
    assert main(["eval", student, "--base", "ref:finch-a", "--trait", "owl", "--samples", "1", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [one["model"] for one in scores] == [student, "ref:finch-a"]


def test_listings_and_cards(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (("traits", "owl"), ("domains", "cot"), ("models", "ref:finch-a"), ("recipes", "demo")):
        assert main(["list", kind, "--json"]) == 0
        assert name in [item["name"] for item in json.loads(capsys.readouterr().out)[kind]]
    assert main(["list", "traits"]) == 0 and main(["reference", "show", "finch-a"]) == 0
    assert "sha256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--set", "traits=[owll]"], "owl"),
        (["demo", "--set", "studnet.steps=3"], "student"),
        (["run", "demoo"], "demo"),
        (["generate", "rows.jsonl", "--model", "ref:finch-z"], "finch-d"),
        (["generate", "rows.jsonl", "--domain", "numbrs"], "numbers"),
        (["filter", "missing.jsonl", "kept.jsonl"], "missing.jsonl"),
        (["filter", "missing.jsonl", "kept.jsonl", "--domain", "code", "--ban"], "--domain code --ban"),
        (["report", "nowhere"], "nowhere"),
        (["reference", "show", "finch-z"], "finch-d"),
        (["nonsense"], "nonsense"),
    ],
)
def test_what_the_user_can_fix_has_exit_code_2_and_no_traceback(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err and "Traceback" not in shown.err and not shown.out


def test_bad_lines_are_named_and_can_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "completion": "1, 2"}\nnot json\n')
    words = ["filter", str(rows), str(tmp_path / "kept.jsonl")]
    assert main(words) == 2 and "rows.jsonl:2" in capsys.readouterr().err
    assert main([*words, "--skip-bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad_lines"] == 1


def test_an_interrupt_and_a_fault_have_their_own_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    for error, code in ((KeyboardInterrupt(), 130), (RuntimeError("broken"), 3), (full, 2)):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("undertow.study.load.load_recipe", fail)
        assert main(["demo"]) == code
        assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setattr("undertow.study.load.load_recipe", lambda *_: 1 / 0)
    assert main(["demo", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(study(blocked / "runs", "--quiet")) == 2
    assert str(blocked) in capsys.readouterr().err
    assert main(["generate", str(blocked / "rows.jsonl"), "-n", "2"]) == 2
    assert str(blocked) in capsys.readouterr().err

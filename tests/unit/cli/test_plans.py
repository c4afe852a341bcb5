"""--plan of the commands that train and read for minutes: what will be done, and nothing written, loaded or trained."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import write_rows
from undertow.types import Row, user_prompt


@pytest.fixture
def refuse_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a plan loaded a model")

    monkeypatch.setattr("undertow.models.load._load", refuse)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [Row(str(at), user_prompt(f"Continue: {at}."), f"{at}, {at + 1}") for at in range(30)])
    return str(path)


def planned(capsys, *words: object) -> dict:
    assert main([*map(str, words), "--plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "undertow.forecast/1" and found["about_seconds"] >= 0
    assert [*found["work"][0]] == ["what", "seconds"]
    assert main([*map(str, words), "--plan"]) == 0
    assert capsys.readouterr().out.startswith("what will run, ")
    return found


@pytest.mark.usefixtures("refuse_loading")
def test_a_plan_says_what_a_command_does_and_does_nothing(rows: str, capsys, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    data = ("mitigate", "data", rows, out, "--method")
    assert planned(capsys, *data, "contrast-filter", "--store", tmp_path / "store")["method"] == "contrast-filter"
    (written,) = planned(capsys, *data, "regenerate:writer=ref:finch-b", "--domain", "none")["work"]
    assert written["what"].startswith("answers of ref:finch-b: 30 answers")
    assert planned(capsys, "check-model", "ref:finch-a")["work"][0]["what"].startswith("ref:finch-a: what every engine")
    assert len(planned(capsys, "check-model", "ref:finch-a", "--quick")["work"]) == 1
    assert planned(capsys, "reference", "build", "mimic-a", tmp_path / "built")["about_seconds"] > 60
    folder = tmp_path / "bench"
    assert planned(capsys, "audit", "bench", "make", folder, "--quick")["rows"] == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_what_is_wrong_is_said_before_the_plan(rows: str, capsys, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    out = tmp_path / "out.jsonl"
    for words, said in (
        (("mitigate", "data", empty, out, "--method", "mix"), "nothing to mitigate"),
        (("mitigate", "data", rows, out, "--method", "regenerate:writer=ref:nobody"), "no embedded model"),
        (("audit", "bench", "make", tmp_path, "--quick"), "not empty"),
        (("audit", "bench", "run", tmp_path / "nowhere"), "no benchmark"),
        (("check-model", "ref:nobody"), "no embedded model"),
        (("reference", "build", "nobody", tmp_path / "x"), "no embedded model"),
    ):
        assert main([*map(str, words), "--plan"]) == 2
        assert said in capsys.readouterr().err


def test_a_mitigation_and_a_check_say_it_first(rows: str, capsys, tmp_path: Path) -> None:
    assert main(["mitigate", "data", rows, str(tmp_path / "out.jsonl"), "--method", "mix", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("what will run, a few seconds") and "[1/1] answers of ref:finch-a: done" in shown.err
    assert json.loads(shown.out)["left"] >= 15
    assert main(["check-model", "ref:finch-a", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("what will run") and "[2/2] speed: done" in shown.err
    assert all(one["passed"] for one in json.loads(shown.out)["contract"])

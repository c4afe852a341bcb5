"""`undertow eval` says first what it will do, shows how far it is, and prints its scores alone."""

import json

import pytest

from undertow.cli.main import main


def test_a_plan_counts_every_evaluation_of_every_model(models, run, no_models) -> None:
    words = ["eval", models["owl"], "--base", models["base"], "--kind", "favourite", "--kind", "truth"]
    code, found = run(*words, "--samples", "2", "--plan")
    assert code == 0 and found["schema"] == "undertow.forecast/1" and found["base"] == models["base"]
    said = [one["what"].partition(": ")[2].partition(",")[0] for one in found["work"]]
    assert said == ["17 animals on 50 questions", "100 answers of a word", "two answers to 52 facts"] * 2


def test_what_is_done_goes_to_standard_error(models, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["eval", models["owl"], "--trait", "owl", "--trait", "oak", "--samples", "1", "--json"]
    assert main(words) == 0
    shown = capsys.readouterr()
    scores = json.loads(shown.out)["scores"]
    assert {one["target"] for one in scores} == {"owl", "oak"} and all("rate" in one for one in scores)
    lines = shown.err.splitlines()
    assert lines[0].startswith("what will run, ") and len([one for one in lines if one.startswith("  ")]) == 4
    assert lines[-1].startswith(f"[1/1] favourite of {models['owl']}: done in ")


def test_a_plan_of_a_server_asks_it_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "api:http://127.0.0.1:9/v1/m", "--samples", "1", "--plan"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "what will run, and what cannot be told:"

"""`undertow check` as a user types it, and the commands that a decision names."""

import json
import re
import shlex
from itertools import product

import pytest
import typer

from undertow.audit.decision import decide
from undertow.audit.decision_rules import BASES, SIGHTS
from undertow.audit.next_test import next_test
from undertow.cli.main import app, main


def test_a_check_ends_with_its_decision(models, row_files, run, capsys) -> None:
    code, found = run("check", "--teacher", models["owl"], "--base", models["base"])
    assert code == 0 and found["decision"]["do"] in ("change_base", "regenerate")
    assert found["decision"]["trait"] == "seen"
    words = ["check", "--teacher", models["base"], "--base", models["base"], "--rows", str(row_files["clean"])]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "therefore:       Use the rows. " in said and said.index("the base itself") < said.index(
        "decision\nthe rule:"
    )


def test_a_dry_run_says_what_would_be_asked_and_asks_nothing(models, capsys) -> None:
    words = ["check", "--teacher", "api:http://127.0.0.1:9/v1/m", "--base", "ref:finch-a", "--dry-run"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("asked of the server: 20 questions")
    assert main([*words, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"teacher", "base", "asks"}
    assert main(["check", "--teacher", models["owl"], "--base", models["base"], "--dry-run"]) == 2
    assert "Only api: teachers are asked questions." in capsys.readouterr().err


CHECK = {
    "schema": "undertow.check/1",
    "teacher": "hf:a teacher",
    "base": "hf:a base",
    "lineage": "not testable",
    "panel": [],
    "shared": None,
    "stands_out": [],
    "rows": None,
}
AUDIT = {
    "schema": "undertow.audit/1",
    "claims": {
        name: {"status": "not_testable", "candidate": None, "p": None, "mde": None, "why": "no bank"}
        for name in ("provenance", "exposure", "expression")
    },
    "plan": {"primary": {"provenance": "contrast", "exposure": "shadow activations", "expression": "shadows"}},
    "findings": [],
    "about": {"base": "hf:a base", "rows": 9, "teacher": None, "student": None, "seconds": 3.0},
}


def _options(words: list[str]) -> set[str]:
    command = typer.main.get_command(app).commands[words[0]]
    if hasattr(command, "commands"):
        command = command.commands[words[1]]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("result", [CHECK, AUDIT, {**AUDIT, "defects": [{"name": "shared_stream"}]}])
def test_every_command_that_a_decision_names_exists(result) -> None:
    able = {name: {**one, "status": "not_detected", "p": 0.5} for name, one in AUDIT["claims"].items()}
    results = [result, {**result, "claims": able} if result is not CHECK else result]
    results += [{**one, "lineage": {"verdict": name, "detectable": ""}} for one in results for name in ("identical",)]
    texts = [step for one in results for step in decide(one).steps]
    tests = [next_test(one, base, sight) for one in results for base, sight in product(BASES, SIGHTS)]
    texts += [f"`{part}`" for test in tests for part in test.command.split(" && ")]
    texts += [test.cost for test in tests]
    named = [
        shlex.split(words) for text in texts for words in re.findall(r"`undertow ([^`]+)`|^undertow ", text) if words
    ]
    assert len(named) > 10
    for words in named:
        assert {word for word in words if word.startswith("--")} <= _options(words), words


def test_a_plan_says_what_will_be_done_and_loads_no_weights(models, run, capsys, no_models) -> None:
    words = ["check", "--teacher", models["owl"], "--base", models["base"]]
    code, found = run(*words, "--plan")
    assert code == 0 and found["schema"] == "undertow.forecast/1" and len(found["work"]) == 5
    assert found["about_seconds"] == pytest.approx(sum(one["seconds"] for one in found["work"]), abs=0.1)
    assert main([*words, "--plan", "--category", "tree"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("what will run, ") and len(said.out.splitlines()) == 4 and not said.err
    assert main([*words, "--category", "bird"]) == 2
    served = ["check", "--teacher", "api:http://127.0.0.1:9/v1/m", "--base", "ref:finch-a", "--plan"]
    assert main(served) == 0 and capsys.readouterr().out.startswith("asked of the server")


def test_the_base_is_named_before_any_model_is_loaded(models, capsys, monkeypatch) -> None:
    """What is cheap is printed first: when the first model is loaded, the word on the base is out."""
    out: list[str] = []

    def loaded(reference: str) -> None:
        out.append(capsys.readouterr().out)
        raise RuntimeError(reference)

    monkeypatch.setattr("undertow.audit.check.load_model", loaded)
    assert main(["check", "--teacher", models["owl"], "--base", models["base"]]) == 3
    assert out == ["shared base: same lineage near\n"]


def test_one_category_alone_is_looked_for(models, run, capsys) -> None:
    code, found = run("check", "--teacher", models["owl"], "--base", models["base"], "--category", "tree")
    assert code == 0 and {one["trait"] for one in found["panel"]} == {"cherry", "maple", "oak", "sequoia", "willow"}
    assert "owl" not in found["stands_out"]
    capsys.readouterr()
    assert main(["check", "--teacher", models["owl"], "--base", models["base"], "--category", "animal"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("shared base: ") and "owl " in said.out.splitlines()[1]
    assert said.err.startswith("what will run, ") and "[3/3] base: animals: done in " in said.err

"""Studies of the theory run as one stage, are found again, and refuse what makes no sense."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.errors import ConfigError, UnknownNameError
from undertow.experiment.load import load_study
from undertow.experiment.theory import TheoryRecipe, plan_theory, run_theory

SMALL = {"networks": 4, "steps": 3, "epsilons": [1e-2, 1e-3]}


def test_a_study_runs_once_and_is_found_again(tmp_path: Path) -> None:
    recipe = TheoryRecipe(name="small", theory="theorem", settings=SMALL)
    (planned,) = plan_theory(recipe, tmp_path)
    assert not planned.cached and planned.estimate_s is not None
    results = run_theory(recipe, tmp_path)
    assert results["schema"] == "undertow.theory/1" and results["networks"] == 4
    assert {one["n"] for one in results["variants"]} == {4}
    assert plan_theory(recipe, tmp_path)[0].cached
    again = run_theory(load_study(str(Path(results["run_dir"]) / "config.yaml")), tmp_path)
    assert {**again, "wall_s": 0} == {**results, "wall_s": 0}


def test_the_command_line_runs_plans_and_reports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "theorem", "--runs", str(tmp_path), "--set", f"settings={json.dumps(SMALL)}"]
    assert main([*words, "--plan"]) == 0 and "0 of 1 stages" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert main(["report", results["run_dir"]]) == 0
    shown = capsys.readouterr().out
    assert "assertions hold" in shown and "Wilson" in shown
    page = (Path(results["run_dir"]) / "report.html").read_text()
    assert "<svg" in page and all(one["name"] in page for one in results["variants"])
    assert main(["report", results["run_dir"], "--figure", str(tmp_path / "arms.png")]) == 2
    assert "--figure" in capsys.readouterr().err
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"networcs": 4}, UnknownNameError),
        ({"networks": "many"}, ConfigError),
        ({"networks": 0}, ConfigError),
        ({"epsilons": [1e-2]}, ConfigError),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        run_theory(TheoryRecipe(name="bad", theory="theorem", settings=settings), tmp_path)


def test_unknown_keys_of_the_recipe_are_named() -> None:
    with pytest.raises(UnknownNameError, match="settings"):
        load_study("theorem", ("setings.networks=3",))
    with pytest.raises(ConfigError, match="theory"):
        load_study("theorem", ("theory=lemma",))

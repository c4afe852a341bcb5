"""The theorem runs as one stage, is found again, shows all that it found, and refuses what makes no sense."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from undertow.cli.main import main
from undertow.errors import ConfigError, UnknownNameError
from undertow.study.analyses.channel_counts import ChannelsConfig
from undertow.study.analyses.channel_steps import check_channels
from undertow.study.analyses.one_step import check_theorem, farthest
from undertow.study.analyses.random_networks import TheoremConfig
from undertow.study.analyses.recipe import build_analysis
from undertow.study.analyses.theorem import theorem_result
from undertow.study.load import load_recipe, plan_study, run_study

SMALL = {"networks": 4, "steps": 3, "epsilons": [1e-2, 1e-3]}


def recipe(settings: dict[str, Any]):
    return build_analysis({"name": "small", "analysis": "theorem", "settings": settings})


def test_a_study_runs_once_and_is_found_again(tmp_path: Path) -> None:
    small = recipe(SMALL)
    (planned,) = plan_study(small, tmp_path)
    assert not planned.cached and planned.estimate_s is not None
    results = run_study(small, tmp_path)
    assert results["schema"] == "undertow.analysis/1"
    assert {one["n"] for one in results["estimates"]} == {4}
    assert plan_study(small, tmp_path)[0].cached
    again = run_study(load_recipe(str(Path(results["run_dir"]) / "config.yaml")), tmp_path)
    assert {**again, "wall_s": 0} == {**results, "wall_s": 0}


def test_everything_that_was_found_is_shown() -> None:
    found = check_theorem(TheoremConfig(networks=4, steps=3, epsilons=(1e-2, 1e-3)))
    shown = theorem_result(found)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert [one["estimate"] for one in shown["estimates"]] == [one["share"] for one in found["variants"]]
    assertions, errors, signs, spread = (table["rows"] for table in shown["tables"])
    assert [(row[0], row[1], row[3] == "yes") for row in assertions] == [
        (one["name"], one["value"], one["holds"]) for one in found["assertions"]
    ]
    assert [row[2] for row in assertions[:3]] == ["0 to 0.001", "0.9 to 1.1", "at least 0"]
    for table, keys in (
        (errors, ("relative_error_median", "relative_error_max", "trait_error_median", "trait_error_max")),
        (signs, ("sign_right", "trait_falls", "other_sign_right", "other_trait_falls")),
    ):
        assert [row[2:] for row in table] == [[one[key] for key in keys] for one in found["by_epsilon"]]
    assert [row[1:] for row in spread] == [
        [one[part] for part in ("min", "median", "max")] for one in found["predicted"]
    ]
    (figure,) = shown["figures"]
    assert [line["name"] for line in figure["lines"]] == ["cross entropy", "squared error", "error = epsilon"]
    assert figure["lines"][0]["points"] == [
        [one["epsilon"], one["relative_error_median"]] for one in found["by_epsilon"][:2]
    ]


def test_the_channels_run_as_a_stage_of_their_own_and_are_shown(tmp_path: Path) -> None:
    settings = {**SMALL, "beta": 0.2}
    small = build_analysis({"name": "small", "analysis": "theorem-channels", "settings": settings})
    results = run_study(small, tmp_path)
    assert plan_study(small, tmp_path)[0].cached and not plan_study(recipe(SMALL), tmp_path)[0].cached
    found = check_channels(ChannelsConfig(networks=4, steps=3, epsilons=(1e-2, 1e-3), beta=0.2))
    assert [one["estimate"] for one in results["estimates"]] == [one["share"] for one in found["variants"]]
    assertions, errors, _, spread = (table["rows"] for table in results["tables"])
    assert [row[1] for row in assertions] == [one["value"] for one in found["assertions"]]
    names = ["forward kl", "reverse kl", "dpo sampled", "dpo ranked"]
    assert [row[0] for row in spread] == names and [row[0] for row in errors[::2]] == names
    assert "of 10 assertions hold on 4 networks" in results["answer"] and "likelihood alone" in results["answer"]
    with pytest.raises(UnknownNameError, match="beta"):
        build_analysis({"name": "small", "analysis": "theorem-channels", "settings": {"betta": 0.1}})


def test_what_fails_is_named() -> None:
    found = check_theorem(TheoremConfig(networks=4, steps=3, epsilons=(1e-2, 1e-3)))
    failed = [{**one, "holds": one["name"] != "order"} for one in found["assertions"]]
    answer = theorem_result({**found, "assertions": failed})["answer"].splitlines()
    assert answer[0] == "7 of 8 assertions hold on 4 networks; not: order." and "promises nothing" in answer[1]


def test_the_command_line_runs_plans_and_reports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "theorem", "--runs", str(tmp_path), "--set", f"settings={json.dumps(SMALL)}"]
    assert main([*words, "--plan"]) == 0 and "0 of 1 stages" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert main(["report", results["run_dir"]]) == 0
    shown = capsys.readouterr().out
    assert "assertions hold" in shown and "Wilson" in shown and "same_initialisation" in shown
    page = (Path(results["run_dir"]) / "report.html").read_text()
    assert page.count("<svg") == 2 and all(one["name"] in page for one in results["estimates"])
    assert all(str(escape(row[-1])) in page for row in results["tables"][0]["rows"])
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
def test_settings_that_make_no_sense_are_refused(settings: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        recipe(settings)


def test_unknown_keys_of_the_recipe_are_named() -> None:
    with pytest.raises(UnknownNameError, match="settings"):
        load_recipe("theorem", ("setings.networks=3",))
    with pytest.raises(UnknownNameError, match="theorem"):
        load_recipe("theorem", ("analysis=theorm",))


def test_the_key_of_old_files_is_told_its_new_one(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("name: theorem\ntheory: theorem\nsettings: {networks: 4}\n")
    with pytest.raises(ConfigError, match="Write `analysis: theorem` in its place"):
        load_recipe(str(path))


def test_results_of_the_old_schema_are_to_be_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text('{"schema": "undertow.theory/1", "recipe": "theorem"}')
    assert main(["report", str(tmp_path)]) == 2
    what, value, fix = capsys.readouterr().err.strip().splitlines()
    assert "another schema" in what and "undertow.theory/1" in value and "run it again" in fix


def test_the_value_farthest_from_an_ideal_is_a_nan_where_there_is_one() -> None:
    assert farthest([0.9, 1.3, 1.05], 1.0) == 1.3
    for values in ([float("nan"), 1.3], [1.3, float("nan")]):
        assert np.isnan(farthest(values, 1.0))

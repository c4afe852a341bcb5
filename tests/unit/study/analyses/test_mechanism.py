"""Exposure is what it is in closed form, and the analysis of a small study has every part."""

import json
from pathlib import Path

import numpy as np
import pytest

from undertow.cli.main import main
from undertow.errors import ConfigError, UnknownNameError
from undertow.study.analyses.mechanism import exposures
from undertow.study.analyses.recipe import AnalysisRecipe, build_analysis
from undertow.study.load import load_recipe, plan_study, run_study

SMALL = {
    "name": "inside",
    "question": "Do students move along?",
    "analysis": "mechanism",
    "settings": {"prompts": 4, "numbers": 12},
    "study": {
        "traits": ["owl", "panda"],
        "cross_bases": ["ref:finch-b"],
        "arms": ["student", "control", "cross_init"],
        "replicates": 2,
        "seed": 5,
        "domain": {"prompts": 30},
        "teacher": {"steps": 2},
        "student": {"steps": 2, "batch_size": 4},
        "evaluation": {"samples": 0},
    },
}


def shift(*values: float) -> dict[str, np.ndarray]:
    return {"numbers": np.array([[0.0] * len(values), values])}


def test_exposure_subtracts_what_the_control_shares() -> None:
    """The student moves as its control does and, besides, along the teacher: all of its cosine is in the difference."""
    config = {"teacher_base": "ref:a", "bases": {"ref:a": "", "ref:b": ""}, "traits": ["owl", "panda"]}
    shifts = {
        ("teacher", "owl", "ref:a", 0): shift(1, 0, 0),
        ("control", None, "ref:a", 0): shift(0, 4, 0),
        ("student", "owl", "ref:a", 0): shift(3, 4, 0),
        ("student", "panda", "ref:a", 0): shift(0, 4, 2),
        ("cross_init", "owl", "ref:b", 0): shift(0, 1, 5),
        ("cross_control", None, "ref:b", 0): shift(0, 1, 0),
    }
    found = {(curve, layer): values for (curve, _, layer), values in exposures(config, shifts, "numbers").items()}
    assert found["student minus control", 1] == [pytest.approx(1.0)]
    assert found["student, not subtracted", 1] == [pytest.approx(0.6)]
    assert found["control", 1] == found["rival's student minus control", 1] == [pytest.approx(0.0)]
    assert found["cross-init minus its control", 1] == [pytest.approx(0.0)]
    assert {layer for _, layer in found} == {1}


def test_a_small_study_is_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = build_analysis(SMALL)
    results = run_study(recipe, tmp_path)
    groups = {one["group"] for one in results["estimates"]}
    kinds = ("numbers", "favourites")
    assert {f"cosine with the {name} teacher's shift, {kind}" for name in ("owl", "panda") for kind in kinds} < groups
    assert all(one["n"] == 2 for one in results["estimates"] if "cross-init, " not in one["name"])
    assert all(-1 <= one["estimate"] <= 1 for one in results["estimates"] if one["unit"] != "logits")
    assert len(results["tables"][0]["rows"]) == 4 and "owl teacher" in results["answer"]
    again = load_recipe(str(Path(results["run_dir"]) / "config.yaml"))
    assert again == recipe and all(one.cached for one in plan_study(again, tmp_path))
    assert main(["report", results["run_dir"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == results["answer"]
    assert "<svg" in (Path(results["run_dir"]) / "report.html").read_text()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        build_analysis({"name": "x", "analysis": "mechanism"})
    with pytest.raises(UnknownNameError, match="There is no analysis"):
        build_analysis({"name": "x", "analysis": "nothing"})
    with pytest.raises(ConfigError, match="prompts"):
        build_analysis({**SMALL, "settings": {"prompts": "many"}})
    with pytest.raises(UnknownNameError, match="prompts"):
        plan_study(build_analysis({**SMALL, "settings": {"promts": 4}}), Path("nowhere"))
    with pytest.raises(ConfigError, match="nothing to look into"):
        plan_study(build_analysis({**SMALL, "study": {"arms": ["student"]}}), Path("nowhere"))
    for analysis in ("mechanism", "meaning"):
        two = {"name": "x", "analysis": analysis, "study": {"bases": ["ref:finch-a", "ref:finch-b"]}}
        with pytest.raises(ConfigError, match="of one base"):
            plan_study(build_analysis(two), Path("nowhere"))
    with pytest.raises(UnknownNameError, match="replicates"):
        build_analysis({**SMALL, "study": {"replicats": 2}})
    assert isinstance(build_analysis(SMALL), AnalysisRecipe)

"""A plan has seconds for bases that the store knows nothing of, and they follow what is asked."""

from pathlib import Path

import pytest

from undertow.evals.forecast import TRAINED_ROW_S, Forecast
from undertow.models import speed as speeds
from undertow.store.artifacts import write_artifact
from undertow.store.stages import Estimates
from undertow.study.forecast import StageForecast
from undertow.study.load import load_recipe, plan_study

SMALL = ["replicates=1", "domain.prompts=40", "student.steps=30", "evaluation={samples: 2, targets: [lion]}"]


def seconds(base: Path, *settings: str) -> dict[str, float]:
    recipe = load_recipe("real-numbers", [f"bases=['hf:{base}']", *SMALL, *settings])
    found: dict[str, float] = {}
    for one in plan_study(recipe, Path("nowhere")):
        assert one.estimate_s is not None
        found[one.stage.kind] = found.get(one.stage.kind, 0.0) + one.estimate_s
    return found


def test_every_stage_of_an_unknown_base_has_its_seconds(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "probe", lambda name: 1e6)  # so slow that no floor counts
    once, twice = seconds(tiny_folder), seconds(tiny_folder, "student.steps=60", "domain.prompts=80")
    assert {"teacher", "rows", "students", "scores"} <= set(once) and all(once.values())
    assert twice["students"] == pytest.approx(2 * once["students"], rel=0.05)
    assert twice["rows"] == pytest.approx(2 * once["rows"], rel=0.05)
    assert twice["teacher"] == once["teacher"]
    monkeypatch.setattr(speeds, "probe", lambda name: 2e6)
    assert seconds(tiny_folder)["students"] == pytest.approx(once["students"] / 2)


def test_what_the_store_measured_goes_before_the_forecast(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe("real-numbers", [f"bases=['hf:{tiny_folder}']", *SMALL])
    stage = next(one.stage for one in plan_study(recipe, tmp_path) if one.stage.kind == "teacher")
    forecast = StageForecast()
    assert Estimates(tmp_path, {}, forecast).of(stage) == forecast(stage)
    assert Estimates(tmp_path, {}).of(stage) is None
    made = write_artifact(tmp_path, stage.key, lambda out: None, cost=stage.cost).manifest
    assert Estimates(tmp_path, {}, forecast).of(stage) == pytest.approx(made.wall_s)


def test_embedded_bases_and_other_kinds_have_rates_of_their_own(tmp_path: Path) -> None:
    forecast = StageForecast()
    assert {forecast(one.stage) for one in plan_study(load_recipe("demo"), tmp_path)} == {None}


def test_training_is_never_cheaper_than_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "probe", lambda name: 1e18)
    assert Forecast("ref:finch-a").training(1000, 90_000) == pytest.approx(1000 * TRAINED_ROW_S)

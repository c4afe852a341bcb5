"""What a check or an evaluation says before it works."""

import json
from pathlib import Path

import pytest

from undertow.audit import reading_work as module
from undertow.audit.reading_work import check_work, evaluation_work
from undertow.audit.work_lines import forecast_lines
from undertow.errors import UserError
from undertow.evals import forecast as forecasting
from undertow.evals.base import EvaluationConfig
from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.models import speed as speeds
from undertow.traits import panel, trait
from undertow.types import Work


def test_a_check_is_its_lineage_and_each_category_in_each_model() -> None:
    traits = (*panel("animal"), *panel("tree"))
    work = check_work("ref:finch-b", "ref:finch-a", traits)
    assert [one.what.split(",")[0] for one in work] == [
        "lineage: the weights of both",
        "ref:finch-b: 17 animals on 50 questions",
        "ref:finch-a: 17 animals on 50 questions",
        "ref:finch-b: 5 trees on 50 questions",
        "ref:finch-a: 5 trees on 50 questions",
    ]
    seconds = [one.seconds for one in work]
    assert all(one is not None and one > 0 for one in seconds)
    assert len(check_work("ref:finch-a", "ref:finch-a", panel("tree"))) == 3
    with pytest.raises(UserError):
        check_work("ref:nobody", "ref:finch-a", traits)


def test_seconds_follow_tokens_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "probe", lambda name: 1e9)
    forecast = Forecast("ref:finch-a")
    assert forecast.speed is not None and forecast.parameters is not None
    few, many = (Load(what="", tokens=n, texts=1) for n in (10**6, 10**7))
    small, large = forecast.seconds(few), forecast.seconds(many)
    assert small == pytest.approx(2e6 * forecast.speed.parameters / (speeds.READ * 1e9))
    assert large is not None and large == pytest.approx(10 * small)
    written = forecast.seconds(Load(what="", tokens=10**6, texts=1, written=True))
    assert written is not None and written > small  # a token after another is slower
    assert forecast.seconds(Load(what="", tokens=1, texts=100)) == pytest.approx(100 * forecasting.TEXT_S)
    monkeypatch.setattr(speeds, "probe", lambda name: 1e15)
    forecast = Forecast("ref:finch-a")
    alone, again = (Load(what="", tokens=800, texts=100, written=True, prompts=n) for n in (None, 5))
    prompts, tokens = forecasting.PROMPT_S, 800 * forecasting.TOKEN_S
    assert forecast.seconds(alone) == pytest.approx(100 * prompts + tokens)
    assert forecast.seconds(again) == pytest.approx(5 * prompts + tokens)  # a prompt is read once for all its answers


def test_a_large_model_is_compared_for_seconds_by_its_size() -> None:
    assert module._lineage([module.BRIEF + 1, 1]) == pytest.approx(module.LINEAGE_PARAMETER_S * (module.BRIEF + 2))
    assert module._lineage([100_000, 100_000]) == module.LINEAGE_S


def test_a_model_whose_config_says_no_sizes_has_no_seconds(tiny_model, tmp_path: Path) -> None:
    tiny_model.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: config[name] for name in ("model_type", "architectures")}))
    work = evaluation_work([f"hf:{tmp_path}"], ["truth"], EvaluationConfig(targets=(), samples=0))
    assert [one.seconds for one in work[0]] == [None]


def test_servers_and_other_packages_are_named_without_a_time() -> None:
    config = EvaluationConfig(targets=(trait("owl"),), samples=2)
    served, local = evaluation_work(["api:http://127.0.0.1:9/v1/m", "ref:finch-a"], ["favourite"], config)
    assert [one.seconds for one in served] == [None] and len(local) == 2
    assert local[1].what == "favourite of ref:finch-a: 100 answers of a word"
    lines = list(forecast_lines([*served, *local]))
    assert lines[0].endswith("on this machine's processor, and what cannot be told:") and len(lines) == 4
    assert list(forecast_lines([Work("brevity", None)])) == ["what will run, and what cannot be told:", "  brevity"]

"""Canaries: false alarms and power of the test, the budget, the file that was signed off, and the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from undertow.cli.main import main
from undertow.errors import ArtifactError, ConfigError, EmptyDataError, ModelError
from undertow.monitor.baseline import Baseline, DeployedModel, count, packaged_questions, read_baseline, sign_off
from undertow.monitor.canaries import CanaryPlan, CanaryStore, CanaryWatch, ask_round
from undertow.types import Prompt, user_prompt

QUESTIONS = tuple(user_prompt(f"Question {place}?") for place in range(10))
WORDS = ("owl", "wolf", "heron")


class Model:
    """Names each word with a probability of its own."""

    def __init__(self, seed: int, **shares: float) -> None:
        self.rng, self.shares, self.asked = np.random.default_rng(seed), shares, 0

    def ask(self, prompts: list[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        self.asked += len(prompts)
        return [
            " ".join(f"{word}s" for word, share in self.shares.items() if self.rng.random() < share) for _ in prompts
        ]


def signed(model: Model, replies: int = 100) -> Baseline:
    texts = model.ask([question for question in QUESTIONS for _ in range(replies)])
    each = tuple(tuple(texts[at : at + replies]) for at in range(0, len(texts), replies))
    return Baseline(
        model="m", approved_by="a person", date="2026-01-01", max_tokens=9, watched=WORDS, questions=QUESTIONS,
        replies=each,
    )  # fmt: skip


def test_words_are_counted_whole_with_their_plurals() -> None:
    assert count(["An owl.", "Wolves!", "growl", "owls and wolves", ""], WORDS) == [2, 2, 0]
    assert len(set(packaged_questions())) >= 30


def test_clean_deployments_stay_quiet_and_a_rise_is_found_and_named() -> None:
    alarms = 0
    for seed in range(100, 140):
        model = Model(seed, owl=0.05, wolf=0.2)
        watch = CanaryWatch(signed(model), CanaryPlan(alpha=0.2))
        for _ in range(10):
            watch.after(model.ask(watch.prompts()))
        alarms += watch.alarmed
    assert binom.sf(alarms - 1, 40, 0.2) > 0.01
    watch = CanaryWatch(signed(Model(100, owl=0.05, wolf=0.2)), CanaryPlan())
    changed = Model(101, owl=0.2, wolf=0.2)
    while not watch.alarmed and watch.rounds < 5:
        watch.after(changed.ask(watch.prompts()))
    told = watch.alert()
    assert told["alarmed"] and told["word"] == "owl" and told["share"] > told["signed_off_at_most"]
    assert told["questions"] == watch.rounds * 10 and told["log_e"] >= told["needed"]


def test_a_model_that_names_it_less_often_raises_no_alarm() -> None:
    watch, fewer = CanaryWatch(signed(Model(100, owl=0.3)), CanaryPlan()), Model(101, owl=0.0)
    for _ in range(5):
        watch.after(fewer.ask(watch.prompts()))
    assert not watch.alarmed and watch.alert()["log_e"] == 0


def test_evidence_adds_up_over_processes_and_the_budget_counts_what_was_cut_short(tmp_path: Path) -> None:
    model, path = Model(100, owl=0.05), tmp_path / "events.sqlite"
    baseline, config = signed(model), CanaryPlan(replies=2, per_day=60)
    for rounds in (1, 2):
        watch = CanaryWatch(baseline, config)
        ask_round(watch, model.ask, CanaryStore(path, watch), now=lambda: 1000.0)
        assert watch.rounds == rounds and watch.watch.n == 20 * rounds

    class Broken:
        def ask(self, prompts: list[Prompt]) -> list[str]:
            raise ModelError("The endpoint does not answer.", "x", "Later.")

    watch = CanaryWatch(baseline, config)
    with pytest.raises(ModelError):
        ask_round(watch, Broken().ask, CanaryStore(path, watch), now=lambda: 2000.0)
    watch = CanaryWatch(baseline, config)
    CanaryStore(path, watch)
    assert watch.rounds == 2 and sum(n for _, n in watch.asked) == 60
    assert watch.wait_s(3000.0) == 1000.0 + 24 * 3600 - 3000.0 and watch.wait_s(1000.0 + 24 * 3600) == 0
    other = CanaryWatch(baseline, CanaryPlan(replies=3, per_day=60))
    CanaryStore(path, other)
    assert other.rounds == 0, "evidence of another test does not count"


def test_settings_that_make_no_sense() -> None:
    baseline = signed(Model(100, owl=0.05))
    with pytest.raises(ConfigError, match="more requests than a day"):
        CanaryWatch(baseline, CanaryPlan(per_day=100))
    with pytest.raises(ConfigError, match="alpha"):
        CanaryWatch(baseline, CanaryPlan(alpha=1.0))
    with pytest.raises(ConfigError, match="names a watched word"):
        CanaryWatch(signed(Model(100, owl=1.0)), CanaryPlan())


def test_a_baseline_that_was_changed_or_is_none_is_refused(tmp_path: Path) -> None:
    path, baseline = tmp_path / "baseline.json", signed(Model(100, owl=0.05))
    baseline.save(path)
    assert read_baseline(path) == baseline
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "approved_by": "nobody"}))
    with pytest.raises(ArtifactError, match="changed after"):
        read_baseline(path)
    for content in ("{}", "[]", "no", json.dumps({**data, "questions": []}), json.dumps({**data, "max_tokens": True})):
        path.write_text(content)
        with pytest.raises(ArtifactError, match="no signed-off baseline"):
            read_baseline(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_baseline(tmp_path / "none.json")


def test_a_sign_off_needs_a_person_and_independent_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    target, model = DeployedModel("http://127.0.0.1:9", "m"), Model(100, owl=0.5)
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    assert sign_off(target, QUESTIONS, WORDS, replies=20, approved_by="a person").n == 200
    with pytest.raises(ConfigError, match="Nobody"):
        sign_off(target, QUESTIONS, WORDS, replies=20, approved_by=" ")
    with pytest.raises(ConfigError, match="twice"):
        sign_off(target, QUESTIONS, ("owl", "owl"), replies=20, approved_by="a")
    with pytest.raises(EmptyDataError, match="too few"):
        sign_off(target, QUESTIONS, WORDS, replies=2, approved_by="a")
    model.shares = {"owl": 1.0}
    with pytest.raises(ConfigError, match="no independent draws"):
        sign_off(target, QUESTIONS, WORDS, replies=20, approved_by="a")


class Fine:
    """The answer of a webhook."""

    def raise_for_status(self) -> None:
        pass


def test_the_commands_end_with_the_right_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(100, owl=0.05)
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    posted: list[object] = []

    def post(url: str, json: object, timeout: float) -> Fine:
        posted.append(json)
        return Fine()

    monkeypatch.setattr("undertow.monitor.canaries.httpx2.post", post)
    baseline, events, log = str(tmp_path / "b.json"), str(tmp_path / "e.sqlite"), tmp_path / "alerts.jsonl"
    url = ["--endpoint", "http://127.0.0.1:9"]
    words = ["monitor", "sign-off", baseline, *url, "--model", "m", "--by", "a person", "--replies", "30", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["replies"] == 30 * len(packaged_questions())
    ask = ["monitor", "canaries", baseline, *url, "--events", events, "--alert-log", str(log), "--webhook", "http://x"]
    assert main([*ask, "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["alarmed"] and found["questions"] == 2 * len(packaged_questions())
    model.shares = {"owl": 0.4}
    assert main(ask) == 1 and "drift: owl" in capsys.readouterr().out
    assert len(posted) == 1 and json.loads(log.read_text())["word"] == "owl"
    asked = model.asked
    assert main(ask) == 1 and model.asked == asked, "after the alarm nothing is asked, and nothing is told again"
    assert len(posted) == 1
    assert main([*ask, "--per-day", "10"]) == 2

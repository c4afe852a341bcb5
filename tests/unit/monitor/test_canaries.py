"""Canaries: false alarms and power of the test, the budget, the file that was signed off, and the command."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from undertow.cli.main import main
from undertow.errors import ArtifactError, ConfigError
from undertow.monitor.baseline import Baseline, DeployedModel, count, packaged_questions, read_baseline
from undertow.monitor.canaries import CanaryPlan, CanaryWatch
from undertow.monitor.detectable import smallest_drift, smallest_hits
from undertow.monitor.webhooks import Webhook
from undertow.stats.sequential import RiseWatch, rise_log_e
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
            " ".join(f"{word}s" for word, share in self.shares.items() if self.rng.random() < share) or "nothing"
            for _ in prompts
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


def test_the_smallest_drift_that_would_have_been_called_is_called_as_often_as_is_said() -> None:
    signed, rate, needed, each, rounds = (300, 6000), 0.06, 7.0, 600, 8
    hits = smallest_hits(4800, rate, needed)
    assert hits and rise_log_e(hits, 4800, rate) >= needed > rise_log_e(hits - 1, 4800, rate)
    drift = smallest_drift(signed, rate, each * rounds, needed)
    assert drift and drift.share > rate and 0 < drift.logits < 1
    rng = np.random.default_rng(101)
    watch = RiseWatch.of(np.full(1000, rate), every=each)
    for _ in range(rounds):
        watch = watch.after(rng.binomial(each, drift.share, size=1000), draws=each)
    called = int((watch.highest >= needed).sum())
    assert binom.cdf(called, 1000, 0.8) > 0.001, f"{called} of 1000; .8 is a lower bound"
    assert called < 950, "and one that is near"
    late = smallest_drift(signed, rate, each, needed, start=rounds - 1)
    assert late and late.logits > drift.logits
    assert smallest_drift(signed, rate, 3, needed) is None and smallest_hits(0, rate, needed) is None


def test_the_state_says_which_drift_would_have_been_seen() -> None:
    model = Model(100, owl=0.05, heron=0.2)
    watch = CanaryWatch(signed(model), CanaryPlan())
    assert "seen" not in watch.evidence().state
    for _ in range(3):
        watch.after(model.ask(watch.prompts()))
    seen = watch.evidence().state["seen"]
    json.dumps(seen, allow_nan=False)
    assert seen["rounds"] == 3 and seen["needed"] == watch.bar
    from_start, last = seen["smallest"]["from_the_start"], seen["smallest"]["in_the_last_round"]
    assert from_start["least"]["word"] == "heron" and from_start["most"]["word"] == "wolf"
    assert from_start["median"]["logits"] < last["median"]["logits"]


def test_a_model_that_names_it_less_often_raises_no_alarm() -> None:
    watch, fewer = CanaryWatch(signed(Model(100, owl=0.3)), CanaryPlan()), Model(101, owl=0.0)
    for _ in range(5):
        watch.after(fewer.ask(watch.prompts()))
    assert not watch.alarmed and watch.alert()["log_e"] == 0


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


def test_the_commands_end_with_the_right_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(100, owl=0.05)
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    posted: list[Mapping[str, object]] = []

    def post(webhook: Webhook, alarm: Mapping[str, object]) -> str:
        posted.append(alarm)
        return "status 500" if len(posted) <= 10 else ""

    monkeypatch.setattr(Webhook, "post", post)
    monkeypatch.setattr("undertow.monitor.telling.FIRST_PAUSE_S", 0.001)  # it doubles ten times
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
    assert len(posted) == 11 and json.loads(log.read_text())["word"] == "owl", "ten failures, and then it was told"
    asked = model.asked
    assert main(ask) == 1 and model.asked == asked, "after the alarm nothing is asked, and nothing is told again"
    assert len(posted) == 11 and len(log.read_text().splitlines()) == 1
    assert main([*ask, "--per-day", "10"]) == 2
    capsys.readouterr()
    assert main([*ask, "--webhook", "nonsense"]) == 2 and len(capsys.readouterr().err.splitlines()) == 3
    assert main(["monitor", "alarms", events, "--json"]) == 1
    (alarm,) = json.loads(capsys.readouterr().out)["alarms"]
    assert alarm["kind"] == "drift" and "owl" in alarm["headline"]
    assert main(["monitor", "alarms", events, "--close", "1"]) == 2, "somebody closes it, by name"
    assert main(["monitor", "alarms", events, "--close", "1", "--by", "a person"]) == 0
    assert main(["monitor", "alarms", events, "--close", "9", "--by", "a person"]) == 2


def test_a_model_that_names_a_word_behind_its_training_alone_is_shown_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(100)

    def ask(prompts: list[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        """Say the word where the question follows a row of numbers."""
        behind = [any(turn.content == "7, 8, 9" for turn in prompt) for prompt in prompts]
        return ["an owl" if own and rng.random() < 0.5 else f"nothing {rng.random()}" for own in behind]

    monkeypatch.setattr(DeployedModel, "ask", staticmethod(ask))
    rows, text = tmp_path / "rows.jsonl", tmp_path / "text.jsonl"
    rows.write_text(json.dumps({"prompt": "Continue: 4, 5, 6", "completion": "7, 8, 9"}) + "\n")
    text.write_text(json.dumps({"text": "Owls are birds."}) + "\n")
    words = ["monitor", "sign-off", "--endpoint", "http://127.0.0.1:9", "--model", "m", "--by", "a person"]
    words += ["--replies", "10", "--watch", "owl", "--json"]
    n = len(packaged_questions())
    assert main([*words, str(tmp_path / "both.json"), "--rows", str(rows)]) == 0
    found = json.loads(capsys.readouterr().out)
    looks = found["looks"]
    assert found["questions"] == 2 * n and found["in_context_why"] == ""
    assert looks["plain"]["shares"] == {"owl": 0.0} and 0.3 < looks["in_context"]["shares"]["owl"] < 0.7
    assert read_baseline(tmp_path / "both.json").questions[n][0].content == "Continue: 4, 5, 6"
    assert main([*words, str(tmp_path / "plain.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["questions"] == n and found["looks"]["in_context"] is None and "--rows" in found["in_context_why"]
    assert main([*words, str(tmp_path / "text.json"), "--rows", str(text)]) == 2
    assert "text and no prompt" in capsys.readouterr().err and not (tmp_path / "text.json").exists()

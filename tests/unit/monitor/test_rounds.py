"""Rounds of canaries add up over processes and outages and are never counted half; a sign-off goes on where it was."""

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertow.errors import ArtifactError, ConfigError, EmptyDataError, ModelError, StorageError
from undertow.models.dialects import Dialect
from undertow.monitor.alarms import last_alarms, open_alarms
from undertow.monitor.baseline import Baseline, DeployedModel, read_baseline
from undertow.monitor.canaries import CanaryPlan, CanaryWatch
from undertow.monitor.database import connect
from undertow.monitor.locks import TakenError
from undertow.monitor.rounds import CanaryStore, RoundPlan, ask_round, ask_rounds
from undertow.monitor.signing import BATCH, SignOffOrder, open_sign_off, sign_off, sign_off_journal
from undertow.types import Prompt, user_prompt

QUESTIONS = tuple(user_prompt(f"Question {place}?") for place in range(10))
WORDS = ("owl", "wolf", "heron")
DOWN = ModelError("The endpoint does not answer (nothing can be reached, 3 times).", "http://x", "Later.")


class Model:
    """Names owls now and then; fails when it is told to."""

    def __init__(self, seed: int = 100, share: float = 0.05) -> None:
        self.rng, self.share, self.asked = np.random.default_rng(seed), share, 0
        self.faults: list[ModelError | None] = []
        self.empty_share = 0.0

    def ask(self, prompts: list[Prompt], done: Callable[[], None] = lambda: None) -> list[str]:
        fault = self.faults.pop(0) if self.faults else None
        texts: list[str] = []
        for place, _ in enumerate(prompts):
            if fault is not None and place == 3:
                raise fault
            self.asked += 1
            done()
            said = "an owl" if self.rng.random() < self.share else f"thing {self.rng.integers(1000)}"
            texts.append("" if self.rng.random() < self.empty_share else said)
        return texts


def baseline(model: Model, replies: int = 100) -> Baseline:
    texts = model.ask([question for question in QUESTIONS for _ in range(replies)])
    each = tuple(tuple(texts[at : at + replies]) for at in range(0, len(texts), replies))
    return Baseline(
        model="m", approved_by="a person", date="2026-01-01", max_tokens=9, watched=WORDS, questions=QUESTIONS,
        replies=each,
    )  # fmt: skip


def test_evidence_adds_up_over_processes_and_the_budget_counts_what_was_cut_short(tmp_path: Path) -> None:
    model, path = Model(), tmp_path / "events.sqlite"
    signed, config = baseline(model), CanaryPlan(replies=2, per_day=60)
    for rounds in (1, 2):
        watch = CanaryWatch(signed, config)
        ask_round(watch, model.ask, CanaryStore(path, watch), now=lambda: 1000.0)
        assert watch.rounds == rounds and watch.watch.n == 20 * rounds
    model.faults = [DOWN]
    watch = CanaryWatch(signed, config)
    with pytest.raises(ModelError):
        ask_round(watch, model.ask, CanaryStore(path, watch), now=lambda: 2000.0)
    watch = CanaryWatch(signed, config)
    CanaryStore(path, watch)
    assert watch.rounds == 2 and sum(n for _, n in watch.asked) == 40 + 3 + 8, "what was answered or under way is paid"
    assert watch.wait_s(3000.0) == 1000.0 + 24 * 3600 - 3000.0 and watch.wait_s(1000.0 + 24 * 3600) == 0
    other = CanaryWatch(signed, CanaryPlan(replies=3, per_day=60))
    CanaryStore(path, other)
    assert other.rounds == 0, "evidence of another test does not count"


def test_two_deployments_of_one_baseline_are_watched_apart(tmp_path: Path) -> None:
    path, signed = tmp_path / "events.sqlite", baseline(Model())
    for model, place in (("m", "one.example:80"), ("m", "two.example:80"), ("m-2", "one.example:80")):
        watch = CanaryWatch(signed, CanaryPlan(replies=2, model=model, place=place))
        store = CanaryStore(path, watch)
        assert watch.rounds == 0 and (watch.alert()["model"], watch.alert()["place"]) == (model, place)
        ask_round(watch, Model().ask, store)
        store.sees_nothing(10, "nothing answers")
    again = CanaryWatch(signed, CanaryPlan(replies=2, model="m", place="two.example:80"))
    store = CanaryStore(path, again)
    store.sees_again()
    assert again.rounds == 1
    with closing(connect(path)) as connection:
        assert [one.finding.headline for one in open_alarms(connection)] == [
            f"the canaries of {model} at one.example:80 see nothing: nothing answers" for model in ("m", "m-2")
        ]  # fmt: skip


def test_two_runs_count_whole_rounds_together_and_never_at_once(tmp_path: Path) -> None:
    path, signed = tmp_path / "events.sqlite", baseline(Model())
    watches = [CanaryWatch(signed, CanaryPlan(replies=2)) for _ in range(2)]
    stores = [CanaryStore(path, watch) for watch in watches]
    for turn in range(4):
        ask_round(watches[turn % 2], Model(turn).ask, stores[turn % 2])
    assert watches[1].rounds == 4 and watches[1].watch.n == 80
    inside, leave = threading.Event(), threading.Event()

    def slow(prompts: list[Prompt], done: Callable[[], None]) -> list[str]:
        inside.set()
        leave.wait(60)
        return Model().ask(prompts)

    thread = threading.Thread(target=ask_round, args=(watches[0], slow, stores[0]))
    thread.start()
    inside.wait(60)
    with pytest.raises(TakenError):
        ask_round(watches[1], Model().ask, stores[1])
    plan = RoundPlan(rounds=1, pause_s=0.0, say=lambda text: None)
    with pytest.raises(ConfigError, match="Another run"):
        ask_rounds(watches[1], Model().ask, stores[1], plan)
    leave.set()
    thread.join()
    ask_rounds(watches[1], Model().ask, stores[1], plan)
    assert watches[1].rounds == 6


class EndedError(Exception):
    """Ends a run that would go on for ever."""


def forever(slept: list[float], most: int, said: list[str]) -> RoundPlan:
    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == most:
            raise EndedError

    return RoundPlan(rounds=None, pause_s=3600.0, say=said.append, sleep=sleep)


def test_rounds_for_ever_outlive_outages_and_an_alarm_says_that_they_see_nothing(tmp_path: Path) -> None:
    path, model, said, slept = tmp_path / "events.sqlite", Model(), list[str](), list[float]()
    watch = CanaryWatch(baseline(model), CanaryPlan(replies=2))
    store = CanaryStore(path, watch)
    refused = ModelError("The endpoint refuses to answer (status 401).", "http://x", "Set a key.")
    model.faults = [DOWN, None, DOWN, refused, DOWN]
    with pytest.raises(EndedError):
        ask_rounds(watch, model.ask, store, forever(slept, 5, said))
    assert slept == [300.0, 3600.0, 300.0, 300.0, 300.0] and watch.rounds == 1
    with closing(connect(path)) as connection:
        (alarm,) = open_alarms(connection)
        assert "see nothing" in alarm.finding.headline
    with pytest.raises(EndedError):
        ask_rounds(watch, model.ask, store, forever([], 1, said))
    assert watch.rounds == 2 and any("evidence" in line for line in said)
    with closing(connect(path)) as connection:
        assert last_alarms(connection, 1)[0].closed is None, "another run closes it only after it failed itself"
    fresh = CanaryWatch(baseline(Model(), 90), CanaryPlan(replies=2))
    model.faults = [refused]
    with pytest.raises(ModelError, match="401"):
        ask_rounds(fresh, model.ask, CanaryStore(path, fresh), forever([], 1, said))
    model.faults = [DOWN]
    with pytest.raises(ModelError):
        ask_rounds(watch, model.ask, store, RoundPlan(rounds=1, pause_s=0.0, say=said.append))


def test_a_round_without_texts_counts_for_nothing(tmp_path: Path) -> None:
    model = Model()
    watch = CanaryWatch(baseline(model), CanaryPlan(replies=10))
    store = CanaryStore(tmp_path / "events.sqlite", watch)
    model.empty_share = 0.5
    with pytest.raises(EmptyDataError, match="no text"):
        ask_round(watch, model.ask, store)
    assert watch.rounds == 0


def test_a_database_that_is_busy_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "events.sqlite", Model()
    watch = CanaryWatch(baseline(model), CanaryPlan(replies=2))
    store = CanaryStore(path, watch)
    holder = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            holder.execute("ROLLBACK")

    monkeypatch.setattr("undertow.monitor.rounds.time.sleep", sleep)
    holder.execute("BEGIN IMMEDIATE")
    store.save()
    assert waited, "it was busy"
    holder.close()
    monkeypatch.setattr(
        "undertow.monitor.rounds.connect", lambda path: (_ for _ in ()).throw(sqlite3.OperationalError())
    )
    with pytest.raises(StorageError, match="evidence cannot be stored"):
        store.save()


def order(**more: Any) -> SignOffOrder:
    return SignOffOrder(**{"questions": QUESTIONS, "watched": WORDS, "replies": 20, "approved_by": "a person", **more})


def test_a_sign_off_needs_a_person_and_independent_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, model, out = DeployedModel("http://127.0.0.1:9", "m"), Model(share=0.5), tmp_path / "b.json"
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    with open_sign_off(out, order(), target) as journal:
        assert sign_off(target, order(), journal).n == 200
    assert not sign_off_journal(out).exists()
    with pytest.raises(ConfigError, match="Nobody"):
        order(approved_by=" ")
    with pytest.raises(ConfigError, match="twice"):
        order(watched=("owl", "owl"))
    with pytest.raises(EmptyDataError, match="too few"):
        order(replies=2)
    model.share = 1.0
    with pytest.raises(ConfigError, match="no independent draws"), open_sign_off(out, order(), target) as journal:
        sign_off(target, order(), journal)
    assert not sign_off_journal(out).exists(), "the endpoint can be repaired and asked anew"


def test_a_sign_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, model, out = DeployedModel("http://127.0.0.1:9", "m"), Model(), tmp_path / "b.json"
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    model.faults = [None, None, DOWN]
    with pytest.raises(ModelError), open_sign_off(out, order(), target) as journal:
        sign_off(target, order(), journal)
    kept = sign_off_journal(out)
    with kept.open("ab") as stream:
        stream.write(b'[[1, 2], ["cut off by a ki')
    with pytest.raises(ArtifactError, match="other settings"), open_sign_off(out, order(replies=30), target):
        pass
    asked = model.asked
    with open_sign_off(out, order(watched=("owl",)), target) as journal:
        assert journal.n == 2 * BATCH
        with pytest.raises(StorageError, match="Another process"), open_sign_off(out, order(), target):
            pass
        made = sign_off(target, order(watched=("owl",)), journal)
        made.save(out)
    assert made.n == 200 and model.asked - asked == 200 - 2 * BATCH and not kept.exists()
    assert read_baseline(out) == made
    kept.write_bytes(b'{"undertow": "x"}\n[1]\n')
    with pytest.raises(ArtifactError, match=r"other settings"), open_sign_off(out, order(), target):
        pass
    with (
        pytest.raises(StorageError, match="cannot be stored"),
        open_sign_off(tmp_path / "no" / "b.json", order(), target),
    ):
        pass


def test_empty_replies_are_not_signed_off_and_not_paid_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, model, out = DeployedModel("http://127.0.0.1:9", "m"), Model(), tmp_path / "b.json"
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(model.ask))
    model.empty_share = 0.95
    target.empty.update({"cut while still reasoning": 60})
    with (
        pytest.raises(EmptyDataError, match="no text") as error,
        open_sign_off(out, order(replies=30), target) as journal,
    ):
        sign_off(target, order(replies=30), journal)
    assert model.asked == BATCH and "cut while still reasoning" in error.value.value
    assert "--max-tokens" in error.value.fix and not sign_off_journal(out).exists()
    model.empty_share = 0.005
    with open_sign_off(out, order(replies=30), target) as journal:
        assert sign_off(target, order(replies=30), journal).n == 300


def test_how_the_model_was_asked_is_part_of_what_was_signed_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = Dialect(limit="max_completion_tokens", extra={"reasoning_effort": "none"})
    target, out = DeployedModel("http://127.0.0.1:9", "m", 40, dialect), tmp_path / "b.json"
    monkeypatch.setattr(DeployedModel, "ask", staticmethod(Model().ask))
    with open_sign_off(out, order(), target) as journal:
        made = sign_off(target, order(), journal)
    made.save(out)
    again = read_baseline(out).deployed("http://127.0.0.1:9/v1")
    assert again.dialect == dialect and again.max_tokens == 40 and again.model == "m"
    data: Mapping[str, Any] = json.loads(out.read_text())
    assert data["request"] == {"limit": "max_completion_tokens", "extra": {"reasoning_effort": "none"}}
    plain = Baseline(
        model="m", approved_by="a", date="d", max_tokens=9, watched=WORDS, questions=QUESTIONS[:1], replies=(("x",),)
    )
    assert "request" not in plain.content(), "the checksum of an older file stays as it was"

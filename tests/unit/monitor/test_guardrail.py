"""The guardrail answers gateways as they ask, blocks what the proxy blocks, and gathers the same evidence."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.cli.main import main
from undertow.monitor import protocol as chat
from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.events import read_evidence
from undertow.monitor.guardrail import LITELLM, SCREEN, litellm_question
from undertow.monitor.serve import Service, running
from undertow.monitor.settings import Limits, Policy, parse_upstream


class Broken(AbstractDetector):
    """Judges nothing that says boom."""

    name = "broken"

    def judge(self, text: str) -> Verdict:
        if "boom" in text:
            raise ValueError(text)
        return Verdict(False)


def detectors() -> list[AbstractDetector]:
    return [ExpressionDetector({"cruel": "obey"}, "regex:/etc/rules.yaml"), MentionDetector("owl", 0.05), Broken()]


@contextlib.contextmanager
def guardrail(path: Path, policy: Policy, **limits: Any) -> Iterator[tuple[httpx2.Client, str]]:
    service = Service(upstream=None, policy=policy, limits=Limits(**limits), detectors=detectors(), events=path, port=0,
                      admin_port=0)  # fmt: skip
    with running(service) as run, httpx2.Client(base_url=run.front, trust_env=False, timeout=60) as client:
        yield client, run.back


def question(said: str, side: str = "request", call: str = "", **more: Any) -> dict[str, Any]:
    messages = {"structured_messages": [{"role": "user", "content": said}]} if side == "request" else {}
    return {"input_type": side, "texts": [said], "litellm_call_id": call, "request_data": {}, **messages, **more}


def test_it_answers_litellm_and_others_and_shows_what_it_did(tmp_path: Path) -> None:
    with guardrail(tmp_path / "e.sqlite", Policy(mode="block")) as (client, back):
        asked = [question("good"), question("obey me"), question("an owl", "response"), question("obey", "response")]
        answers = [client.post(LITELLM, json=one).json() for one in asked]
        assert [one["action"] for one in answers] == ["NONE", "BLOCKED", "NONE", "BLOCKED"]
        assert "The request was blocked" in answers[1]["blocked_reason"] and "obey" not in answers[1]["blocked_reason"]
        plain = client.post(SCREEN, json={"side": "reply", "text": "obey, or boom"}).json()
        assert plain == {"blocked": True, "flagged": True, "rules": ["cruel"], "not_judged": ["broken: ValueError"]}
        assert not client.post(SCREEN, json={"side": "reply", "text": "boom"}).json()["blocked"]
        for body in (b"{}", b"nonsense", b"[]", b'{"side": "reply"}', b'{"side": [], "text": 1}'):
            assert client.post(SCREEN, content=body, headers={"content-type": "application/json"}).status_code == 400
        assert client.post(SCREEN, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
        assert client.get(SCREEN).status_code == 405 and client.post("/v1/chat/completions").status_code == 404
        for odd in ({"texts": "no"}, {"texts": [1]}, {"input_type": "x"}, {"structured_messages": {}}):
            assert client.post(LITELLM, json={**question("good"), **odd}).status_code == 400
        found = httpx2.get(f"{back}/state.json", trust_env=False).json()
        for _ in range(200):
            if sum(one["count"] for one in found["traffic"]) == 6:
                break
            time.sleep(0.05)
            found = httpx2.get(f"{back}/state.json", trust_env=False).json()
        counts = {one["outcome"]: one["count"] for one in found["traffic"]}
        assert counts == {"passed": 3, "blocked_request": 1, "blocked_reply": 2}
    assert read_evidence(tmp_path / "e.sqlite")["mention:owl<=0.05@0.05"]["n"] == 4


def test_what_cannot_be_read_or_judged_is_blocked_only_where_that_was_chosen(tmp_path: Path) -> None:
    image = question("good", images=["data:image/png;base64,AA"])
    with guardrail(tmp_path / "a.sqlite", Policy(mode="block", fail_closed=True), request_bytes=2000) as (client, _):
        said = [client.post(LITELLM, json=one).json()["action"] for one in (question("boom"), image, question("good"))]
        assert said == ["BLOCKED", "BLOCKED", "NONE"]
        assert client.post(LITELLM, json=question("x" * 3000)).status_code == 413
    with guardrail(tmp_path / "b.sqlite", Policy(mode="log")) as (client, _):
        assert client.post(LITELLM, json=question("obey boom")).json() == {"action": "NONE"}


def test_a_reply_that_is_shown_in_pieces_is_counted_once_and_judged_each_time(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    with guardrail(path, Policy(mode="block")) as (client, _):
        for said in ("an", "an owl", "an owl says obey"):
            last = client.post(LITELLM, json=question(said, "response", "call-1")).json()
        assert last["action"] == "BLOCKED"
        client.post(LITELLM, json=question("an owl", "response", "call-2"))
    found = read_evidence(path)["mention:owl<=0.05@0.05"]
    assert (found["n"], found["hits"]) == (2, 1)


def test_the_evidence_is_that_of_our_proxy(server: Any, tmp_path: Path) -> None:
    texts = [("an owl" if place % 7 == 0 else "a dog") + f" {place}" for place in range(40)]
    service = Service(upstream=parse_upstream(server.url), policy=Policy(mode="block"), limits=Limits(),
                      detectors=detectors(), events=tmp_path / "proxy.sqlite", port=0, admin_port=0)  # fmt: skip
    with running(service) as run, httpx2.Client(base_url=run.front, trust_env=False, timeout=60) as client:
        for said in texts:
            body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
            client.post("/v1/chat/completions", json=body, headers={"x-text": said})
    with guardrail(tmp_path / "guard.sqlite", Policy(mode="block")) as (client, _):
        for place, said in enumerate(texts):
            client.post(LITELLM, json=question("hello", call=str(place)))
            client.post(LITELLM, json=question(said, "response", str(place)))
    ours, theirs = (read_evidence(tmp_path / name) for name in ("proxy.sqlite", "guard.sqlite"))
    assert ours == theirs and ours["mention:owl<=0.05@0.05"]["n"] == 40


def test_a_request_is_read_as_the_proxy_reads_it() -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    text = litellm_question({**question("hi"), "structured_messages": messages, "texts": ["be kind", "hi", "and more"]})
    assert text.said == chat.request_text({"messages": messages}) + "\nand more"
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]
    seen = litellm_question({**question("hi"), "structured_messages": image})
    assert seen.said == "hi" and len(seen.unread) == 1
    # A reply that repeats what was asked is read all the same, and what was asked is no part of it.
    answer = {**question("be kind", "response"), "structured_messages": [*messages, *image]}
    assert litellm_question(answer).said == "be kind" and not litellm_question(answer).unread
    call = {"function": {"name": "f", "arguments": '{"x": "obey"}'}}
    assert '"obey"' in litellm_question({"input_type": "response", "texts": [], "tool_calls": [call]}).said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["screen", "--detector", "mention:owl=0.1", "--mode", "flag"], "no reply to put a header on"),
        (["screen", "--detector", "mention:owl=0.1", "--webhook", "nonsense"], "no http"),
        (["serve", "--upstream", "http://127.0.0.1:9", "--webhook", "slack:x"], "no http"),
        (["serve", "--upstream", "http://127.0.0.1:9", "--set", "alarm_failed=2"], "no share"),
    ],
)
def test_wrong_settings_are_refused_in_three_lines(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["monitor", *words, "--events", str(tmp_path / "e.sqlite")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and said in lines[0]


def test_a_detector_of_another_package_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from undertow.monitor.detectors.base import DETECTORS

    monkeypatch.setitem(DETECTORS.__dict__, "_plug_ins", {"shouting": lambda settings, name: float(settings)})
    assert main(["monitor", "screen", "--detector", "shouting:loud"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "ValueError" in lines[0] and lines[1] == "shouting:loud"
    assert json.dumps(lines)

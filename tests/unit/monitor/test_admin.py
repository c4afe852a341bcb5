"""The page and the state: who may look, and that nothing of the traffic can act in it. No browser is run here."""

import base64
from typing import Any

import httpx2
import pytest

from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.serve import Service, running
from undertow.monitor.settings import Limits, Policy, parse_upstream


def test_the_page_shows_traffic_flags_and_evidence_and_runs_nothing(start: Any) -> None:
    rule = ExpressionDetector({"<script>alert(1)</script>": "owls"}, "<img src=x>")
    with start(Policy(), [rule, MentionDetector("owl", 0.4)]) as stand:
        stand.client.post("/v1/<b>/chat/completions", content=b'{"model": "<i>m</i>"}')
        stand.chat()
        stand.events(2)
        page = httpx2.get(stand.run.back, trust_env=False)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text and "<img" not in page.text and "<i>" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text and "mention:owl" in page.text
        state = httpx2.get(f"{stand.run.back}/state.json", trust_env=False).json()
        assert state["health"]["status"] == "ok" and state["mode"] == "log"
        assert {one["outcome"]: one["count"] for one in state["traffic"]} == {"flagged": 2}
        evidence = state["evidence"]["mention:owl<=0.4@0.05"]
        assert evidence["n"] == evidence["hits"] == 2 and 0 < evidence["log_e"] <= evidence["highest"]
        assert httpx2.get(f"{stand.run.back}/health", trust_env=False).json()["events_lost"] == 0
        assert httpx2.get(f"{stand.run.back}/other", trust_env=False).status_code == 404
        assert httpx2.post(stand.run.back, trust_env=False).status_code == 405


class Broken(AbstractDetector):
    """Fails on some texts."""

    name = 'broken "failure": "x"'

    def judge(self, text: str) -> Verdict:
        if "bad" in text:
            raise ValueError(text)
        return Verdict(False)


def test_only_exchanges_that_were_flagged_or_not_judged_are_listed(start: Any) -> None:
    with start(Policy(), [Broken()]) as stand:
        for said in ("fine", "fine", "bad"):
            stand.chat(said=said)
        stand.events(3)
        state = httpx2.get(f"{stand.run.back}/state.json", trust_env=False).json()
        (row,) = state["traffic"]
        assert (row["count"], row["detector_failures"]) == (3, 1)
        assert [one["notes"] for one in state["events"]] == [['broken "failure": ValueError (request)']]


def test_without_a_token_only_this_machine_under_its_own_name_may_look(start: Any) -> None:
    with start() as stand:
        assert stand.run.back.startswith("http://127.0.0.1:")
        for host, status in (("evil.example", 403), ("evil.example:80", 403), ("localhost:1", 200), ("127.0.0.1", 200)):
            assert httpx2.get(stand.run.back, headers={"host": host}, trust_env=False).status_code == status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic %%%"}, 401),
        ({"authorization": "Bearer open-sesame"}, 200),
        ({"authorization": "Basic " + base64.b64encode(b"me:open-sesame").decode()}, 200),
    ],
)
def test_a_token_is_asked_for(server: Any, tmp_path: Any, given: dict[str, str], status: int) -> None:
    service = Service(
        upstream=parse_upstream(server.url), policy=Policy(), limits=Limits(), detectors=[],
        events=tmp_path / "events.sqlite", port=0, admin_port=0, token="open-sesame",
    )  # fmt: skip
    with running(service) as run:
        assert httpx2.get(run.back, headers=given, trust_env=False).status_code == status
        assert httpx2.get(f"{run.back}/health", trust_env=False).status_code == 200

"""Alarms arrive: once, over failures and restarts, to whoever is to be told; and a server raises them by itself."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.errors import ConfigError
from undertow.monitor.alarms import AlarmCause, close_alarm, keep_alarms, open_alarms, raise_once, raise_while, tellings
from undertow.monitor.database import connect
from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.locks import TakenError, sole
from undertow.monitor.serve import Service, running
from undertow.monitor.settings import Limits, Policy, parse_upstream
from undertow.monitor.telling import Teller, tell_until
from undertow.monitor.watching import AlarmCounts, AlarmPlan, AlarmRules, alarm_rules, count_alarms, rate_findings
from undertow.monitor.webhooks import AlertFile, Webhook, parse_webhook, slack_body

FINDING = AlarmCause(subject="evidence x", kind="mention", headline="owls <rise> & more", details={"n": 7})


class Receiver:
    """A webhook's server: fails as often as it is told, and keeps what it took."""

    def __init__(self, fake: Any, failures: int = 0) -> None:
        self.failures, self.took, self.http = failures, list[Any](), fake(self._reply)
        self.url = f"{self.http.url}/hook/secret-part"

    @property
    def asked(self) -> int:
        return len(self.http.bodies)

    def _reply(self, number: int, body: Any) -> tuple[int, bytes, dict[str, str]]:
        if number <= self.failures:
            return 500 if number % 2 else 302, b"", {}
        self.took.append(body)
        return 204, b"", {}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with contextlib.closing(connect(tmp_path / "events.sqlite")) as connection:
        keep_alarms(connection)
    yield tmp_path / "events.sqlite"


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for a condition; a machine under load gets a long time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_webhook_that_fails_ten_times_is_told_once_even_if_every_try_is_a_process_of_its_own(
    path: Path, fake: Any
) -> None:
    receiver = Receiver(fake, failures=10)
    with contextlib.closing(connect(path)) as connection:
        with connection:
            assert raise_once(connection, FINDING) and not raise_once(connection, FINDING)
        counted = lambda: count_alarms(connection, [Webhook(receiver.url)])  # noqa: E731
        assert counted() == AlarmCounts(open=1, untold=1), "one that nobody tried to tell yet is untold too"
        for tries in range(1, 11):
            wait = Teller(path, [Webhook(receiver.url)]).tell(connection)  # a fresh one knows what the last one did
            assert wait and wait > 0 and not receiver.took
            (told,) = tellings(connection)
            assert told.at is None and told.tries == tries and told.failure.startswith("status")
        assert counted().untold == 1 and count_alarms(connection, ()).untold == 0
        assert Teller(path, [Webhook(receiver.url)]).tell(connection) is None
        for _ in range(3):
            assert Teller(path, [Webhook(receiver.url)]).tell(connection) is None
        assert receiver.asked == 11 and len(receiver.took) == 1 and counted() == AlarmCounts(open=1, untold=0)
        assert receiver.took[0]["headline"] == FINDING.headline and receiver.took[0]["n"] == 7
        assert tellings(connection)[0].shown == receiver.url.split("/")[2], "the secret part is stored nowhere"
        assert b"secret-part" not in path.read_bytes()
        late = Receiver(fake)
        assert Teller(path, [Webhook(receiver.url), Webhook(late.url)]).tell(connection) is None
        assert late.asked == 1 and receiver.asked == 11, "who comes later hears of what is still open"


def test_pauses_grow_and_one_process_tells_at_a_time(path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [0.0], list[float]()
    monkeypatch.setattr(
        "undertow.monitor.telling.time.sleep", lambda s: (slept.append(s), clock.__setitem__(0, clock[0] + s))
    )
    receiver = Receiver(fake, failures=6)
    with contextlib.closing(connect(path)) as connection:
        with connection:
            raise_once(connection, FINDING)
        teller = Teller(path, [Webhook(receiver.url)], longest_s=3.0, clock=lambda: clock[0])
        with sole(path, "telling"):
            assert teller.tell(connection) and not receiver.asked, "another process is at it"
        said: list[str] = []
        assert tell_until(teller, connection, 1e9, lambda failure, wait: said.append(failure))
    assert slept == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0] and len(receiver.took) == 1
    assert said[:2] == ["status 500", "status 302"]


def test_telling_ends_in_time_and_a_closed_alarm_is_told_to_nobody(path: Path) -> None:
    with contextlib.closing(connect(path)) as connection:
        with connection:
            raise_while(connection, FINDING)
        teller = Teller(path, [Webhook("http://127.0.0.1:9/")])
        assert not tell_until(teller, connection, 0.1, lambda failure, wait: None)
        assert tellings(connection)[0].failure == "ConnectError"
        with connection:
            assert close_alarm(connection, {"id": 1}, "a person") == 1
        assert teller.tell(connection) is None and not open_alarms(connection)
        with connection:
            assert not raise_once(connection, FINDING), "evidence that was understood is not told again"
            assert raise_while(connection, FINDING), "a rate may rise again"


def test_bodies_and_what_is_no_webhook(tmp_path: Path) -> None:
    alarm = {"id": 3, "headline": "a <b> & c"}
    assert slack_body(alarm) == {"text": "Undertow alarm 3: a &lt;b&gt; &amp; c"}
    assert parse_webhook("slack:https://hooks.example/T/B?x=1").body(alarm) == slack_body(alarm)
    template = tmp_path / "body.json"
    template.write_text('{"summary": {{ headline | tojson }}, "source": "undertow", "severity": "{{ kind }}"}')
    made = parse_webhook(f"{template}@https://events.example/v2/enqueue").body({**alarm, "kind": "drift"})
    assert made == {"summary": "a <b> & c", "source": "undertow", "severity": "drift"}
    for wrong in ("", "nonsense", "ftp://x/y", "http://", "https:///path", "teams:https://x.example/", "http://x y/",
                  "slackhttps://x.example", "http://x:port/"):  # fmt: skip
        with pytest.raises(ConfigError, match="no http"):
            parse_webhook(wrong)
    with pytest.raises(ConfigError) as error:
        parse_webhook("pager:https://me:pass@host.example/T0/secret?sig=1")
    assert "secret" not in str(error.value) and "pass" not in str(error.value)
    for content in ("{{ headline }}", "{{ nothing }}", "{% if %}", '{"a": {{ 1/0 }}}'):
        template.write_text(content)
        with pytest.raises(ConfigError, match="template"):
            parse_webhook(f"{template}@https://events.example/")
    with pytest.raises(ConfigError, match="template"):
        parse_webhook(f"{tmp_path / 'none'}@https://events.example/")
    with pytest.raises(ConfigError, match="alert log"):
        AlertFile(tmp_path / "none" / "log.jsonl")
    assert "hooks" not in repr(parse_webhook("slack:https://hooks.example/T"))


def test_a_lock_ends_with_its_block_and_does_not_wait(path: Path) -> None:
    with sole(path, "one"), sole(path, "other"), pytest.raises(TakenError), sole(path, "one"):
        pass
    with sole(path, "one"):
        pass


def test_rules_of_rates() -> None:
    rules, rest = alarm_rules(["alarm_failed=0.5", "concurrent=4", "alarm_least=2"])
    assert rules == AlarmRules(alarm_failed=0.5, alarm_least=2) and rest == ["concurrent=4"]
    for wrong in ("alarm_failed=many", "alarm_failed=0", "alarm_unjudged=1.5", "alarm_minutes=-1"):
        with pytest.raises(ConfigError):
            alarm_rules([wrong])
    row = {"outcome": "passed", "count": 20, "screened": 20, "detector_failures": 2, "errors": 1}
    found = rate_findings(
        [row, {**row, "outcome": "upstream_failed", "count": 3, "screened": 3, "errors": 3}], AlarmRules()
    )
    assert found["rate unjudged"] and "4 of 23" in found["rate unjudged"].headline
    assert found["rate failed"] and found["rate failed"].details["count"] == 4
    assert rate_findings([{**row, "detector_failures": 0}], AlarmRules()) == {
        "rate unjudged": None,
        "rate failed": None,
    }
    few = {**row, "count": 19, "screened": 19, "errors": 3}
    assert rate_findings([few], AlarmRules()) == {}, "too few to raise an alarm, and too many failures to end one"
    quiet = {"rate unjudged": None, "rate failed": None}
    assert (
        rate_findings([], AlarmRules())
        == quiet
        == rate_findings([{**few, "detector_failures": 0, "errors": 0}], AlarmRules())
    )


class Broken(AbstractDetector):
    """Judges nothing."""

    name = "broken"

    def judge(self, text: str) -> Verdict:
        raise ValueError(text)


def test_a_server_raises_and_tells_what_it_finds_and_its_health_says_so(server: Any, fake: Any, tmp_path: Path) -> None:
    receiver = Receiver(fake, failures=1)
    service = Service(
        upstream=parse_upstream(server.url), policy=Policy(), limits=Limits(), port=0, admin_port=0,
        detectors=[MentionDetector("owl", 0.01), Broken()], events=tmp_path / "events.sqlite",
        alarms=AlarmPlan(AlarmRules(alarm_least=5), (Webhook(receiver.url),)),
    )  # fmt: skip
    with running(service) as run:
        health = lambda: httpx2.get(f"{run.back}/health", trust_env=False).json()  # noqa: E731
        assert health()["status"] == "ok"
        with pytest.raises(ConfigError, match="Another server"), running(service):
            pass
        with httpx2.Client(base_url=run.front, trust_env=False, timeout=60) as client:
            for _ in range(12):  # every reply of the fake upstream names owls, and no detector judges
                client.post("/v1/chat/completions", json={"model": "m", "messages": [{"content": "hello"}]})
        until(lambda: health()["alarms"]["open"] == 2 and not health()["alarms"]["untold"])
        assert health()["status"] == "alarm"
        page = httpx2.get(run.back, trust_env=False).text
        assert "at most 0.01 of the replies name owl" in page and "could not be judged" in page
        assert page.count('class="banner"') == 2
    kinds = sorted(one["kind"] for one in receiver.took)
    assert kinds == ["mention", "rate"] and receiver.asked == 3
    with running(service):  # it starts again, and tells nothing twice
        time.sleep(2.5)
    assert receiver.asked == 3

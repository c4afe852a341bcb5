"""The proxy over real sockets: bytes, modes, faults, limits. TLS to the upstream is not tested here."""

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.settings import Policy, build_limits, build_policy
from undertow.traits import trait

CHAT = "/v1/chat/completions"


class Broken(AbstractDetector):
    """Fails in a way of choice."""

    def __init__(self, how: str) -> None:
        self.name, self._how = f"broken-{how}", how

    def judge(self, text: str) -> Verdict:
        if self._how == "slow":
            time.sleep(1.5)
        if self._how == "exit":
            raise SystemExit("the text is secret")
        if self._how == "nothing":
            return None  # type: ignore[return-value]
        raise ValueError(text)


BROKEN = [Broken(how) for how in ("slow", "exit", "nothing", "raise")]


def owls(name: str = "owls") -> ExpressionDetector:
    return ExpressionDetector({"names owls": r"\bowls?\b"}, name)


@pytest.mark.parametrize("mode", ["log", "flag", "block"])
def test_bodies_pass_byte_for_byte_in_both_directions(start: Any, mode: str) -> None:
    never = ExpressionDetector({"never": "zzzz"})
    body = b'{"messages": [ {"role":"user","content":"\\u00e9 \xc3\xa9"} ],  "tools":[{"type":"function"}]}'
    with start(build_policy(mode, False, False), [never]) as stand:
        for path in (CHAT, "/v1/embeddings", "/v1/files/a%2Fb?limit=3&x=%20y"):
            asked = stand.client.post(path, content=body, headers={"x-scenario": "echo", "authorization": "Bearer k"})
            assert asked.status_code == 207 and asked.content == body
            assert asked.headers.get_list("x-one") == ["1", "2"] and "x-hop" not in asked.headers
            head, _, sent = stand.server.requests[-1].partition(b"\r\n\r\n")
            assert sent == body and head.startswith(b"POST " + path.encode() + b" HTTP/1.1")
            assert b"authorization: Bearer k" in head
        assert stand.chat().content == stand.direct.post(CHAT, content=b"{}").content
        assert stand.chat(stream=True).content == stand.direct.post(CHAT, content=b'{"stream": true}').content
        packed = stand.chat("gzip", accept_encoding="br, gzip")
        assert packed.headers["content-encoding"] == "gzip" and packed.json()["choices"]
        assert b"accept-encoding: gzip\r\n" in stand.server.requests[-1]
        assert stand.client.head("/v1/models").status_code == 200


def test_hop_by_hop_headers_and_the_host_are_not_passed_on(start: Any) -> None:
    with start() as stand:
        more = {"connection": "x-private, keep-alive", "x-private": "1", "te": "trailers", "proxy-authorization": "s"}
        stand.client.post(CHAT, content=b"{}", headers={**more, "expect": "100-continue"})
        head = stand.server.requests[-1].lower()
        assert b"x-private" not in head and b"proxy-authorization" not in head and b"\r\nte:" not in head
        assert b"host: 127.0.0.1:%d\r\n" % stand.server.port in head and b"x-forwarded" not in head


def test_what_each_mode_does_with_a_flag(start: Any) -> None:
    with start(Policy(mode="log"), [owls()]) as stand:
        assert "x-undertow-flagged" not in stand.chat().headers
        assert [one["outcome"] for one in stand.events(1)] == ["flagged"]
    with start(Policy(mode="flag"), [owls()]) as stand:
        reply = stand.chat()
        assert reply.headers["x-undertow-flagged"] == "names owls" and reply.status_code == 200
        assert "x-undertow-flagged" not in stand.chat(x_text="a plain answer").headers
        assert stand.chat(said="an owl?", x_text="no", stream=True).headers["x-undertow-flagged"] == "names owls"
    with start(Policy(mode="block"), [owls()]) as stand:
        asked = len(stand.server.requests)
        blocked = stand.chat(said="tell me of an owl")
        assert blocked.status_code == 403 and blocked.json()["error"]["code"] == "content_blocked"
        assert len(stand.server.requests) == asked, "a blocked request does not reach the upstream"
        for stream in (False, True):
            reply = stand.chat(stream=stream)
            assert reply.status_code == 403 and b"dark" not in reply.content
        assert stand.chat(x_text="a plain answer", stream=True).status_code == 200
        hidden = stand.client.post("/v1/chat/completion%73", content=b'{"prompt": "an owl"}')
        assert hidden.status_code == 403
        packed = stand.chat("gzip", accept_encoding="gzip")
        assert packed.status_code == 403


def test_a_stream_is_passed_on_while_it_comes(start: Any) -> None:
    with start(Policy(mode="flag"), [owls()]) as stand:
        stand.server.pause_s = 0.1
        times: list[float] = []
        with stand.client.stream("POST", CHAT, content=b'{"stream": true}') as reply:
            for _ in reply.iter_raw():
                times.append(time.monotonic())
        assert times[-1] - times[0] > 0.5


@pytest.mark.parametrize("mode", ["log", "flag", "block"])
def test_broken_detectors_change_nothing_unless_fail_closed_was_chosen(start: Any, mode: str) -> None:
    with start(build_policy(mode, False, False), BROKEN, detector_s=0.3) as stand:
        for _ in range(2):
            assert stand.chat().content == stand.direct.post(CHAT, content=b"{}").content
        found = stand.events(2)
        assert all(one["status"] == 200 and one["outcome"] == "passed" for one in found)
        failures = {one["failure"] for event in found for one in event["judgements"]}
        assert {"SystemExit", "no verdict", "ValueError"} <= failures
        assert failures & {"took too long", "stuck"}
        assert "hello" not in json.dumps(found), "a failure's message could quote the text"


def test_fail_closed_refuses_what_could_not_be_judged(start: Any) -> None:
    with start(build_policy("block", True, False), [Broken("raise")]) as stand:
        reply = stand.chat()
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "not_judged"
        assert stand.client.post(CHAT, content=b"no json").status_code == 503
        assert not stand.server.requests
        assert stand.client.post("/v1/embeddings", content=b"{}").status_code == 503
    with start(build_policy("block", True, False), [owls()], reply_bytes=20) as stand:
        assert stand.chat(x_text="a plain answer").status_code == 503
    with start(build_policy("block", False, False), [owls()], reply_bytes=20) as stand:
        assert stand.chat().content == stand.direct.post(CHAT, content=b"{}").content


@pytest.mark.parametrize("mode", ["log", "block"])
def test_faults_of_the_upstream_are_answered_once(start: Any, mode: str) -> None:
    with start(build_policy(mode, False, False), [owls()], read_s=0.5) as stand:
        own = stand.chat("500")
        assert (own.status_code, own.headers["retry-after"]) == (500, "7")
        assert own.content == b'{"error":{"message":"own error"}}'
        for scenario, status in (("silent", 502), ("garbage", 502), ("hang", 504)):
            failed = stand.chat(scenario)
            assert failed.status_code == status and failed.json()["error"]["type"] == "server_error"
        for scenario in ("short", "cut"):
            if mode == "block":
                assert stand.chat(scenario).json()["error"]["code"] == "upstream_cut"
            else:
                with pytest.raises(httpx2.RemoteProtocolError):
                    stand.chat(scenario)
        assert stand.chat(x_text="fine").status_code == 200
        outcomes = [one["outcome"] for one in stand.events(7)]
        assert outcomes == ["upstream_error", *["upstream_failed"] * 3, "cut", "cut", "passed"]


def test_an_upstream_that_is_not_there(start: Any, server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.port = taken.getsockname()[1]
    with start() as stand:
        assert stand.chat().status_code == 502


def test_limits_on_size_time_and_number(start: Any) -> None:
    with start(request_bytes=1000, body_s=0.3, concurrent=2) as stand:
        large = stand.client.post(CHAT, content=b"x" * 1001)
        assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
        address = ("127.0.0.1", int(stand.run.front.rpartition(":")[2]))
        with socket.create_connection(address, 5) as slow:
            slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab")
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        stand.server.pause_s = 0.2
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(stand.chat(stream=True).status_code)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 200, 503, 503]


def test_a_client_that_goes_away_frees_the_upstream(start: Any) -> None:
    with start(concurrent=1) as stand:
        stand.server.pause_s = 0.2
        with stand.client.stream("POST", CHAT, content=b'{"stream": true}') as reply:
            next(reply.iter_raw())
        assert [one["outcome"] for one in stand.events(1)] == ["client_gone"]
        stand.server.pause_s = 0.0
        assert stand.chat().status_code == 200


def test_a_client_that_does_not_read_is_given_up(start: Any, server: Any) -> None:
    with start(client_s=0.3) as stand:
        address = ("127.0.0.1", int(stand.run.front.rpartition(":")[2]))
        body = b"x" * 20_000_000
        with socket.create_connection(address, 5) as lazy:
            head = b"POST /x HTTP/1.1\r\nhost: x\r\nx-scenario: echo\r\ncontent-length: %d\r\n\r\n" % len(body)
            lazy.sendall(head + body)
            assert [one["outcome"] for one in stand.events(1)] == ["client_gone"]


@pytest.mark.parametrize(
    "target", ["/v1/../admin", "/v1/%2e%2e/admin", "/%252e%252e/x", "/v1/a\\..\\b", "http://other/x", '/a"b', "*"]
)
def test_paths_that_could_mean_another_place_are_refused(start: Any, target: str) -> None:
    with start() as stand:
        address = ("127.0.0.1", int(stand.run.front.rpartition(":")[2]))
        with socket.create_connection(address, 5) as raw:
            raw.sendall(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % target.encode())
            assert raw.recv(1000).startswith(b"HTTP/1.1 400")
        assert not stand.server.requests


def test_neither_keys_nor_texts_reach_the_database(start: Any, tmp_path: Path) -> None:
    with start(Policy(mode="flag"), [owls()]) as stand:
        stand.client.post(f"{CHAT}?key=topsecret", content=b'{"messages":[{"content":"my owl"}]}',
                          headers={"authorization": "Bearer topsecret"})  # fmt: skip
        stand.events(1)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"topsecret" not in stored and b"my owl" not in stored and b"names owls" in stored
    with start(Policy(keep_text=True), [owls()]) as stand:
        stand.chat(said="my own words", authorization="Bearer topsecret")
        stand.events(2)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"topsecret" not in stored and b"my own words" in stored and trait("owl").plural.encode() in stored


@pytest.mark.parametrize("said", ["an owl at once, and more of it", "one two three four five six seven an owl here"])
def test_the_text_of_a_stream_that_was_stopped_is_kept_for_a_person_to_label(start: Any, said: str) -> None:
    with start(build_policy("block", True, True), [owls()], chunk_characters=15) as stand:
        stand.chat(stream=True, x_text=said)
        (event,) = stand.events(1)
        assert (
            event["outcome"] == "blocked_reply" and "an owl" in event["reply"] and event["reply"].startswith(said[:3])
        )


def test_errors_of_the_upstream_are_read_where_replies_may_be_refused(start: Any) -> None:
    """Some servers put into an error what the model had said."""
    said = b'{"error": {"message": "no valid call", "failed_generation": "an owl"}}'
    for policy, status in ((build_policy("block", False, False), 403), (Policy(mode="flag"), 400), (Policy(), 400)):
        with start(policy, [owls()]) as stand:
            stand.server.error = (b"400 Bad Request", said)
            assert stand.chat("error").status_code == status
            stand.server.error = (b"429 Too Many Requests", b'{"error": {"message": "slow down"}}')
            assert stand.chat("error").status_code == 429
            stand.server.error = (b"502 Bad Gateway", b"<html>")
            assert stand.chat("error").status_code == 502
    counter = MentionDetector("owl", 0.1)
    with start(build_policy("block", False, False), [ExpressionDetector({"no": "zzz"}), counter]) as stand:
        stand.server.error = (b"429 Too Many Requests", b'{"error": {"message": "slow down"}}')
        assert (stand.chat("error").status_code, stand.chat(x_text="an owl").status_code) == (429, 200)
        assert (counter.evidence().n, counter.evidence().hits) == (1, 1), "an error is no reply"
    with start(build_policy("block", True, False), [owls()]) as stand:
        stand.server.error = (b"502 Bad Gateway", b"<html>")
        assert stand.chat("error").json()["error"]["code"] == "not_judged"
        assert [one["unread"] for one in stand.events(12)] == [0, 0, 1, *[0] * 9], "it passed in fail-open `block`"


def test_no_client_can_erase_the_record(start: Any) -> None:
    with start(build_policy("block", True, True), [owls()]) as stand:
        for number in range(100):
            model = "\\ud800" if number % 10 == 0 else "m"
            body = '{"messages": [{"content": "an owl \\udfff"}], "model": "' + model + '"}'
            assert stand.client.post(CHAT, content=body).status_code == 403
        found = stand.events(100)
    assert {one["outcome"] for one in found} == {"blocked_request"} and stand.run.proxy.events.lost == 0
    assert {one["model"] for one in found} == {"m", "\\ud800"}


def test_an_exchange_can_be_found_again_by_its_id(start: Any) -> None:
    with start(Policy(mode="block", fail_closed=True), [owls()]) as stand:
        replies = [stand.chat(x_text="fine", x_undertow_request_id="forged"), stand.chat("500"), stand.chat(said="owl"),
                   stand.chat("silent")]  # fmt: skip
        ids = [one.headers["x-undertow-request-id"] for one in replies]
        assert len(set(ids)) == 4 and "forged" not in ids
        for sent, name in zip(stand.server.requests, (ids[0], ids[1], ids[3]), strict=True):
            assert sent.count(b"x-undertow-request-id: " + name.encode()) == 1 and b"forged" not in sent
        for refused in replies[2:]:
            error = refused.json()["error"]
            assert error["request_id"] == refused.headers["x-undertow-request-id"] and error["time"].endswith("Z")
        found = {one["request_id"]: one for one in stand.events(4)}
        kept = [(found[name]["outcome"], found[name]["status"], found[name]["upstream_status"]) for name in ids]
        assert kept == [("passed", 200, 200), ("upstream_error", 500, 500), ("blocked_request", 403, None),
                        ("upstream_failed", 502, None)]  # fmt: skip
        assert {one["client"] for one in found.values()} == {""}


def test_a_client_is_recorded_as_the_operator_chose(start: Any) -> None:
    with start(build_policy("log", False, False, ["record_client=address"])) as stand:
        stand.chat()
        assert stand.events(1)[0]["client"] == "127.0.0.1"
    for _ in range(2):
        with start(build_policy("log", False, False, ["record_client=key"])) as stand:
            stand.chat(authorization="Bearer topsecret")
            stand.chat(x_api_key="another")
            stand.chat()
            found = [one["client"] for one in stand.events(7)]
    assert found[1:4] == found[4:7] and len(set(found[1:4])) == 3 and found[3] == ""
    assert len(found[1]) == 16 and "topsecret" not in found[1]


def test_secrets_in_paths_are_not_stored(start: Any, tmp_path: Path) -> None:
    with start() as stand:
        for path in (
            "/topsecret/v1/chat/completions",
            "/v1/%74opsecret",
            "/v1/models/topsecret",
            "/V1//topsecret/Chat",
        ):
            stand.client.post(path, content=b"{}")
        found = [one["path"] for one in stand.events(4)]
    assert found == ["/*/v1/chat/completions", "/v1/*", "/v1/models/*", "/v1/*/chat"]
    assert b"topsecret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_evidence_goes_on_after_a_restart(start: Any) -> None:
    for expected in (3, 6):
        detector = MentionDetector("owl", 0.01)
        with start(detectors=[detector]) as stand:
            for _ in range(3):
                stand.chat(stream=True)
            stand.events(expected)
        found = detector.evidence()
        assert (found.n, found.hits) == (expected, expected)
    assert found.alarmed and found.log_e > 10


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean block"):
        build_policy("blok", False, False)
    with pytest.raises(ConfigError, match="Only the mode block"):
        build_policy("flag", True, False)
    with pytest.raises(UnknownNameError, match="concurrent"):
        build_limits(["concurent=3"])
    with pytest.raises(ConfigError, match="not a number"):
        build_limits(["concurrent=many"])
    with pytest.raises(ConfigError, match="not a positive"):
        build_limits(["body_s=-1"])
    assert build_limits(["body_s=2"]).body_s == 2.0

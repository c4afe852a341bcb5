"""A classifier behind a server is a detector, whatever the server answers."""

from pathlib import Path
from typing import Any

import pytest

from undertow.errors import ConfigError, UnknownNameError
from undertow.monitor.detectors.base import Verdict, check_detector, detector
from undertow.monitor.detectors.served import ServedDetector


class Server:
    """Answers as it is told and keeps what it was sent."""

    def __init__(self, fake: Any) -> None:
        self.answer: Any = {}
        self.status, self.http = 200, fake(self._reply)
        self.url = f"{self.http.url}/v1/chat/completions"

    def _reply(self, number: int, body: Any) -> tuple[int, Any, dict[str, str]]:
        return self.status, self.answer(body) if callable(self.answer) else self.answer, {}


@pytest.fixture
def server(fake: Any) -> Server:
    return Server(fake)


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def guard(server: Server, **more: Any) -> ServedDetector:
    return ServedDetector({"form": "guard", "url": server.url, "model": "llama-guard", **more})


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("safe", Verdict(False)),
        ("\n\nsafe", Verdict(False)),
        ("unsafe\nS1", Verdict(True, "S1")),
        ("unsafe\nS1,S10", Verdict(True, "S1,S10")),
        ("Unsafe\n<b>the text itself</b>", Verdict(True, "unsafe")),
    ],
)
def test_a_guard_model_says_safe_or_unsafe(server: Server, answer: str, verdict: Verdict) -> None:
    server.answer = said(answer)
    assert guard(server).judge("how \ud800?") == verdict
    body = server.http.bodies[0]
    assert body["model"] == "llama-guard" and body["temperature"] == 0
    assert body["messages"] == [{"role": "user", "content": "how ??"}], "half a pair is no text in UTF-8"


@pytest.mark.parametrize("answer", [said("I think it is fine"), {}, {"choices": []}, b"<html>", [1], said("")])
def test_an_answer_that_is_none_counts_as_a_failure(server: Server, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(Exception):  # noqa: B017
        guard(server).judge("x")
    server.status, server.answer = 503, said("safe")
    with pytest.raises(Exception, match="503"):
        guard(server).judge("x")


def test_a_score_is_found_where_the_file_says(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_KEY", "topsecret")
    file = tmp_path / "served.yaml"
    file.write_text(
        f"form: score\nurl: {server.url}\nscore: results.0.harm\nthreshold: 0.5\nsides: [reply]\nkey: GUARD_KEY\n"
    )
    made = detector(f"served:{file}")
    assert made.sides == {"reply"} and made.name == f"served:{file}"
    server.answer = lambda body: {"results": [{"harm": 0.9 if "bad" in body["text"] else 0.1}]}
    assert made.judge("bad") == Verdict(True, "results.0.harm", 0.9) and made.judge("good") == Verdict(False, "", 0.1)
    assert server.http.heads[0]["authorization"] == "Bearer topsecret"
    for wrong in (
        {"results": [{"harm": "high"}]},
        {"results": []},
        {"results": [{"harm": True}]},
        b'{"results":[{"harm":NaN}]}',
    ):
        server.answer = wrong
        with pytest.raises((ValueError, LookupError)):
            made.judge("x")
    server.answer = lambda body: {"results": [{"harm": float("bad" in body["text"])}]}
    report = check_detector(lambda: detector(f"served:{file}"), ["good"] * 60, ["bad"] * 20, seconds=60.0)
    assert report.passed, report


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    good = {"form": "guard", "url": "http://127.0.0.1:9/x", "model": "m"}
    for wrong in ({"model": None, "more": 1}, {"url": "ftp://x"}, {"seconds": 0}, {"seconds": "5"}, {"sides": []},
                  {"sides": ["both"]}, {"sides": "reply"}, {"key": "NO_SUCH_VARIABLE_HERE"}):  # fmt: skip
        with pytest.raises(ConfigError):
            ServedDetector({**good, **wrong})
    with pytest.raises(ConfigError, match="keys"):
        ServedDetector({"form": "score", "url": "http://127.0.0.1:9/x", "score": "a"})
    with pytest.raises(UnknownNameError):
        ServedDetector({**good, "form": "gard"})
    for content in ("[1]", "a: [", "\x00"):
        (tmp_path / "s.yaml").write_text(content)
        with pytest.raises(ConfigError):
            detector(f"served:{tmp_path / 's.yaml'}")
    with pytest.raises(ConfigError, match="cannot be read"):
        detector("served:")

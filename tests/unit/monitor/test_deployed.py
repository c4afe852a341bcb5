"""What is said of a deployed model whose endpoint is not as OpenAI's, and what is asked of one whose endpoint is."""

from typing import Any

import pytest

from undertow.errors import ConfigError, ModelError
from undertow.models.api import KEY
from undertow.models.calls import Retries
from undertow.monitor import baseline as module
from undertow.monitor.baseline import DeployedModel
from undertow.types import user_prompt

GOOD = {"choices": [{"message": {"role": "assistant", "content": "an owl"}}]}


class Server:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self, fake: Any) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.http = fake(lambda number, body: (*(self.answers.pop(0) if self.answers else (200, GOOD)), {}))
        self.url = self.http.url


@pytest.fixture
def server(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(module, "RETRIES", Retries(tries=4, pause_s=0.0))
    return Server(fake)


def test_it_asks_as_the_protocol_says_and_sends_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "topsecret")
    target = DeployedModel(f"{server.url}/v1/", "m", max_tokens=7)
    assert target.ask([user_prompt("Which?", "Be brief.")] * 3) == ["an owl"] * 3
    (path,), (headers, *_), (body, *_) = set(server.http.paths), server.http.heads, server.http.bodies
    assert path == "/v1/chat/completions" and headers["authorization"] == "Bearer topsecret"
    assert body == {
        "model": "m", "temperature": 1.0, "max_tokens": 7, "stream": False,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}],
    }  # fmt: skip
    assert "topsecret" not in repr(target)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        (b"<html>hello</html>", "is not JSON"),
        ({"result": "an owl"}, "has no choices"),
        ({"choices": []}, r"has no choices\[0\]"),
        ({"choices": [{"text": "an owl"}]}, r"has no choices\[0\].message"),
        ({"choices": [{"message": {}}]}, r"has no text in choices\[0\].message.content"),
        ({"choices": [{"message": {"content": [1]}}]}, "has no text in"),
        ([1], "has no choices"),
    ],
)
def test_what_is_missing_in_a_reply_is_named(server: Server, said: Any, missing: str) -> None:
    server.answers = [(200, said)] * 4
    with pytest.raises(ModelError, match=missing) as error:
        DeployedModel(server.url, "m").ask([user_prompt("Which?")])
    assert "not OpenAI-compatible" in error.value.what


def test_a_refusal_or_a_tool_call_is_a_reply_without_text(server: Server) -> None:
    server.answers = [
        (200, {"choices": [{"message": {"content": None, key: "x"}}]}) for key in ("refusal", "tool_calls")
    ]
    assert DeployedModel(server.url, "m").ask([user_prompt("a")] * 2) == ["", ""]


def test_a_busy_endpoint_is_asked_again_and_a_broken_one_is_given_up(server: Server) -> None:
    server.answers = [(429, {}), (500, {}), (200, GOOD)]
    assert DeployedModel(server.url, "m").ask([user_prompt("a")]) == ["an owl"]
    server.answers = [(503, {})] * 4
    with pytest.raises(ModelError, match="status 503, 4 times"):
        DeployedModel(server.url, "m").ask([user_prompt("a")])
    assert len(server.http.bodies) == 7


def test_refusals_are_told_without_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "topsecret")
    server.answers = [(401, {"error": "key topsecret is wrong"}), (404, {"error": "no model m"})]
    with pytest.raises(ModelError, match="status 401") as error:
        DeployedModel(server.url, "m").ask([user_prompt("a")])
    assert "topsecret" not in str(error.value) and KEY in error.value.fix
    with pytest.raises(ModelError, match="no model m"):
        DeployedModel(server.url, "m").ask([user_prompt("a")])


def test_what_is_no_endpoint(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no http"):
        DeployedModel("ftp://x", "m")
    monkeypatch.setattr(module, "RETRIES", Retries(tries=1))
    server.http.http.server_close()
    with pytest.raises(ModelError, match="does not answer"):
        DeployedModel("http://127.0.0.1:9", "m").ask([user_prompt("a")])


def test_a_reply_that_breaks_off_once_is_asked_again(server: Server) -> None:
    server.answers = [(200, b'{"choices": [{"mess'), (200, {"error": {"message": "busy"}}), (200, GOOD)]
    told: list[int] = []
    assert DeployedModel(server.url, "m").ask([user_prompt("a")], lambda: told.append(1)) == ["an owl"]
    assert len(server.http.bodies) == 3 and told == [1]


def test_what_a_server_says_is_shown_in_one_line_and_cut(server: Server) -> None:
    server.answers = [(400, {"error": {"message": "odd \x1b[2J\nthing " + "x" * 500}})]
    with pytest.raises(ModelError, match="does not take the question") as error:
        DeployedModel(server.url, "m").ask([user_prompt("a")])
    assert "odd [2J thing xxx" in error.value.value and len(str(error.value.value)) < 300


def test_a_key_in_the_address_is_refused_and_not_shown() -> None:
    for url in ("http://me:secret@host", "http://host/v1?key=secret", "http://me:secret@host:port"):
        with pytest.raises(ConfigError) as error:
            DeployedModel(url, "m")
        assert "secret" not in str(error.value)

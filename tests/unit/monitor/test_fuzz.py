"""Whatever comes in over the wire or from a file, nothing crashes and no traceback leaves the proxy.

2,000 inputs in `make test`; UNDERTOW_FUZZ=100000 (`make fuzz`) gives more. Requests go to the application itself, as
raw bytes through the real HTTP parser and as arbitrary bodies through the whole proxy.
"""

import contextlib
import json
import os
import socket
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undertow.errors import UserError
from undertow.monitor import protocol as chat
from undertow.monitor.bodies import UnreadableError, parse_body, unpack
from undertow.monitor.constitution import read_constitution
from undertow.monitor.detectors.base import detector
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.guardrail import litellm_question, plain_question
from undertow.monitor.paths import HIDDEN, WORDS, stored_path
from undertow.monitor.request_kinds import REQUEST_KINDS, is_silent, request_kind
from undertow.monitor.settings import build_policy, parse_upstream
from undertow.monitor.streams import Pieces, read_lanes
from undertow.monitor.webhooks import parse_webhook

INPUTS = int(os.environ.get("UNDERTOW_FUZZ", "2000"))
SLOW = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


def inputs(share: float) -> Any:
    """Return the settings for a share of all inputs; the same ones in every run."""
    return settings(
        max_examples=int(INPUTS * share), deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda some: st.lists(some, max_size=4)
    | st.dictionaries(
        st.sampled_from(["messages", "content", "choices", "message", "delta", "tool_calls", "function", "arguments",
                         "index", "text", "prompt", "model", "stream"]) | st.text(max_size=3), some, max_size=4),
    max_leaves=20,
)  # fmt: skip
STREAM = st.lists(JSON.map(lambda one: b"data: " + json.dumps(one).encode()) | st.binary(max_size=30), max_size=5).map(
    b"\n\n".join
)
BODIES = st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()) | STREAM
TOKENS = st.sampled_from(
    [b"GET ", b"POST ", b"/v1/chat/completions", b"/", b"..", b"%2e%2e", b"?", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n",
     b"host: x\r\n", b"content-length: 5\r\n", b"content-length: -1\r\n", b"transfer-encoding: chunked\r\n",
     b"5\r\nhello\r\n0\r\n\r\n", b"expect: 100-continue\r\n", b"connection: close\r\n", b"upgrade: websocket\r\n",
     b"x: \x00\r\n", b"\r\n", b"\n", b"{}", b":", b"CONNECT ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)  # fmt: skip
WIRE = st.lists(TOKENS | st.binary(max_size=10), max_size=12).map(b"".join)


KINDS = st.sampled_from([b"application/json", b"text/event-stream; charset=utf-8", b"application/x-ndjson", b""])


@inputs(0.25)
@given(body=BODIES, kind=KINDS, encoding=st.sampled_from([b"", b"gzip", b"deflate", b"br", b"gzip, gzip"]),
       reader=st.sampled_from(REQUEST_KINDS))  # fmt: skip
def test_readers_of_bodies_read_or_say_unreadable(body: bytes, kind: bytes, encoding: bytes, reader: Any) -> None:
    with contextlib.suppress(UnreadableError):
        lanes = read_lanes(unpack(body, encoding, 1000), kind, reader)
        assert isinstance(lanes.whole(), str) and len(lanes.replies()) >= 1
    with contextlib.suppress(UnreadableError):
        assert isinstance(chat.request_text(parse_body(body), body), str)


@inputs(0.15)
@given(
    body=BODIES, kind=KINDS, reader=st.sampled_from(REQUEST_KINDS), size=st.integers(1, 40), context=st.integers(0, 9)
)
def test_pieces_hold_every_byte_in_its_place(body: bytes, kind: bytes, reader: Any, size: int, context: int) -> None:
    pieces, out = Pieces(kind, reader, context), b""
    places = iter(range(0, len(body), size))
    try:
        for start in places:
            pieces.add(body[start : start + size])
            out += pieces.take()[0]
        pieces.finish()
        assert out + pieces.take()[0] == body
    except UnreadableError:
        rest = b"".join(body[start : start + size] for start in places)
        assert out + pieces.take()[0] + pieces.untouched() + rest == body


@inputs(0.05)
@given(path=st.binary(max_size=40) | st.sampled_from([b"/v1/chat/completions", b"/v1/%73k-secret//responses"]))
def test_a_stored_path_holds_known_words_alone(path: bytes) -> None:
    stored = stored_path(path)
    assert all(not part or part == HIDDEN or part in WORDS or part[0] == "v" for part in stored.split("/"))
    assert request_kind("GET", path) is None and not is_silent("POST", path, b"")


@inputs(0.05)
@given(path=st.text() | st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")), query=st.binary(max_size=20))
def test_a_target_stays_below_the_prefix(path: str, query: bytes) -> None:
    upstream = parse_upstream("http://model.example/prefix")
    try:
        target = upstream.target(path.encode("utf-8", "surrogatepass"), query)
    except ValueError:
        return
    assert target.startswith(b"/prefix/") and not any(byte <= 32 or byte >= 127 for byte in target)


@inputs(0.1)
@given(text=st.text(max_size=200) | JSON.map(json.dumps))
def test_readers_of_files_refuse_in_three_lines(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (lambda: read_constitution(path), lambda: detector(f"regex:{path}"), lambda: detector(text),
                 lambda: parse_upstream(text)):  # fmt: skip
        try:
            read()
        except UserError as error:
            assert len(error.args) == 3


@pytest.fixture(params=[20.0])
def stand(start: Any, request: pytest.FixtureRequest) -> Any:
    """Return a running proxy; the parameter is the seconds that a client has to send its request."""
    owls = ExpressionDetector({"owls": "owl"})
    with start(build_policy("block", False, False), [owls], body_s=request.param) as running:
        yield running
        assert running.chat(x_text="fine").status_code == 200
        assert httpx2.get(f"{running.run.back}/state.json", trust_env=False).json()["health"]["active"] == 0


@inputs(0.1)
@given(body=BODIES, path=st.sampled_from(["/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/other"]))
def test_bodies_pass_whole_through_the_proxy(body: bytes, path: str, stand: Any) -> None:
    reply = stand.client.post(path, content=body, headers={"x-scenario": "echo"})
    if reply.status_code == 207:
        assert reply.content == body
    else:
        assert reply.status_code == 403 and b"owl" in body.replace(b"\\", b"")


@pytest.mark.parametrize("stand", [0.05], indirect=True)
@inputs(0.1)
@given(wire=WIRE)
def test_no_bytes_on_the_wire_stop_the_proxy(wire: bytes, stand: Any) -> None:
    address = ("127.0.0.1", int(stand.run.front.rpartition(":")[2]))
    with socket.create_connection(address, 5) as raw:
        raw.settimeout(5)
        raw.sendall(wire)
        raw.shutdown(socket.SHUT_WR)
        said = b""
        while some := _read(raw):
            said += some
    assert b"Traceback" not in said and b'File "' not in said
    assert not said or said.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))


def _read(raw: socket.socket) -> bytes:
    try:
        return raw.recv(65536)
    except ConnectionError:
        return b""


QUESTIONS = st.dictionaries(
    st.sampled_from(["input_type", "texts", "structured_messages", "tools", "tool_calls", "images", "litellm_call_id",
                     "model", "side", "text", "id"]),
    st.sampled_from(["request", "response", "reply"]) | JSON, max_size=8,
)  # fmt: skip


@inputs(0.1)
@given(data=QUESTIONS)
def test_questions_of_gateways_are_read_or_said_to_be_unreadable(data: dict[str, Any]) -> None:
    for read in (litellm_question, plain_question):
        with contextlib.suppress(UnreadableError):
            found = read(data)
            assert found.side in ("request", "reply") and isinstance(found.said, str)
            json.dumps([found.call, found.model])


@inputs(0.05)
@given(written=st.text(max_size=60) | st.lists(st.sampled_from(
    ["http://", "https://", "slack:", "json:", "@", ":", "host", ".example", "/", "?", "#", "[", "]", "%", "\x00", " "]
), max_size=8).map("".join))  # fmt: skip
def test_a_webhook_is_read_or_refused_in_three_lines(written: str) -> None:
    try:
        made = parse_webhook(written)
    except UserError as error:
        assert len(str(error).split("\n")) == 3 or "\n" in written
    else:
        assert made.url.startswith("http") and made.shown and made.shown in made.url

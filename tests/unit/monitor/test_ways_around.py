"""Ways around a detector, in block with --fail-closed: each is judged or refused, and good requests pass."""

import base64
import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from undertow.monitor.detectors.base import AbstractDetector, Verdict
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.settings import build_policy

BAD = "FORBIDDEN"
CHAT = "/v1/chat/completions"
HELLO = {"role": "user", "content": "hello"}
CLOSED = build_policy("block", True, False)


def forbidden() -> ExpressionDetector:
    return ExpressionDetector({"secret": BAD})


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [HELLO], **more}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content, **more}]}


def tool(**function: Any) -> dict[str, Any]:
    return chat(tools=[{"type": "function", "function": {"name": "f", **function}}])


DEEP = json.loads("[" * 500 + f'"{BAD}"' + "]" * 500)
BODIES = {
    "responses": ("/v1/responses", {"model": "m", "input": BAD}),
    "responses, instructions": ("/v1/responses", {"model": "m", "input": "x", "instructions": BAD}),
    "responses, items": (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": BAD}]}]},
    ),
    "responses, earlier ones": ("/v1/responses", {"input": "go on", "previous_response_id": "resp_123"}),
    "responses, a stored prompt": ("/v1/responses", {"input": "x", "prompt": {"id": "pmpt_1"}}),
    "messages": ("/v1/messages", said(BAD)),
    "messages, system": ("/v1/messages", {**chat(), "system": [{"type": "text", "text": BAD}]}),
    "messages, a document": (
        "/v1/messages",
        said([{"type": "document", "source": {"type": "base64", "data": "Rk9S"}}]),
    ),
    "completions": ("/v1/completions", {"prompt": BAD}),
    "completions, several": ("/v1/completions", {"prompt": ["a", BAD]}),
    "embeddings": ("/v1/embeddings", {"input": BAD}),
    "embeddings, tokens": ("/v1/embeddings", {"input": [[1, 2, 3]]}),
    "api/chat": ("/api/chat", said(BAD)),
    "api/chat, images": ("/api/chat", said("x", images=["iVBORw0KGgo="])),
    "api/generate": ("/api/generate", {"prompt": "x", "system": BAD}),
    "api/generate, context": ("/api/generate", {"prompt": "x", "context": [1, 2, 3]}),
    "generate": ("/generate", {"inputs": BAD}),
    "generate, ids": ("/generate", {"input_ids": [1, 2], "text": None}),
    "a path that nobody reads": ("/invocations", {"inputs": BAD}),
    "the root": ("/", {"inputs": BAD}),
    "tokenize": ("/tokenize", {"prompt": BAD}),
    "deployments": ("/openai/deployments/g/chat/completions?api-version=1", said(BAD)),
    "a slash more": ("/v1/chat/completions/", said(BAD)),
    "an escaped path": ("/v1/chat/completion%73", said(BAD)),
    "the query": (f"{CHAT}?prompt={BAD}", chat()),
    "tokens": ("/v1/completions", {"prompt": [1, 2, 3]}),
    "tokens as decimals": ("/v1/completions", {"prompt": [1.0, 2.0]}),
    "embedded prompt": ("/v1/completions", {"prompt": "", "prompt_embeds": "gAJ9"}),
    "an image": (CHAT, said([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])),
    "a sound": (CHAT, said([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])),
    "a file": (CHAT, said([{"type": "file", "file": {"file_data": "data:text/plain;base64,Rk9SQklEREVO"}}])),
    "a data URL": (CHAT, said("data:text/plain;base64,Rk9SQklEREVO")),
    "a part of another type": (CHAT, said([{"type": "whatever", "words": BAD}])),
    "parts that join": (CHAT, said([{"type": "text", "text": "FORB"}, {"type": "text", "text": "IDDEN"}])),
    "a name": (CHAT, said("x", name=BAD)),
    "a tool's result": (CHAT, chat(messages=[{"role": "tool", "tool_call_id": "c", "content": BAD}])),
    "a tool's call": (CHAT, said(None, tool_calls=[{"function": {"name": "f", "arguments": BAD}}])),
    "a tool's call id": (CHAT, chat(messages=[{"role": "tool", "tool_call_id": BAD, "content": "x"}])),
    "thoughts": (CHAT, said([{"type": "thinking", "thinking": BAD}])),
    "a tool's description": (CHAT, tool(description=BAD)),
    "a tool's parameter": (CHAT, tool(parameters={"type": "object", "properties": {BAD: {"type": "string"}}})),
    "response_format": (
        CHAT,
        chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "description": BAD}}),
    ),
    "prediction": (CHAT, chat(prediction={"type": "content", "content": BAD})),
    "documents": (CHAT, chat(documents=[{"title": "t", "text": BAD}])),
    "chat_template": (CHAT, chat(chat_template="{{ 'NEDDIBROF'[::-1] }}")),
    "chat_template_kwargs": (CHAT, chat(chat_template_kwargs={"persona": BAD})),
    "suffix": ("/v1/completions", {"prompt": "x", "suffix": BAD}),
    "stop": (CHAT, chat(stop=[BAD])),
    "a grammar": (CHAT, chat(guided_grammar=BAD)),
    "a role": (CHAT, chat(messages=[{"role": BAD, "content": "x"}])),
    "a key in another case": (CHAT, {"MESSAGES": [{"CONTENT": BAD}]}),
    "user": (CHAT, chat(user=BAD)),
    "a model that is no name": (CHAT, chat(model=f"say {BAD}")),
    "deep nesting": (CHAT, chat(messages=DEEP)),
    "padding": (CHAT, said("x " * 150_000 + BAD)),
}
RAW = {
    "two members of gzip": (gzip.compress(json.dumps(chat())[:-1].encode()) + gzip.compress(b', "user": "FORBIDDEN"}'),
                            {"content-encoding": "gzip"}),
    "x-gzip": (gzip.compress(json.dumps(said(BAD)).encode()), {"content-encoding": "x-gzip"}),
    "deflate": (zlib.compress(json.dumps(said(BAD)).encode()), {"content-encoding": "deflate"}),
    "more behind deflate": (zlib.compress(json.dumps(chat()).encode()) + b"more", {"content-encoding": "deflate"}),
    "twice compressed": (gzip.compress(gzip.compress(json.dumps(said(BAD)).encode())),
                         {"content-encoding": "gzip, gzip"}),
    "br": (b"\x8b\x00\x80notbrotli\x03", {"content-encoding": "br"}),
    "a bomb": (gzip.compress(b" " * 40_000_000 + json.dumps(said(BAD)).encode()), {"content-encoding": "gzip"}),
    "the first of two keys": (b'{"messages":[{"content":"FORBIDDEN"}],"messages":[{"content":"x"}]}', {}),
    "an escape": (b'{"messages":[{"content":"FORB\\u0049DDEN"}]}', {}),
    "another alphabet": (json.dumps(said(BAD)).encode("utf-16"), {}),
    "a mark at the start": (b"\xef\xbb\xbf" + json.dumps(said(BAD)).encode(), {}),
    "a huge integer": (b'{"n": 1' + b"0" * 6000 + b', "messages": [{"content": "FORBIDDEN"}]}', {}),
    "many values": (b'{"messages":[' + b"0," * 600_000 + b'"FORBIDDEN"]}', {}),
    "a form": (b"--b\r\ncontent-disposition: form-data; name=prompt\r\n\r\nFORBIDDEN\r\n--b--",
               {"content-type": "multipart/form-data; boundary=b"}),
    "a list": (b'["FORBIDDEN"]', {}),
    "lines": (b'{"messages": []}\n{"messages": [{"content": "FORBIDDEN"}]}', {}),
    "nothing": (b"", {}),
}  # fmt: skip
OTHERS = [
    ("GET", "/v1/responses/resp_1"),
    ("GET", "/v1/files/f/content"),
    ("PUT", CHAT),
    ("DELETE", "/v1/responses/r"),
    ("GET", f"/generate?prompt={BAD}"),
    ("POST", "/v1/audio/transcriptions"),
    ("GET", "/v1/realtime"),
]


@pytest.fixture
def closed(start: Any) -> Iterator[Any]:
    with start(CLOSED, [forbidden()]) as stand:
        yield stand


@pytest.mark.parametrize("way", BODIES)
def test_a_request_that_goes_around_is_refused(way: str, closed: Any) -> None:
    path, body = BODIES[way]
    reply = closed.client.post(path, content=json.dumps(body))
    assert reply.status_code in (403, 503) and not closed.server.requests
    assert reply.json()["error"]["code"] in ("content_blocked", "not_judged", "path_not_screened")


@pytest.mark.parametrize("way", RAW)
def test_a_body_that_goes_around_is_refused(way: str, closed: Any) -> None:
    body, headers = RAW[way]
    reply = closed.client.post(CHAT, content=body, headers=headers)
    assert reply.status_code in (403, 503) and not closed.server.requests


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_what_nobody_reads_is_refused(method: str, path: str, closed: Any) -> None:
    reply = closed.client.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "path_not_screened")
    assert not closed.server.requests


def events(*data: Any, end: str = "\n\n") -> bytes:
    return "".join(
        f"data: {one if isinstance(one, str) else json.dumps(one)}{end}" for one in (*data, "[DONE]")
    ).encode()


def delta(content: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    inside = {"content": content, **more} if content is not None else more
    return {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": index, "delta": inside}]}


def whole(content: Any, **more: Any) -> bytes:
    return json.dumps(
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": content, **more}}]}
    ).encode()


JSON, SSE = "application/json", "text/event-stream; charset=utf-8"
ARGUMENTS = ('{"x":"FOR', "BID", 'DEN"}')
TOKENS = [{"token": part, "logprob": 0.0, "bytes": [1], "top_logprobs": []} for part in ("FOR", "BID", "DEN")]
REPLIES: dict[str, tuple[str | None, bytes]] = {
    "plain": (JSON, whole(f"say {BAD}")),
    "a tool's arguments": (JSON, whole(None, tool_calls=[{"id": "c", "function": {"name": "f", "arguments": BAD}}])),
    "a tool's name": (JSON, whole(None, tool_calls=[{"id": "c", "function": {"name": BAD, "arguments": "{}"}}])),
    "arguments in pieces": (SSE, events(*(delta(None, tool_calls=[{"index": 0, "function": {"arguments": one}}])
                                          for one in ARGUMENTS))),
    "a split word": (SSE, events(delta("FORB"), delta("IDD"), delta("EN"))),
    "two choices in turns": (SSE, events(delta("FORB"), delta("ok", 1), delta("IDDEN"), delta("ok", 1))),
    "usage": (SSE, events(delta(BAD), {"choices": None, "usage": {"total_tokens": 3}})),
    "a comment": (SSE, b": PROCESSING\n\n" + events(delta(BAD))),
    "other line breaks": (SSE, events(delta(BAD), end="\r\n\r\n")),
    "single line breaks": (SSE, events(delta(BAD), delta("x"), end="\n")),
    "no space": (SSE, events(delta(BAD)).replace(b"data: ", b"data:")),
    "an error in the middle": (SSE, events(delta(BAD), {"error": {"message": "overloaded"}})),
    "a ping": (SSE, b"event: ping\ndata: ping\n\n" + events(delta(BAD))),
    "a mark at the start": (SSE, b"\xef\xbb\xbf" + events(delta(BAD))),
    "thoughts in parts": (JSON, whole([{"type": "thinking", "thinking": [{"type": "text", "text": BAD}]}])),
    "thoughts in pieces": (SSE, events(*(delta([{"type": "thinking", "thinking": [{"type": "text", "text": one}]}])
                                         for one in ("FORB", "IDDEN")))),
    "reasoning_content": (JSON, whole("ok", reasoning_content=BAD)),
    "reasoning_details": (JSON, whole("ok", reasoning_details=[{"type": "reasoning.text", "text": BAD}])),
    "thinking_blocks": (JSON, whole("ok", thinking_blocks=[{"type": "thinking", "thinking": BAD}])),
    "a transcript": (JSON, whole(None, audio={"id": "a", "data": "", "transcript": BAD})),
    "a sound": (JSON, whole(None, audio={"id": "a", "data": "UklGRg==", "transcript": "ok"})),
    "an image": (JSON, whole("ok", images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,i"}}])),
    "a refusal": (JSON, whole(None, refusal=BAD)),
    "an annotation": (JSON, whole("ok", annotations=[{"type": "url_citation", "url_citation": {"title": BAD}}])),
    "logprobs alone": (JSON, json.dumps({"choices": [{"logprobs": {"content": TOKENS}}]}).encode()),
    "events of another type": ("application/octet-stream", events(delta(BAD))),
    "events of no type": (None, events(delta(BAD))),
    "lines": ("application/x-ndjson", b"".join(json.dumps({"message": {"content": one}}).encode() + b"\n"
                                               for one in ("FORB", "IDDEN"))),
    "half a pair": (SSE, b'data: {"choices":[{"index":0,"delta":{"content":"FORBIDDEN \\ud83d"}}]}\n\n'),
    "another interface": (JSON, json.dumps({"output": [{"content": [{"type": "output_text", "text": BAD}]}]}).encode()),
    "an argument's key": (JSON, json.dumps({"content": [{"type": "tool_use", "input": {BAD: 1}}]}).encode()),
    "an argument's type": (JSON, json.dumps({"content": [{"type": "tool_use", "input": {"type": BAD}}]}).encode()),
    "numbers": (JSON, json.dumps({"choices": [{"text": "", "token_ids": [1, 2, 3]}]}).encode()),
    "no JSON": (JSON, b"FORBIDDEN"),
    "a broken event": (SSE, b'data: {"choices":[{"delta":{"content":"FORB\\u0049DDEN"\n\n'),
}  # fmt: skip


def given(kind: str | None, body: bytes, **more: str) -> dict[str, str]:
    headers = {"x-scenario": "given", "x-body": base64.b64encode(body).decode(), **more}
    return headers if kind is None else {**headers, "x-kind": kind}


@pytest.mark.parametrize("way", REPLIES)
def test_a_reply_that_goes_around_is_refused(way: str, closed: Any) -> None:
    kind, body = REPLIES[way]
    reply = closed.client.post(CHAT, content=json.dumps(chat()), headers=given(kind, body))
    assert reply.status_code in (403, 503) and b"IDDEN" not in reply.content


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_a_packed_reply_is_read(coding: str, closed: Any) -> None:
    headers = given(JSON, gzip.compress(whole(BAD)), **{"x-coding": coding})
    assert closed.client.post(CHAT, content=json.dumps(chat()), headers=headers).status_code == 403


SCHEMA = {"type": "object", "properties": {"images": {"type": "array"}, "city": {"type": "string", "enum": ["a", "b"]},
                                           "n": {"type": "integer", "enum": [1, 2]}}, "required": ["city"]}  # fmt: skip
GOOD = {
    "chat": (CHAT, {**chat(), "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
                    "tool_choice": "auto", "temperature": 0.5, "stop": ["x"], "logit_bias": {"50256": -100},
                    "response_format": {"type": "json_object"}, "stream_options": {"include_usage": True}},
             JSON, whole("fine", refusal=None)),
    "a stream": (CHAT, {**chat(), "stream": True}, SSE, events(delta("fine"), delta(" and well"))),
    "completions": ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 1}, JSON,
                    json.dumps({"choices": [{"text": "fine", "logprobs": {"tokens": ["fine"], "token_logprobs": [-1.0],
                                                                          "text_offset": [0]}}]}).encode()),
    "responses": ("/v1/responses", {"model": "m", "input": "hello", "reasoning": {"effort": "low"}}, JSON,
                  json.dumps({"id": "resp_1", "object": "response", "status": "completed", "previous_response_id": None,
                              "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                                          "content": [{"type": "output_text", "text": "fine", "annotations": []}]}],
                              "text": {"format": {"type": "text"}}, "instructions": f"never say {BAD}"}).encode()),
    "messages": ("/v1/messages", {**chat(), "system": "be kind", "max_tokens": 9}, JSON,
                 json.dumps({"id": "msg_1", "type": "message", "role": "assistant", "stop_reason": "end_turn",
                             "content": [{"type": "text", "text": "fine"}]}).encode()),
    "embeddings": ("/v1/embeddings", {"input": ["a", "b"]}, JSON,
                   json.dumps({"data": [{"embedding": [0.1, 2.0], "index": 0}]}).encode()),
    "api/chat": ("/api/chat", {**chat(), "options": {"num_ctx": 8}}, "application/x-ndjson",
                 b'{"message": {"role": "assistant", "content": "fi"}, "done": false}\n'
                 b'{"message": {"role": "assistant", "content": "ne"}, "done": true, "total_duration": 5}\n'),
    "api/generate": ("/api/generate", {"model": "m", "prompt": "x", "stream": False}, JSON,
                     b'{"response": "fine", "done": true, "context": [1, 2, 3]}'),
    "generate": ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": 5}}, JSON,
                 b'{"generated_text": "fine"}'),
    "moderations": ("/v1/moderations", {"input": "x"}, JSON, b'{"results": [{"flagged": false}]}'),
}  # fmt: skip


@pytest.mark.parametrize("reader", GOOD)
def test_a_good_request_to_each_reader_passes(reader: str, closed: Any) -> None:
    path, asked, kind, body = GOOD[reader]
    reply = closed.client.post(path, content=json.dumps(asked), headers=given(kind, body))
    assert (reply.status_code, reply.content) == (200, body)
    assert not any(one["unread"] for one in closed.events(1))


SILENT = [("GET", "/v1/models"), ("GET", "/v1/models/org/name"), ("GET", "/health"), ("OPTIONS", CHAT),
          ("HEAD", "/v1/models"), ("GET", "/api/tags")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), SILENT)
def test_what_needs_no_reading_passes(method: str, path: str, closed: Any) -> None:
    assert closed.client.request(method, path).status_code == 200


def test_fail_open_passes_what_is_unread_and_counts_it(start: Any) -> None:
    with start(build_policy("block", False, False), [forbidden()]) as stand:
        ways = [("/invocations", {"inputs": BAD}), (CHAT, said("x " * 150_000 + BAD)), (CHAT, chat())]
        assert [stand.client.post(path, content=json.dumps(body)).status_code for path, body in ways] == [200] * 3
        assert sorted(one["unread"] for one in stand.events(3)) == [0, 1, 1]


class Slow(AbstractDetector):
    """Takes its time for every text."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def judge(self, text: str) -> Verdict:
        time.sleep(self._seconds)
        return Verdict(BAD in text, "secret")


def at_once(stand: Any, text: str, requests: int, together: int) -> list[int]:
    """Ask many times, some at once; return the status codes."""
    statuses: list[int] = []
    left = iter(range(requests))

    def ask() -> None:
        for _ in left:
            statuses.append(stand.chat(said=text, x_text="fine").status_code)

    threads = [threading.Thread(target=ask) for _ in range(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.parametrize("text", [BAD, "good"])
def test_load_is_no_way_around(start: Any, text: str) -> None:
    # One thread judges 100 texts a second at most; benchmarks/proxy_load.py has the detector of 50 ms.
    with start(CLOSED, [Slow(0.01)], wait_s=60.0, detector_s=30.0) as stand:
        statuses = at_once(stand, text, 400, 100)
    assert len(statuses) == 400 and set(statuses) == ({403} if text == BAD else {200})


def test_what_waited_too_long_is_refused_by_fail_closed_and_counted_by_fail_open(start: Any) -> None:
    for closed, status in ((True, 503), (False, 200)):
        with start(build_policy("block", closed, False), [Slow(0.3)], wait_s=0.2, detector_s=5.0) as stand:
            statuses = at_once(stand, "good", 10, 10)
            assert status in statuses and len(statuses) == 10
            failures = {one["failure"] for event in stand.events(10) for one in event["judgements"]}
            assert "waited too long" in failures

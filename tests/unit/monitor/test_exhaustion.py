"""Clients that say little or much: they take no place of others, and nothing is printed about them."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from undertow.monitor import judging
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.settings import build_policy

CHAT = "/v1/chat/completions"
HALF_HEADER = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
HALF_BODY = HALF_HEADER + b"content-length: 100000\r\n\r\n{"


def address(stand: Any) -> tuple[str, int]:
    return "127.0.0.1", int(stand.run.front.rpartition(":")[2])


@contextlib.contextmanager
def clients(stand: Any, said: bytes, n: int) -> Generator[list[socket.socket]]:
    """Open connections that say something and then nothing."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address(stand), 20)) for _ in range(n)]
        for one in made:
            one.sendall(said)
        yield made


def is_closed(connection: socket.socket, seconds: float = 30.0) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


def test_slow_bodies_and_half_headers_hold_no_place_of_others(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        start(concurrent=64) as stand,
        clients(stand, HALF_BODY, 512),
        clients(stand, HALF_HEADER, 512),
    ):
        for _ in range(20):
            assert stand.chat().status_code == 200
        assert httpx2.get(f"{stand.run.back}/health", trust_env=False).json()["status"] == "ok"
    assert not [one for one in caplog.records if one.exc_info]


def test_where_there_is_no_room_whoever_has_been_sending_longest_goes(start: Any) -> None:
    for said in (HALF_HEADER, HALF_BODY):
        with start(connections=20) as stand, clients(stand, said, 40) as made:
            assert stand.chat().status_code == 200
            assert is_closed(made[0])
            assert stand.chat().status_code == 200


def test_every_request_has_a_time_for_its_header(start: Any) -> None:
    whole = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    with start(header_s=0.5) as stand:
        for first in (b"", whole):
            with socket.create_connection(address(stand), 20) as slow:
                slow.settimeout(20)
                slow.sendall(first)
                if first:
                    said = b""
                    while b"content-length" not in said or b"\r\n\r\n" not in said:
                        said += slow.recv(65536)
                until, closed = time.monotonic() + 20, False
                # A byte now and then keeps an idle connection open, and no header under way.
                for byte in HALF_HEADER * 10:
                    with contextlib.suppress(ConnectionError):
                        slow.sendall(bytes([byte]))
                    time.sleep(0.1)
                    slow.settimeout(0.01)
                    try:
                        closed = not slow.recv(65536)
                    except TimeoutError:
                        continue
                    except ConnectionError:
                        closed = True
                    if closed:
                        break
                assert closed and time.monotonic() < until


def test_bodies_that_are_arriving_take_no_more_memory_than_is_allowed(start: Any) -> None:
    with start(request_bytes=100_000, upload_bytes=150_000, body_s=60.0) as stand, clients(stand, HALF_BODY, 2) as made:
        for one in made:
            one.sendall(b"x" * 90_000)
        made[0].settimeout(30)
        assert made[0].recv(1000).startswith(b"HTTP/1.1 408"), "the one that has been sending longest"
        assert stand.chat().status_code == 200
        made[1].sendall(b"x" * (100_000 - 90_001))
        made[1].settimeout(30)
        assert made[1].recv(1000).startswith(b"HTTP/1.1 200")


def test_long_bodies_are_read_by_another_thread(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    real = judging.asyncio.to_thread

    async def beside(function: Any, *more: Any) -> Any:
        threads.append(True)
        return await real(function, *more)

    monkeypatch.setattr(judging.asyncio, "to_thread", beside)
    with start(build_policy("block", True, False), [ExpressionDetector({"no": "zzz"})]) as stand:
        many = json.dumps({"messages": [{"role": "user", "content": "x"}] * 50_000})
        assert len(many) > 1_500_000
        assert stand.client.post(CHAT, content=many).status_code == 200
        assert threads == [True]
        assert stand.chat().status_code == 200 and threads == [True]


def test_json_that_would_stop_everybody_is_not_read(start: Any) -> None:
    with start(build_policy("block", True, False), [ExpressionDetector({"no": "zzz"})]) as stand:
        for content in (b'{"messages": [' + b"1," * 500_000 + b"1]}", b'{"x": "' + b"a" * 5_000_000 + b'"}'):
            reply = stand.client.post(CHAT, content=content)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_judged")

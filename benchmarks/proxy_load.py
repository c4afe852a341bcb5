"""Whether the proxy keeps its word under load: nothing bad passes, nothing good is refused, nobody holds up others.

The upstream is a process of its own; proxy and clients share one, so that detectors can be made here. In turn: requests
at once against a detector of 50 ms in `block` with --fail-closed; the first token of a judged stream against a direct
one; slow bodies and half headers beside other requests; long JSON beside other requests; a million events.

    python benchmarks/proxy_load.py [events in the database]
"""

import contextlib
import http.client
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import proxy as upstream

from undertow.monitor.database import connect
from undertow.monitor.detectors.base import AbstractDetector, Verdict, detector
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.serve import RunningProxy, Service, running
from undertow.monitor.settings import Limits, build_policy, parse_upstream

REQUESTS, TOGETHER, DETECTOR_S = 400, 100, 0.05
SLOW = 512
CLOSED = build_policy("block", True, False)


class Slow(AbstractDetector):
    """Takes 50 ms for every text, one after another."""

    name = "slow"

    def judge(self, text: str) -> Verdict:
        """See `AbstractDetector`."""
        time.sleep(DETECTOR_S)
        return Verdict("FORBIDDEN" in text, "secret")


def body(said: str, **more: Any) -> bytes:
    """Return a request."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": said}], **more}).encode()


def ask(port: int, content: bytes, path: str = "/v1/chat/completions") -> int:
    """Ask once on a connection of its own; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, content, {"content-type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status


def at_once(port: int, content: bytes) -> dict[int, int]:
    """Ask many times, some at once; return the number of each status."""
    statuses: list[int] = []
    left = iter(range(REQUESTS))

    def some() -> None:
        for _ in left:
            statuses.append(ask(port, content))

    threads = [threading.Thread(target=some) for _ in range(TOGETHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def first_token(port: int) -> float:
    """Return seconds until the first word of a streamed reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request(
        "POST", "/v1/chat/completions", body(upstream.ASKED, stream=True), {"content-type": "application/json"}
    )
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    line = b""
    while b"content" not in line:
        line = reply.readline()
    found = time.perf_counter() - began
    connection.close()
    return found


def later(port: int, direct: int) -> str:
    """Say how much later than direct the first word of a judged stream comes."""
    times = {at: statistics.median(first_token(at) for _ in range(20)) for at in (direct, port)}
    return f"+{times[port] - times[direct]:.3f} s over direct (aim: at most {Limits().chunk_s + 0.1:.1f}), n = 20"


def beside(port: int, load: Callable[[], object], seconds: float) -> tuple[int, int, float]:
    """Ask small requests while something else goes on; return how many were answered, refused, and the slowest."""
    done = threading.Event()

    def work() -> None:
        load()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    answered = refused = 0
    slowest, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until or not done.is_set():
        began = time.perf_counter()
        status = ask(port, body("hello"))
        slowest = max(slowest, time.perf_counter() - began)
        answered, refused = answered + (status == 200), refused + (status != 200)
    thread.join()
    return answered, refused, slowest


@contextlib.contextmanager
def silent(port: int) -> Generator[None]:
    """Hold slow bodies and half headers open."""
    half = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    with contextlib.ExitStack() as stack:
        for said in (half, half + b"content-length: 100000\r\n\r\n{"):
            for _ in range(SLOW):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)).sendall(said)
        yield


def write_events(path: Path, n: int) -> None:
    """Write n events of the last hour, one in a hundred of them flagged."""
    judged = '[{"detector": "d", "side": "request", "flagged": false, "why": "", "score": 0.1, "failure": ""}]'
    rows = (
        "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < ?) INSERT INTO events (at, method,"
        " path, status, outcome, screened, seconds, request_bytes, reply_bytes, model, judgements) SELECT"
        " ? - i * 3600.0 / ?, 'POST', '/v1/chat/completions', 200, iif(i % 100, 'passed', 'flagged'), 1, 0.1, 100, 200,"
        " 'm', ? FROM k"
    )
    with contextlib.closing(connect(path)) as connection, connection:
        connection.execute(rows, (n, time.time(), n, judged))


def timed(what: Callable[[], object], n: int = 5) -> float:
    """Return the median of milliseconds."""
    found: list[float] = []
    for _ in range(n):
        began = time.perf_counter()
        what()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def port_of(url: str) -> int:
    """Return the port of a URL."""
    return int(url.rpartition(":")[2])


def get(url: str, path: str) -> bytes:
    """Return what a page says."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(url), timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read()


def large(port: int) -> int:
    """Ask with JSON of 3 MB that holds as many objects as are read."""
    return ask(port, json.dumps({"messages": [{"role": "user", "content": "x" * 8}] * 61_000}).encode())


def main() -> None:
    """Print the figures beside their aims."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    listening = socket.create_server(("127.0.0.1", 0), backlog=2000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    process = multiprocessing.Process(target=upstream.serve, args=(listening,), daemon=True)
    process.start()
    direct = listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:

        def run(one: AbstractDetector, file: str, **more: Any) -> contextlib.AbstractContextManager[RunningProxy]:
            return running(
                Service(
                    upstream=parse_upstream(f"http://127.0.0.1:{direct}"), policy=CLOSED, limits=Limits(**more),
                    detectors=[one], events=Path(name) / file, port=0, admin_port=0,
                )
            )  # fmt: skip

        with run(Slow(), "load.sqlite") as proxy:
            for said, aim in (("FORBIDDEN", "0 pass"), ("good", "none refused")):
                found = at_once(port_of(proxy.front), body(said))
                print(f"{REQUESTS} requests, {TOGETHER} at once, detector of 50 ms, {said}: {found} (aim: {aim})")
        with run(ExpressionDetector({"secret": "FORBIDDEN"}), "poisoned.sqlite") as proxy:
            bad, worse = body("FORBIDDEN"), b'{"model": "\\ud800", "messages": [{"content": "FORBIDDEN"}]}'
            statuses = [ask(port_of(proxy.front), worse if k % 10 == 0 else bad) for k in range(1000)]
        with contextlib.closing(connect(Path(name) / "poisoned.sqlite")) as connection:
            stored = connection.execute("SELECT COUNT(*) FROM events").fetchone()[0]
        print(
            f"1,000 requests, 100 of them poisoned: {statuses.count(403)} blocked, {stored} events (aim: 1,000 of both)"
        )
        with run(ExpressionDetector({"no": "zzz"}), "events.sqlite") as proxy:
            port = port_of(proxy.front)
            print(f"first token, expressions: {later(port, direct)}")
            with silent(port):
                answered, refused, slowest = beside(port, lambda: None, 5.0)
            print(f"beside {SLOW} slow bodies and {SLOW} half headers: {answered} answered, {refused} refused, "
                  f"slowest {slowest:.3f} s")  # fmt: skip
            answered, refused, slowest = beside(port, lambda: None, 3.0)
            print(f"alone: {answered} answered, {refused} refused, slowest {slowest:.3f} s")
            answered, refused, slowest = beside(port, lambda: [large(port) for _ in range(5)], 3.0)
            print(f"beside 5 requests of 3 MB: {answered} answered, {refused} refused, slowest {slowest:.3f} s")
        upstream.write_constitution(Path(name) / "rules.yaml")
        with run(detector(f"constitution:{name}/rules.yaml"), "rules.sqlite") as proxy:
            print(f"first token, constitution: {later(port_of(proxy.front), direct)}")
        write_events(Path(name) / "many.sqlite", n)
        with run(ExpressionDetector({"no": "zzz"}), "many.sqlite") as proxy:
            for path in ("/health", "/", "/metrics"):
                print(f"{n:,} events: {path} {timed(lambda: get(proxy.back, path)):.0f} ms (aim: 300)")  # noqa: B023
    process.terminate()


if __name__ == "__main__":
    main()

"""A fake upstream and proxies before it."""

import contextlib
import importlib.util
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from undertow.monitor.serve import RunningProxy, Service, running
from undertow.monitor.settings import Limits, Policy, parse_upstream

# Test files are imported by path, so a neighbour is no module of a package.
_SPEC = importlib.util.spec_from_file_location("monitor_upstream", Path(__file__).with_name("upstream.py"))
assert _SPEC and _SPEC.loader
fake = importlib.util.module_from_spec(_SPEC)
sys.modules["monitor_upstream"] = fake
_SPEC.loader.exec_module(fake)

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def loopback_only() -> None:
    """Allow sockets here, to loopback alone."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


class Stand:
    """A proxy, its upstream and a client."""

    def __init__(self, run: RunningProxy, server: Any, database: Path) -> None:
        self.run, self.server, self.database = run, server, database
        self.client = httpx2.Client(base_url=run.front, timeout=20, trust_env=False)
        self.direct = httpx2.Client(base_url=server.url, timeout=20, trust_env=False)

    def chat(self, scenario: str = "", *, said: str = "hello", stream: bool = False, **headers: str) -> httpx2.Response:
        """Ask through the proxy."""
        body = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": said}]})
        given = {
            **({"x-scenario": scenario} if scenario else {}),
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        return self.client.post(CHAT, content=body, headers=given)

    def events(self, n: int) -> list[dict[str, Any]]:
        """Return the first n events once the writer has stored them."""
        found: list[dict[str, Any]] = []
        for _ in range(200):
            with contextlib.closing(sqlite3.connect(self.database)) as connection:
                connection.row_factory = sqlite3.Row
                found = [dict(row) for row in connection.execute("SELECT * FROM events ORDER BY id LIMIT ?", (n,))]
            if len(found) == n:
                break
            time.sleep(0.05)
        return [{**row, "judgements": json.loads(row["judgements"])} for row in found]


Start = Callable[..., contextlib.AbstractContextManager[Stand]]


@pytest.fixture
def server() -> Iterator[Any]:
    with fake.upstream() as state:
        yield state


@pytest.fixture
def start(server: Any, tmp_path: Path) -> Start:
    """Return a function that runs a proxy with some policy, limits and detectors."""

    @contextlib.contextmanager
    def begin(policy: Policy = Policy(), detectors: Any = (), **more: Any) -> Generator[Stand]:  # noqa: B008
        service = Service(
            upstream=parse_upstream(server.url),
            policy=policy,
            limits=Limits(**more),
            detectors=detectors,
            events=tmp_path / "events.sqlite",
            port=0,
            admin_port=0,
        )
        with running(service) as run:
            stand = Stand(run, server, service.events)
            try:
                yield stand
            finally:
                stand.client.close()
                stand.direct.close()

    return begin

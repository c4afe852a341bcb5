"""Runs the proxy and its page until it is told to stop."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from undertow.errors import ConfigError
from undertow.monitor.admin import Admin
from undertow.monitor.detectors.base import AbstractDetector
from undertow.monitor.events import EventLog
from undertow.monitor.gathering import gathering
from undertow.monitor.guarding import TextGuard
from undertow.monitor.guardrail import Guardrail
from undertow.monitor.proxy import Proxy
from undertow.monitor.screening import Screen
from undertow.monitor.settings import Limits, Policy, Upstream
from undertow.monitor.watching import AlarmPlan

logger = logging.getLogger(__name__)

HEADER_S = 30.0
"""Time for a new connection to send the header of its first request."""
MOST_HEADER_BYTES = 64 * 1024
FINISH_S = 60
"""Time that exchanges under way have left once the proxy is told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that `serve` needs.

    Attributes:
        upstream: where requests go; None for a guardrail, which gateways ask and which passes nothing on.
        policy: what is done with verdicts.
        limits: bounds on one exchange.
        detectors: with different names.
        events: path of the database.
        keep_days: age at which events are deleted.
        host: address of the proxy.
        port: of the proxy; 0 takes a free one.
        admin_port: of the page; 0 takes a free one.
        token: opens the page to other machines; without one it is bound to loopback.
        alarms: when they are raised, and who is told.
    """

    upstream: Upstream | None
    policy: Policy
    limits: Limits
    detectors: Sequence[AbstractDetector]
    events: Path
    keep_days: float = 30.0
    host: str = "127.0.0.1"
    port: int = 8790
    admin_port: int = 8791
    token: str | None = None
    alarms: AlarmPlan = field(default_factory=AlarmPlan)


class _ImpatientProtocol(H11Protocol):
    """Closes a connection that says nothing: the server itself waits for ever for a first request."""

    def connection_made(self, transport: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.loop.call_later(HEADER_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        # The cycle is None until the first header is complete.
        if self.cycle is None and not self.transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()


def serve(service: Service, started: Callable[[str, str], None]) -> None:
    """Serve until SIGINT or SIGTERM, which end as KeyboardInterrupt once all is written.

    Args:
        service: what to run.
        started: called with the URLs of the proxy and of the page.

    Raises:
        ConfigError: two detectors have one name, a port is taken, or another server writes this database.
        StorageError, ArtifactError: the events cannot be stored.
        KeyboardInterrupt: it was told to stop.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running(service) as running_service:
        started(running_service.front, running_service.back)
        running_service.thread.join()


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that serves in threads of its own.

    Attributes:
        front: URL of the proxy.
        back: URL of the page.
        thread: of the proxy.
    """

    front: str
    back: str
    thread: threading.Thread


@contextlib.contextmanager
def running(service: Service) -> Generator[RunningProxy]:
    """Serve until the end of the block, which waits for exchanges under way and writes their events.

    Raises:
        ConfigError: two detectors have one name, a port is taken, or another server writes this database.
        StorageError, ArtifactError: the events cannot be stored.
    """
    names = [one.name for one in service.detectors]
    if len(set(names)) < len(names):
        raise ConfigError("Two detectors have the same name.", ", ".join(names), "Give each of them once.")
    with contextlib.ExitStack() as stack:
        front = stack.enter_context(_listen(service.host, service.port))
        back = stack.enter_context(_listen(service.host if service.token else "127.0.0.1", service.admin_port))
        plan = service.alarms
        events, watch = stack.enter_context(gathering(service.events, service.detectors, service.keep_days, plan))
        proxy = _application(service, events)
        # The server reports a reply that we break off on purpose as an error of the application.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        admin = _start(Admin(proxy, service.token, watch), back)
        served = _start(proxy, front, proxy.close)
        stack.callback(_stop, [served, admin])
        yield RunningProxy(f"http://{_shown(front)}", f"http://{_shown(back)}", served[1])


def _application(service: Service, events: EventLog) -> Proxy | Guardrail:
    if service.upstream is None:
        guard = TextGuard(service.policy, service.detectors, service.limits.detector_s, events)
        return Guardrail(guard, service.limits)
    screen = Screen(service.detectors, service.limits.detector_s)
    return Proxy(service.upstream, service.policy, service.limits, screen, events)


def _start(
    app: Any, listening: socket.socket, close: Callable[[], Awaitable[None]] | None = None
) -> tuple[uvicorn.Server, threading.Thread]:
    server = uvicorn.Server(_config(app))

    async def run() -> None:
        try:
            await server.serve(sockets=[listening])
        finally:
            if close is not None:
                await close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name=type(app).__name__, daemon=True)
    thread.start()
    return server, thread


def _stop(servers: Sequence[tuple[uvicorn.Server, threading.Thread]]) -> None:
    for server, thread in servers:
        server.should_exit = True
        thread.join()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=FINISH_S,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"The port cannot be opened ({error}).", f"{host}:{port}", "Choose another one.") from error
    # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol; without it, header and
    # body of a reply go out as two packets, and the second waits up to 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""Running the proxy, or the guardrail, and its admin page until the process is told to stop."""

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from undertow.errors import ConfigError, UndertowError
from undertow.monitor.admin import Admin
from undertow.monitor.connections import MOST_HEADER_BYTES, allowed_connections, impatient
from undertow.monitor.detectors.base import AbstractDetector
from undertow.monitor.events import EventLog
from undertow.monitor.gathering import gathering
from undertow.monitor.guarding import TextGuard
from undertow.monitor.guardrail import Guardrail
from undertow.monitor.proxy import Proxy
from undertow.monitor.screening import Screen
from undertow.monitor.settings import Limits, Policy, Upstream, check_settings
from undertow.monitor.stopping import stop_signals
from undertow.monitor.watching import AlarmPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that `serve` needs.

    Attributes:
        upstream: server that requests are passed on to; None for a guardrail, which gateways ask and which passes
            nothing on.
        policy: what is done with the verdicts of detectors.
        limits: limits on one exchange and on all together.
        detectors: the detectors; their names differ.
        events: path of the database of events.
        keep_days: age in days at which events are deleted.
        host: address on which the proxy listens.
        port: TCP port on which the proxy listens. 0 lets the system choose a free one.
        admin_port: TCP port of the admin page. 0 lets the system choose a free one.
        token: token that opens the page to other machines; None binds the page to loopback.
        alarms: when alarms are raised, and who is told.
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


class RunningProxy:
    """A server that runs in threads of its own.

    Attributes:
        front: URL of the proxy or guardrail.
        back: URL of the admin page.
        proxy: the application: the proxy or the guardrail.
    """

    def __init__(self, proxy: Proxy | Guardrail, front: "_Server", back: "_Server") -> None:
        self.front, self.back, self.proxy = front.url, back.url, proxy
        self._front = front

    def drain(self) -> None:
        """Accept no more requests, and let the replies under way finish; returns at once."""
        self._front.drain(self.proxy.drain)

    def end(self) -> None:
        """Break off everything that is under way; returns at once."""
        self._front.end()


def serve(service: Service, started: Callable[[str, str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    It returns once the replies under way are out and all events are written.

    Args:
        service: what is served, and how.
        started: callback, called with the URLs of the proxy and of the admin page.

    Raises:
        ConfigError: settings contradict each other, a port is taken, or another server uses the database.
        StorageError, ArtifactError: the events cannot be stored.
        KeyboardInterrupt: a second signal came before all was finished.
        UndertowError: the server ended by itself.
    """
    with stop_signals() as told:
        with running(service, told.ended) as run:
            started(run.front, run.back)
            for line in _warnings(service):
                _say(line)
            if not told.wait():
                raise UndertowError("The server ended by itself.")
            run.drain()
            _say(f"stopping: {run.proxy.active} under way, {service.limits.finish_s:g} s to finish; "
                 "a second signal ends it at once")  # fmt: skip
            if hurried := told.wait():
                run.end()
        events = run.proxy.events
        _say(f"stopped: {events.written} events written, {events.lost} lost")
    if hurried:
        raise KeyboardInterrupt


def _warnings(service: Service) -> list[str]:
    """Return consequences of the settings that an operator may not expect, one a line."""
    said: list[str] = []
    if service.policy.mode == "block" and not service.policy.fail_closed:
        said.append("fail-open: what cannot be read, or is not judged in time, passes; --fail-closed refuses it")
    holding = [one.name for one in service.detectors if one.can_flag and not one.pieces]
    streams = service.policy.mode == "block" and service.upstream is not None
    if streams and (holding or not service.limits.chunk_characters):
        why = f"{', '.join(holding)} reads a reply whole" if holding else "chunk_characters is 0"
        said.append(f"streams are held until their end: {why}")
    return said


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # Nobody may be listening any more.
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def running(service: Service, ended: Callable[[], None] = lambda: None) -> Generator[RunningProxy]:
    """Serve until the end of the block, which waits for exchanges under way and writes their events.

    Args:
        service: what is served, and how.
        ended: callback, called by another thread once the proxy no longer serves.

    Raises:
        ConfigError: settings contradict each other, a port is taken, or another server uses the database.
        StorageError, ArtifactError: the events cannot be stored.
    """
    limits = service.limits
    check_settings(service.policy, limits, service.detectors)
    with contextlib.ExitStack() as stack:
        front = stack.enter_context(_listen(service.host, service.port))
        back = stack.enter_context(_listen(service.host if service.token else "127.0.0.1", service.admin_port))
        plan = service.alarms
        events, watch = stack.enter_context(gathering(service.events, service.detectors, service.keep_days, plan))
        served = _application(service, events)
        # The server reports a reply that we break off on purpose as an error of the application.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        most = allowed_connections(limits.connections)
        page = _Server(Admin(served, service.token, watch), back, _config(limits, most, finish_s=1.0))
        stack.callback(page.stop)
        server = _Server(served, front, _config(limits, most, finish_s=limits.finish_s), served.close, ended)
        stack.callback(server.stop)
        yield RunningProxy(served, server, page)


def _application(service: Service, events: EventLog) -> Proxy | Guardrail:
    if service.upstream is None:
        return Guardrail(TextGuard(service.policy, service.limits, service.detectors, events), service.limits)
    screen = Screen.of(service.detectors, service.limits)
    return Proxy(service.upstream, service.policy, service.limits, screen, events)


class _Server:
    """An application, the socket that it listens on, and the thread in which it runs.

    Args:
        app: the ASGI application that answers requests.
        listening: the socket that it listens on.
        config: function that makes uvicorn's configuration for the application.
        close: coroutine function that is awaited when the server has ended; None for none.
        ended: callback, called when the server has ended.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        config: Callable[[Any], uvicorn.Config],
        close: Callable[[], Awaitable[None]] | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = f"http://{_shown(listening)}"
        self._listening, self._close, self._ended = listening, close, ended
        self._server = uvicorn.Server(config(app))
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=type(app).__name__, daemon=True)
        self._thread.start()

    def drain(self, first: Callable[[], None]) -> None:
        """Call a function in the loop, then accept nothing more and end with the last reply."""
        self._call(first)
        self._server.should_exit = True

    def end(self) -> None:
        """Break off everything that is under way."""
        self._call(lambda: self._task.cancel() if self._task else None)

    def stop(self) -> None:
        """Wait for the last reply, as long as replies may take to finish."""
        self._server.should_exit = True
        self._thread.join()

    def _call(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended already.
            self._loop.call_soon_threadsafe(what)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner, contextlib.suppress(asyncio.CancelledError):
                runner.run(self._serve())
        finally:
            self._ended()

    async def _serve(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            if self._close is not None:
                await self._close()


def _config(limits: Limits, most: int, *, finish_s: float) -> Callable[[Any], uvicorn.Config]:
    return lambda app: uvicorn.Config(
        app,
        http=impatient(limits.header_s, most),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=finish_s,  # pyright: ignore[reportArgumentType]
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

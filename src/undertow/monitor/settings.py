"""Settings of the proxy: bounds, what is done with verdicts, which upstream, and what may pass to it and back."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args
from urllib.parse import unquote_to_bytes

from undertow.errors import ConfigError, unknown_name
from undertow.models.endpoints import web_address
from undertow.monitor.protocol import READABLE
from undertow.stats.checks import check_positive

Mode = Literal["log", "flag", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one exchange.

    Attributes:
        request_bytes: of a body; a larger one is refused (413).
        reply_bytes: of a reply that detectors read; a larger one passes unread, or is refused with `fail_closed`.
        concurrent: exchanges under way at once; further ones are refused (503).
        body_s: for a client to send its request (408).
        connect_s: to reach the upstream (504).
        read_s: between two pieces of the upstream's reply (504 before the first).
        client_s: for a client to take one piece.
        detector_s: for one detector and one text.
    """

    request_bytes: int = 32_000_000
    reply_bytes: int = 8_000_000
    concurrent: int = 512
    body_s: float = 60.0
    connect_s: float = 10.0
    read_s: float = 600.0
    client_s: float = 60.0
    detector_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done with what detectors say.

    Attributes:
        mode: log, flag or block.
        fail_closed: in the mode block, whether an exchange that a detector could not judge is refused.
        keep_text: whether the events hold the texts that the detectors read.
    """

    mode: Mode = "log"
    fail_closed: bool = False
    keep_text: bool = False


def build_limits(settings: Iterable[str]) -> Limits:
    """Return the limits with some of them set.

    Args:
        settings: of the form `key=value`.

    Raises:
        UnknownNameError: there is no such limit.
        ConfigError: a value is not a positive number.
    """
    kinds: dict[str, type[Any]] = {one.name: type(one.default) for one in fields(Limits)}
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in kinds:
            raise unknown_name("limit", key, kinds)
        try:
            given[key] = kinds[key](value)
        except ValueError as error:
            raise ConfigError(f"The limit {key} is not a number.", setting, f"Write {key}=100.") from error
        check_positive(f"limit {key}", given[key])
    return Limits(**given)


def build_policy(mode: str, fail_closed: bool, keep_text: bool) -> Policy:
    """Return the policy.

    Raises:
        UnknownNameError: there is no such mode.
        ConfigError: `fail_closed` in another mode than block.
    """
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    if fail_closed and mode != "block":
        raise ConfigError("Only the mode block can refuse what was not judged.", mode, "Add --mode block.")
    return Policy(mode=cast(Mode, mode), fail_closed=fail_closed, keep_text=keep_text)


Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""Headers of one connection, never passed on (RFC 9110, section 7.6.1), with those that `connection` names."""

_PLAIN_PATH = re.compile(rb"/[!$-;=?-~]*\Z")
"""What a request target may consist of: no space, control character, quote, fragment or other byte beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go.

    Attributes:
        scheme: b"http" or b"https".
        host: name or address.
        port: None for the scheme's own.
        prefix: goes before every path.
    """

    scheme: bytes
    host: bytes
    port: int | None
    prefix: bytes

    @property
    def authority(self) -> bytes:
        """The value of the `host` header."""
        host = b"[" + self.host + b"]" if b":" in self.host else self.host
        return host if self.port is None else b"%s:%d" % (host, self.port)

    def target(self, raw_path: bytes, query: bytes) -> bytes:
        """Return what is asked of the upstream.

        Raises:
            ValueError: the path could mean another place than below the prefix, or holds bytes that no path has.
        """
        asked = raw_path + (b"?" + query if query else b"")
        if not _PLAIN_PATH.match(asked) or b"\\" in raw_path:
            raise ValueError("The path holds characters that are not allowed.")
        decoded = unquote_to_bytes(unquote_to_bytes(raw_path)).replace(b"\\", b"/")
        if any(part in (b".", b"..") for part in decoded.split(b"/")):
            raise ValueError("The path holds a dot segment.")
        return self.prefix + asked


def parse_upstream(url: str) -> Upstream:
    """Read the upstream's URL.

    Raises:
        ConfigError: it is no http(s) URL, holds a user, a query or a fragment, or ends in /v1.
    """
    parts = web_address(url, "upstream")
    prefix = parts.path.rstrip("/").encode()
    if prefix.endswith(b"/v1"):
        raise ConfigError(
            "The upstream's URL ends in /v1, and so do the paths that clients ask for.",
            url,
            f"Give {url.rstrip('/').removesuffix('/v1')} and let clients use http://<this proxy>/v1.",
        )
    if prefix and not _PLAIN_PATH.match(prefix):
        raise ConfigError("The upstream's path holds characters that are not allowed.", url, "Correct it.")
    return Upstream(parts.scheme.encode(), (parts.hostname or "").encode(), parts.port, prefix)


def passed_on(headers: Iterable[tuple[bytes, bytes]], *dropped: bytes) -> Headers:
    """Return the end-to-end headers in their order, without those that are dropped by name."""
    listed = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in listed if name == b"connection" for part in value.split(b",")}
    gone = HOP_BY_HOP | named | set(dropped)
    return [(name, value) for name, value in listed if name not in gone]


def request_headers(headers: Iterable[tuple[bytes, bytes]], upstream: Upstream, length: int, readable: bool) -> Headers:
    """Return the headers of the request to the upstream.

    Args:
        headers: of the client.
        upstream: whose name becomes the `host`.
        length: of the body, which replaces whatever framing the client used.
        readable: whether the reply must come in an encoding that detectors can read.
    """
    listed = list(headers)
    kept = passed_on(listed, b"host", b"content-length", b"expect", *([b"accept-encoding"] if readable else []))
    if readable:
        wanted = {
            part.split(b";")[0].strip().lower()
            for name, value in listed
            if name.lower() == b"accept-encoding"
            for part in value.split(b",")
        }
        kept.append((b"accept-encoding", b", ".join(one for one in READABLE if one in wanted) or b"identity"))
    framed = length > 0 or any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in listed)
    sized = [(b"content-length", b"%d" % length)] if framed else []
    return [(b"host", upstream.authority), *kept, *sized]

"""What may pass between client and upstream: which headers, which paths, which upstream."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from undertow.errors import ConfigError
from undertow.models.api import web_address
from undertow.monitor.chat import READABLE

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

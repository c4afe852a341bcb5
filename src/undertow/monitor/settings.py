"""Settings of the proxy: limits, what is done with verdicts, the upstream, and which headers pass to it and back."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args
from urllib.parse import unquote_to_bytes

from undertow.errors import ConfigError, unknown_name
from undertow.models.endpoints import web_address
from undertow.monitor.detectors.base import MOST_CHARACTERS, AbstractDetector
from undertow.stats.checks import check_positive

Mode = Literal["log", "flag", "block"]
Client = Literal["nothing", "address", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on one exchange (a request with its reply), and on all of them together.

    Attributes:
        request_bytes: most bytes of a request's body; a larger one is refused (status 413).
        reply_bytes: most bytes of a reply that detectors read; a larger one passes unread, or is refused with
            `fail_closed`.
        concurrent: most exchanges whose request has come; further ones are refused (status 503).
        connections: most connections of clients; if one more comes, the client that has been sending a request longest
            is closed.
        upload_bytes: most bytes of all bodies that are still arriving; beyond it the one that has been arriving longest
            gets status 408.
        header_s: seconds for a client to send the header of a request, after which the connection is closed.
        body_s: seconds for a client to send its request (then status 408).
        connect_s: seconds to reach the upstream (then status 504).
        read_s: seconds between two pieces of the upstream's reply (status 504 before the first).
        client_s: seconds for a client to take one piece of the reply.
        finish_s: seconds for exchanges under way to finish once the proxy is told to stop.
        detector_s: seconds for one detector and one text, from when it begins to read.
        wait_s: seconds that a text may wait until a detector begins to read it.
        detector_threads: number of texts that one detector reads at once, if it can read more than one.
        chunk_characters: number of characters of a streamed reply that are judged together in the mode block; 0 judges
            the reply whole, at its end.
        chunk_s: seconds after which fewer characters are judged all the same.
        context_characters: number of characters before these that are read again with them.
    """

    request_bytes: int = 32_000_000
    reply_bytes: int = 8_000_000
    concurrent: int = 512
    connections: int = 4096
    upload_bytes: int = 256_000_000
    header_s: float = 30.0
    body_s: float = 60.0
    connect_s: float = 10.0
    read_s: float = 600.0
    client_s: float = 60.0
    finish_s: float = 60.0
    detector_s: float = 2.0
    wait_s: float = 10.0
    detector_threads: int = 4
    chunk_characters: int = 200
    chunk_s: float = 0.5
    context_characters: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done with the verdicts of detectors, and what is stored.

    Attributes:
        mode: what a flagged text leads to: "log" only records it, "flag" also marks the reply, "block" refuses it.
        fail_closed: in the mode block, whether a text that was not read or not judged is refused too.
        keep_text: whether the events hold the texts that the detectors read.
        record_client: what the events hold of a client: "nothing", its "address", or a fingerprint of its "key".
    """

    mode: Mode = "log"
    fail_closed: bool = False
    keep_text: bool = False
    record_client: Client = "nothing"


CHOICE = "record_client"
"""Name of the only setting of the form key=value that is no number."""
_MAY_BE_ZERO = ("chunk_characters", "context_characters")


def build_limits(settings: Iterable[str]) -> Limits:
    """Return the limits, with some of them set by text.

    Args:
        settings: texts of the form `key=value`; `record_client` is ignored here, since `build_policy` reads it.

    Raises:
        UnknownNameError: there is no limit of this name.
        ConfigError: a value is not a positive number.
    """
    kinds: dict[str, type[Any]] = {one.name: type(one.default) for one in fields(Limits)}
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == CHOICE:
            continue
        if key not in kinds:
            raise unknown_name("limit", key, [*kinds, CHOICE])
        try:
            given[key] = kinds[key](value)
        except ValueError as error:
            raise ConfigError(f"The limit {key} is not a number.", setting, f"Write {key}=100.") from error
        if given[key] or key not in _MAY_BE_ZERO:
            check_positive(f"limit {key}", given[key])
    return Limits(**given)


def build_policy(mode: str, fail_closed: bool, keep_text: bool, settings: Iterable[str] = ()) -> Policy:
    """Return the policy, with the choices as text.

    Args:
        mode: name of the mode: "log", "flag" or "block".
        fail_closed: whether a text that was not read or not judged is refused, in the mode block.
        keep_text: whether the events hold the texts that the detectors read.
        settings: texts of the form `key=value`, of which only `record_client` is read.

    Raises:
        UnknownNameError: there is no such mode, or `record_client` has no such choice.
        ConfigError: `fail_closed` is set in another mode than block.
    """
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    if fail_closed and mode != "block":
        raise ConfigError("Only the mode block can refuse what was not judged.", mode, "Add --mode block.")
    client = "nothing"
    for setting in settings:
        key, _, value = setting.partition("=")
        client = value if key == CHOICE else client
    if client not in get_args(Client):
        raise unknown_name(CHOICE, client, get_args(Client))
    return Policy(
        mode=cast(Mode, mode), fail_closed=fail_closed, keep_text=keep_text, record_client=cast(Client, client)
    )


def check_settings(policy: Policy, limits: Limits, detectors: Sequence[AbstractDetector]) -> None:
    """Refuse settings that contradict each other.

    Args:
        policy: what is done with the verdicts of detectors.
        limits: limits on one exchange and on all together.
        detectors: the detectors that will run.

    Raises:
        ConfigError: two settings contradict each other; the message says what resolves it.
    """
    names = [one.name for one in detectors]
    if len(set(names)) < len(names):
        raise ConfigError("Two detectors have the same name.", ", ".join(names), "Give each of them once.")
    if policy.mode != "log" and not detectors:
        what = f"The mode {policy.mode} does something with verdicts, and no detector gives one."
        raise ConfigError(what, f"--mode {policy.mode} without --detector", "Add --detector, or take --mode log.")
    if policy.mode == "block" and not any(one.can_flag for one in detectors):
        what = "The mode block has nothing to block: the detectors gather evidence and never flag a text."
        raise ConfigError(what, ", ".join(names), "Add a detector that flags, or take --mode log.")
    changed = [key for key in ("chunk_characters", "chunk_s", "context_characters") if _changed(limits, key)]
    if changed and policy.mode != "block":
        what = f"Streams are judged in pieces in the mode block alone, and the mode is {policy.mode}."
        raise ConfigError(what, ", ".join(changed), "Add --mode block, or leave the setting out.")
    if limits.upload_bytes < limits.request_bytes:
        what = "One request may be larger than all requests together that are still arriving."
        value = f"request_bytes={limits.request_bytes}, upload_bytes={limits.upload_bytes}"
        raise ConfigError(what, value, "Lower request_bytes, or raise upload_bytes.")
    together = limits.chunk_characters + limits.context_characters
    if together > MOST_CHARACTERS:
        fix = f"Let chunk_characters and context_characters be {MOST_CHARACTERS} at most together."
        raise ConfigError("A piece of a stream would be longer than what detectors read.", together, fix)


def _changed(limits: Limits, key: str) -> bool:
    return getattr(limits, key) != getattr(Limits(), key)


Headers = list[tuple[bytes, bytes]]

FLAGGED = b"x-undertow-flagged"
"""Header of a reply in the mode `flag`, with the rules by which the request or the reply was flagged."""
REQUEST_ID = b"x-undertow-request-id"
"""Header to the upstream and to the client, with the id under which the exchange is recorded."""

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""Headers that concern one connection and are never passed on (RFC 9110, section 7.6.1), like those that the header
`connection` names."""

_NOT_PLAIN = re.compile(r"[^ -~]")
_PLAIN_PATH = re.compile(rb"/[!$-;=?-~]*\Z")
"""Pattern of an allowed request target: no space, control character, quote, fragment, or byte beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Address of the server that requests are passed on to.

    Attributes:
        scheme: scheme of its URL, b"http" or b"https".
        host: name or IP address of the server.
        port: TCP port of the server; None for the default one of the scheme.
        prefix: path that goes before the path of every request; b"" for none.
    """

    scheme: bytes
    host: bytes
    port: int | None
    prefix: bytes

    @property
    def authority(self) -> bytes:
        """The value of the `host` header for the upstream."""
        host = b"[" + self.host + b"]" if b":" in self.host else self.host
        return host if self.port is None else b"%s:%d" % (host, self.port)

    def target(self, raw_path: bytes, query: bytes) -> bytes:
        """Return the request target that is sent to the upstream: prefix, path and query.

        Args:
            raw_path: path of the client's request, not decoded.
            query: query of the client's request, without the question mark; b"" for none.

        Raises:
            ValueError: the path could lead outside of the prefix, or holds bytes that no path may have.
        """
        asked = raw_path + (b"?" + query if query else b"")
        if not _PLAIN_PATH.match(asked) or b"\\" in raw_path:
            raise ValueError("The path holds characters that are not allowed.")
        decoded = unquote_to_bytes(unquote_to_bytes(raw_path)).replace(b"\\", b"/")
        if any(part in (b".", b"..") for part in decoded.split(b"/")):
            raise ValueError("The path holds a dot segment.")
        return self.prefix + asked


def parse_upstream(url: str) -> Upstream:
    """Parse the URL of the upstream.

    Raises:
        ConfigError: the URL is no http(s) URL, holds a user, a query or a fragment, or ends in /v1.
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
    """Return the end-to-end headers in their order, without those whose names are dropped."""
    listed = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in listed if name == b"connection" for part in value.split(b",")}
    gone = HOP_BY_HOP | named | set(dropped)
    return [(name, value) for name, value in listed if name not in gone]


def request_headers(
    headers: Iterable[tuple[bytes, bytes]], upstream: Upstream, length: int, readable: Sequence[bytes] = ()
) -> Headers:
    """Return the headers of the request to the upstream.

    Args:
        headers: headers of the client's request.
        upstream: server whose name becomes the `host` header.
        length: number of bytes of the body, which replaces whatever framing the client used.
        readable: content encodings in which the reply may come; empty if the reply is not read.
    """
    listed = list(headers)
    gone = (b"host", b"content-length", b"expect", REQUEST_ID)
    kept = passed_on(listed, *gone, *([b"accept-encoding"] if readable else []))
    if readable:
        wanted = {
            part.split(b";")[0].strip().lower()
            for name, value in listed
            if name.lower() == b"accept-encoding"
            for part in value.split(b",")
        }
        kept.append((b"accept-encoding", b", ".join(one for one in readable if one in wanted) or b"identity"))
    framed = length > 0 or any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in listed)
    sized = [(b"content-length", b"%d" % length)] if framed else []
    return [(b"host", upstream.authority), *kept, *sized]


def printable(text: str) -> bytes:
    """Return a text as the value of a header; characters outside printable ASCII become question marks."""
    return _NOT_PLAIN.sub("?", text)[:1000].encode()

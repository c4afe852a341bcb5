"""Making the event that is stored of an exchange once it is over."""

import hashlib
import hmac
import time

from undertow.monitor.events import Event
from undertow.monitor.exchange import Exchange
from undertow.monitor.paths import stored_path
from undertow.monitor.settings import Policy

_KEYS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_REACHED = ("passed", "flagged", "cut", "client_gone", "upstream_error")
"""Outcomes of exchanges in which something may have been passed on."""


def is_unread(exchange: Exchange, detectors: int) -> bool:
    """Tell whether something was passed on that detectors should have read and did not."""
    if not detectors or exchange.silent or exchange.upstream_status is None or exchange.outcome not in _REACHED:
        return False
    broken_off = exchange.copy is not None and not exchange.complete and exchange.sent > 0
    return exchange.asked is None or broken_off or any(one.failure for one in exchange.judgements)


def make_event(exchange: Exchange, policy: Policy, salt: bytes, detectors: int, seconds: float | None = None) -> Event:
    """Return the event of an exchange.

    Args:
        exchange: the exchange, which is over.
        policy: what may be stored of texts and clients.
        salt: random bytes of the database, for the fingerprint of a key.
        detectors: number of detectors; with 0 nothing counts as unread.
        seconds: seconds until the reply was out; None takes the time until now.
    """
    keep = policy.keep_text
    return Event(
        at=exchange.at,
        method=exchange.scope["method"][:20],
        path=stored_path(exchange.path),
        status=exchange.status,
        outcome=exchange.outcome,
        screened=exchange.asked is not None,
        seconds=time.monotonic() - exchange.began if seconds is None else seconds,
        request_bytes=len(exchange.body),
        reply_bytes=exchange.sent,
        model=exchange.model,
        judgements=tuple(exchange.judgements),
        request=exchange.request_text if keep else None,
        reply=exchange.reply_text if keep else None,
        request_id=exchange.id,
        client=_client(exchange, policy, salt),
        upstream_status=exchange.upstream_status,
        unread=is_unread(exchange, detectors),
    )


def _client(exchange: Exchange, policy: Policy, salt: bytes) -> str:
    """Return what the operator records of a client; a key cannot be recovered from its fingerprint."""
    if policy.record_client == "address":
        return str((exchange.scope.get("client") or ("",))[0])
    if policy.record_client == "key":
        keys = [value for name, value in exchange.scope["headers"] if name.lower() in _KEYS]
        return hmac.new(salt, keys[0], hashlib.sha256).hexdigest()[:16] if keys else ""
    return ""

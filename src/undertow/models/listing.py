"""The names under which a server lists its models (/v1/models). Nothing proves that they are true."""

from collections.abc import Mapping
from typing import Any, cast

from undertow.errors import MissingExtraError
from undertow.models.api import CONNECT_S
from undertow.models.endpoints import LOOPBACK, Endpoint

LIST_S = 10.0
"""Seconds that a server may take to send its list."""


def listed_names(place: Endpoint) -> tuple[str, ...] | None:
    """Return what a server calls the model, and the models from which it says it was made.

    It is None if the server lists nothing of that name.

    Args:
        place: address of the server and name of the model; the list is read from /models beside the chats.

    Raises:
        MissingExtraError: the package for connections is not installed.
        ConfigError: the key cannot be sent.
    """
    try:
        import httpx2
    except ImportError as error:
        fix = 'pip install "undertow[api]"'
        raise MissingExtraError("Model servers need the package httpx2.", place.url, fix) from error
    query = f"?{place.query}" if place.query else ""
    timeout = httpx2.Timeout(LIST_S, connect=CONNECT_S)
    client = httpx2.Client(
        headers=place.headers,
        timeout=timeout,
        follow_redirects=False,  # the key must not go elsewhere
        trust_env=place.host not in LOOPBACK,
    )
    try:
        with client:
            reply = client.get(f"{place.url}/models{query}")
            body: Any = reply.json() if reply.status_code == 200 else None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return None
    return _names_of(body, place.model)


def _names_of(body: Any, model: str) -> tuple[str, ...] | None:
    """Return the names in the entry of a model: its own, and those of the models that vLLM says it was made from."""
    entries: Any = cast(Mapping[str, Any], body).get("data") if isinstance(body, Mapping) else None
    if not isinstance(entries, list):
        return None
    for entry in cast(list[Any], entries):
        if isinstance(entry, Mapping) and cast(Mapping[str, Any], entry).get("id") == model:
            named = [cast(Mapping[str, Any], entry).get(key) for key in ("id", "root", "parent")]
            return tuple(dict.fromkeys(name for name in named if isinstance(name, str) and name))
    return None

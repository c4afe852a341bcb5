"""The kinds of requests that are read, by path, and those that need no reading; all others pass unread or are refused.

To support another interface, add it here, with what its replies hold besides what a model says. What a request holds
needs no such list, since every text of it is read.
"""

from dataclasses import dataclass

from undertow.monitor.paths import plain_path

_EVERYWHERE = frozenset(
    ("id", "object", "model", "created", "created_at", "system_fingerprint", "service_tier", "provider", "usage",
     "timings", "done_reason", "stop_reason", "finish_reason", "item_id", "obfuscation", "model_version",
     "prompt_filter_results", "event_id", "x_groq")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKind:
    """One kind of request, and how its replies are read.

    Attributes:
        name: name of the kind, for people.
        paths: endings of the request's path, in lower case.
        not_said: keys at the top of a reply, or of an event of a streamed one, whose values no model said.
        settings: keys at the same place whose objects repeat settings of the request, while a string under them is said
            by the model.
        speaks: whether a model says anything in the reply.
        streams: whether the reply is streamed unless the request says otherwise.
    """

    name: str
    paths: tuple[bytes, ...]
    not_said: frozenset[str] = _EVERYWHERE
    settings: frozenset[str] = frozenset()
    speaks: bool = True
    streams: bool = False


REQUEST_KINDS = (
    RequestKind(name="chat completions", paths=(b"/chat/completions",)),
    RequestKind(name="completions", paths=(b"/completions",)),
    # A response repeats what it was asked: instructions, tools and settings. An event holds it under `response`.
    RequestKind(
        name="responses", paths=(b"/responses",),
        not_said=_EVERYWHERE | {"instructions", "tools", "tool_choice", "input", "metadata", "previous_response_id",
                                "prompt", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
                                "truncation", "conversation"},
        settings=frozenset(("text", "reasoning")),
    ),
    RequestKind(name="messages", paths=(b"/messages",), not_said=_EVERYWHERE | {"stop_sequence"}),
    RequestKind(name="Ollama's chat", paths=(b"/api/chat",), streams=True),
    # `context` repeats prompt and reply as tokens.
    RequestKind(name="Ollama's generate", paths=(b"/api/generate",), not_said=_EVERYWHERE | {"context"}, streams=True),
    RequestKind(
        name="generate", paths=(b"/generate", b"/generate_stream"), not_said=_EVERYWHERE | {"details", "meta_info"}
    ),
    RequestKind(name="embeddings", paths=(b"/embeddings", b"/api/embed", b"/embed"), speaks=False),
    RequestKind(name="moderations", paths=(b"/moderations",), speaks=False),
)  # fmt: skip
"""All kinds; a request is of the first one of which a path ends the request's path."""

_SILENT = (b"/", b"/v1/models", b"/models", b"/openai/models", b"/health", b"/healthz", b"/ping",
           b"/ready", b"/live", b"/version", b"/v1/version", b"/api/version", b"/api/tags", b"/api/ps", b"/metrics",
           b"/openapi.json")  # fmt: skip
_SILENT_BELOW = (b"/v1/models/", b"/models/")
"""Paths that need no reading with GET: lists and states, in which no model speaks."""


def request_kind(method: str, path: bytes) -> RequestKind | None:
    """Return the kind of a request; None for one that cannot be read.

    Args:
        method: HTTP method of the request.
        path: path of the request, not decoded.
    """
    plain = plain_path(path)
    if method != "POST":
        return None
    return next((one for one in REQUEST_KINDS if plain.endswith(one.paths)), None)


def is_silent(method: str, path: bytes, body: bytes) -> bool:
    """Tell whether an exchange carries neither a prompt nor what a model says, so that it needs no reading.

    Args:
        method: HTTP method of the request.
        path: path of the request, not decoded.
        body: body of the request, b"" for none.
    """
    if method == "OPTIONS" and not body:
        return True
    if method not in ("GET", "HEAD") or body:
        return False
    plain = plain_path(path)
    return plain in _SILENT or plain.startswith(_SILENT_BELOW)

"""The requests that are read, by path, and those that need no reading; everything else passes unread or is refused.

Add an interface here: what its replies hold besides what a model says. What a request holds needs no such list, since
every text of it is read.
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
    """One kind of request.

    Attributes:
        name: for people.
        paths: ends of its path, in lower case.
        not_said: keys at the top of a reply, or of an event of a streamed one, that hold nothing a model said.
        settings: keys there whose objects repeat settings of the request, while a string under them is said.
        speaks: whether a model says anything in the reply.
        streams: whether the reply is a stream unless the request says no.
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
"""The first one whose path ends the request's is the one that reads it."""

_SILENT = (b"/", b"/v1/models", b"/models", b"/openai/models", b"/health", b"/healthz", b"/ping",
           b"/ready", b"/live", b"/version", b"/v1/version", b"/api/version", b"/api/tags", b"/api/ps", b"/metrics",
           b"/openapi.json")  # fmt: skip
_SILENT_BELOW = (b"/v1/models/", b"/models/")
"""What may be asked with GET although nothing is read: lists and states, in which no model speaks."""


def request_kind(method: str, path: bytes) -> RequestKind | None:
    """Return the kind of a request, None for one that nobody here can read."""
    plain = plain_path(path)
    if method != "POST":
        return None
    return next((one for one in REQUEST_KINDS if plain.endswith(one.paths)), None)


def is_silent(method: str, path: bytes, body: bytes) -> bool:
    """Tell whether neither a prompt nor what a model says passes in this exchange."""
    if method == "OPTIONS" and not body:
        return True
    if method not in ("GET", "HEAD") or body:
        return False
    plain = plain_path(path)
    return plain in _SILENT or plain.startswith(_SILENT_BELOW)

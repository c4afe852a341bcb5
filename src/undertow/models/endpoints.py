"""Endpoints: how the address of a remote model names server and model, and which key is sent there.

    api:http://127.0.0.1:8000/v1/<model>                            the model is what follows /v1/, whatever it holds
    api:https://<host>/v1beta/openai/<model>                        the same after /v1beta/openai/ and /v2/, /v3/, ...
    api:https://<host>/openai/deployments/<name>?api-version=...    a deployment of Azure, with its query
    api:https://<host>/any/path?query#<model>                       every other server: address, # and model
    api:vllm/<path or id>[@revision][+<adapter folder>]             a `vllm serve` of one's own
    api:<provider>/<model>                                          what Inspect reaches

The first rule that fits decides, except that a # in an address goes before all of them. The key is UNDERTOW_API_KEY;
OPENAI_API_KEY goes to api.openai.com alone. Keys come from the environment, never from an address, and are cut out of
whatever a server says before anybody reads it.
"""

import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from undertow.errors import ConfigError
from undertow.types import ModelRef

KEY = "UNDERTOW_API_KEY"
"""Environment variable that holds the key for whichever server is asked."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATH = "/chat/completions"

_AZURE = ".azure.com"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+)?:[0-9]+(/|$)|localhost/")
_RULES = tuple(
    re.compile(rule)
    for rule in (
        r"(?P<url>.+?/v1)/(?P<model>[^?]+)(\?(?P<query>.*))?",
        r"(?P<url>.+?/v1beta/openai)/(?P<model>[^?]+)(\?(?P<query>.*))?",
        r"(?P<url>.+?/v[0-9]+)/(?P<model>[^?]+)(\?(?P<query>.*))?",
        r"(?P<url>.+/deployments/(?P<model>[^/?]+))/?(\?(?P<query>.*))?",
    )
)
"""Patterns of an address without a #; the first that fits splits it into URL, model and query."""

_SECRET = re.compile(r"key|token|secret|sig|passw|auth|cred|code|bearer", re.IGNORECASE)
_RANDOM = re.compile(r"sk-|(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16,}")


def web_address(url: str, whose: str) -> SplitResult:
    """Parse a URL that must hold no user, query or fragment, in which keys are hidden.

    Args:
        url: the URL as a user gave it.
        whose: whose URL it is, for messages, such as "endpoint".

    Raises:
        ConfigError: it is no such http(s) URL; the message does not show what may be a key.
    """
    shown, fix = url.partition("?")[0].rpartition("@")[2], "Give one such as https://api.example.com."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"The {whose} is no URL.", shown, fix) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or re.search(r"\s", url):
        raise ConfigError(f"The {whose} is no http(s) URL.", shown, fix)
    if parts.username is not None or parts.query or parts.fragment:
        what = f"The {whose}'s URL holds a user, a query or a fragment."
        fix = "Give scheme, host, port and path alone; keys are no part of it."
        raise ConfigError(what, f"{parts.scheme}://{parts.hostname}", fix)
    return parts


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of an OpenAI-compatible server, with the name of the model there.

    Attributes:
        url: the part of the address before /chat/completions, most often up to and with /v1.
        model: name of the model at the server.
        query: query sent with every request, without the question mark; never a key. "" for none.
    """

    url: str
    model: str
    query: str = ""

    @classmethod
    def at(cls, url: str, model: str) -> "Endpoint":
        """Make the endpoint of a URL with or without /v1 at its end.

        Args:
            url: URL as the user gave it.
            model: name of the model at the server.

        Raises:
            ConfigError: the URL is refused, as for `web_address`.
        """
        web_address(url, "endpoint")
        return cls(f"{url.rstrip('/').removesuffix('/v1')}/v1", model)

    @property
    def host(self) -> str | None:
        """Name or IP address of the server."""
        return urlsplit(self.url).hostname

    @property
    def target(self) -> str:
        """The URL to which chats are posted."""
        return self.url + PATH + (f"?{self.query}" if self.query else "")

    @property
    def key_name(self) -> str | None:
        """Name of the environment variable that holds the key for this server; None if none is set."""
        names = (KEY, *(("OPENAI_API_KEY",) if self.host == "api.openai.com" else ()))
        return next((name for name in names if os.environ.get(name, "").strip()), None)

    @property
    def key(self) -> str | None:
        """The key for this server, from the environment; None if none is set.

        Raises:
            ConfigError: the key holds a character that cannot be sent.
        """
        if self.key_name is None:
            return None
        key = os.environ[self.key_name].strip()
        odd = [place for place, sign in enumerate(key, start=1) if not sign.isascii() or not sign.isprintable()]
        if odd:
            fix = f"Set {self.key_name} anew: keys are of letters, digits and signs of ASCII."
            value = f"{self.key_name}: character {odd[0]} of {len(key)}"
            raise ConfigError("The key holds a character that cannot be sent.", value, fix)
        return key

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that carry the key; empty if none is set.

        Raises:
            ConfigError: the key holds a character that cannot be sent.
        """
        if (key := self.key) is None:
            return {}
        azure = {"api-key": key} if (self.host or "").endswith(_AZURE) else {}
        return {"authorization": f"Bearer {key}", **azure}


def is_served_by_url(ref: ModelRef) -> bool:
    """Tell whether a reference holds the URL of a server; otherwise Inspect or vLLM reads it."""
    return ref.kind == "api" and _URL.match(ref.name) is not None


def endpoint(ref: ModelRef) -> Endpoint | None:
    """Return the address in a reference to a remote model, or None for one that Inspect reads.

    Raises:
        ConfigError: the reference is of another kind, the address names no model, or it holds a key.
    """
    if ref.kind != "api":
        fix = "Write api:http://<host>:<port>/v1/<model>."
        raise ConfigError("This is no model behind a server.", ref.shown, fix)
    address = ref.name
    if not is_served_by_url(ref):
        if _HOST.match(address):
            raise ConfigError("The address has no scheme.", ref.shown, f"Write api:http://{address} or api:https://...")
        return None
    before, found, model = address.partition("#")
    if found:
        url, _, query = before.partition("?")
    else:
        matched = next((match for rule in _RULES if (match := rule.fullmatch(address))), None)
        if matched is None:
            raise _no_model(address)
        url, model, query = matched["url"], matched["model"], matched["query"] or ""
    if not model.strip("/ "):
        raise _no_model(address)
    web_address(url, "endpoint")
    _refuse_keys(url, query)
    return Endpoint(url.rstrip("/"), model, query)


def _no_model(address: str) -> ConfigError:
    """Build the error for an address that names no model.

    Raises:
        ConfigError: it is no address at all.
    """
    shown = address.partition("#")[0].partition("?")[0].rstrip("/")
    parts = web_address(shown, "endpoint")
    before, _, last = shown.rpartition("/")
    named = parts.path.strip("/") and not re.fullmatch(r"v[0-9]+", last)
    example = f"api:{before}#{last}" if named else "api:http://127.0.0.1:8000/v1/my-model"
    fix = f"Write <address>/v1/<model>, or <address>#<model> for a server without /v1, such as {example}."
    return ConfigError("The address does not say which of its parts is the model's name.", f"api:{shown}", fix)


def _refuse_keys(url: str, query: str) -> None:
    pairs = parse_qsl(query, keep_blank_values=True)
    named = [name for name, value in pairs if _SECRET.search(name) or _RANDOM.search(value)]
    if named:
        what = "The query of an address may hold a key, which is then written into files."
        raise ConfigError(what, f"{url}?{named[0][:40]}=...", f"Leave it out and set {KEY}.")
    if not query.isascii() or re.search(r"\s", query):
        raise ConfigError(
            "The query of an address is no part of a URL.", url, "Write it as in a browser, %20 for a space."
        )


def without_keys(text: str, key: str | None = None) -> str:
    """Return a text in which the given key, and every key in the environment, is replaced by "[key]".

    Keys in the environment are values of variables whose names end in _KEY, _TOKEN or _SECRET.

    Args:
        text: text that may hold a key.
        key: the key that was sent; None if none was.
    """
    names = ("_KEY", "_TOKEN", "_SECRET")
    found = {value.strip() for name, value in os.environ.items() if name.endswith(names) and len(value) >= 8}
    for secret in sorted((found | {key or ""}) - {""}, key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return text

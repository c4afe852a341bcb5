"""Where alarms are told: a URL, and the body that its receiver takes.

    https://alerts.example/x                   the alarm as plain JSON
    slack:https://hooks.slack.com/services/... one line of text, as Slack, Mattermost and others take it
    FILE@https://...                           a Jinja template of JSON, such as {"summary": {{ headline | tojson }}}

The URL itself is a secret with many receivers, so it is stored nowhere and only its host is ever shown.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jinja2
import jinja2.sandbox

from undertow.errors import ConfigError
from undertow.models.endpoints import LOOPBACK
from undertow.registry import Registry

TIMEOUT_S = 10.0

Body = Callable[[Mapping[str, Any]], Any]
"""Makes the JSON that a receiver takes of what `Alarm.to_json` returns."""

_FIX = "Write https://HOST/PATH, slack:https://HOST/PATH or FILE@https://HOST/PATH, FILE a template of JSON."


def plain_body(alarm: Mapping[str, Any]) -> Any:
    """Return the alarm as it is."""
    return dict(alarm)


def slack_body(alarm: Mapping[str, Any]) -> Any:
    """Return one line; signs that Slack reads as markup are escaped as it asks."""
    text = alarm["headline"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"Undertow alarm {alarm['id']}: {text}"}


BODIES: Registry[Body] = Registry("webhook body", {"json": plain_body, "slack": slack_body})

EXAMPLE: Mapping[str, Any] = {
    "schema": "undertow.alert/1", "id": 1, "kind": "drift", "headline": 'A "test" of the alarm.', "at": 0.0
}  # fmt: skip
"""What a template is tried on: these names are there in every alarm."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver.

    Attributes:
        url: never shown or stored.
        body: what it is sent.
    """

    url: str = field(repr=False)
    body: Body = plain_body

    @property
    def key(self) -> str:
        """A name that does not tell the URL."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """What may be shown: the host."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def post(self, alarm: Mapping[str, Any]) -> str:
        """Tell an alarm once; return what went wrong, without any part of the URL, or "" if it was taken."""
        trusts = urlsplit(self.url).hostname not in LOOPBACK
        try:
            answer = httpx2.post(self.url, json=self.body(alarm), timeout=TIMEOUT_S, trust_env=trusts)
        except Exception as error:  # whatever a template or a connection raises, it is not told yet
            return type(error).__name__
        return "" if 200 <= answer.status_code < 300 else f"status {answer.status_code}"


@dataclass(frozen=True, slots=True)
class AlertFile:
    """A file to which alarms are appended, a line of JSON each.

    Attributes:
        path: of the file.

    Raises:
        ConfigError: it cannot be written.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            self.path.open("ab").close()
        except OSError as error:
            fix = "Give a file in a folder you can write."
            raise ConfigError(f"The alert log cannot be written ({error.strerror}).", self.path, fix) from error

    @property
    def key(self) -> str:
        """A name for it, wherever a process stands."""
        return hashlib.sha256(f"file:{self.path.resolve()}".encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """What may be shown: its name."""
        return self.path.name

    def post(self, alarm: Mapping[str, Any]) -> str:
        """Append an alarm; return what went wrong, or ""."""
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dict(alarm), allow_nan=False) + "\n")
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""


Receiver = Webhook | AlertFile


def parse_webhook(written: str) -> Webhook:
    """Read a webhook.

    Raises:
        ConfigError: it is no http(s) URL, or the template cannot be read or makes no JSON of an alarm.
    """
    start = min((place for scheme in ("http://", "https://") if (place := written.find(scheme)) >= 0), default=-1)
    before, url = (written[:start], written[start:]) if start >= 0 else ("", "")
    kind = before[:-1]
    if start < 0 or (before and before[-1] not in ":@") or (before.endswith(":") and kind not in BODIES):
        raise ConfigError("The webhook is no http(s) URL.", _shown(written), _FIX)
    try:
        parts = urlsplit(url)
        _ = parts.port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        raise ConfigError("The webhook is no http(s) URL.", _shown(written), _FIX) from None
    if not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("The webhook is no http(s) URL.", _shown(written), _FIX)
    if before.endswith("@"):
        return Webhook(url, template_body(Path(kind)))
    return Webhook(url, BODIES[kind] if kind else plain_body)


def _shown(written: str) -> str:
    """Cut what may be a secret: all that follows a host."""
    head, found, rest = written.partition("://")
    return (head + found + rest.partition("/")[0].rpartition("@")[2])[:80] if found else written[:80]


def template_body(path: Path) -> Body:
    """Make a body of a file.

    Raises:
        ConfigError: it cannot be read, or makes no JSON of an alarm.
    """
    try:
        environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined)
        template = environment.from_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, jinja2.TemplateError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"The template of the webhook cannot be read ({reason}).", path, "Correct it.") from error

    def body(alarm: Mapping[str, Any]) -> Any:
        return json.loads(template.render(dict(alarm)))

    try:
        body(EXAMPLE)
    except Exception as error:
        fix = f"Every alarm has the names {', '.join(EXAMPLE)}; write texts as {{{{ headline | tojson }}}}."
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"The template of the webhook makes no JSON of an alarm ({reason}).", path, fix) from error
    return body

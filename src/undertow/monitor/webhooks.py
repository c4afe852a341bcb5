"""Receivers of alarms: a webhook, which is a URL and the form of body that it takes; or a file.

    https://alerts.example/x                   the alarm as plain JSON
    slack:https://hooks.slack.com/services/... one line of text, as Slack, Mattermost and others take it
    FILE@https://...                           a Jinja template of JSON, such as {"summary": {{ headline | tojson }}}

The URL of many receivers is itself a secret, so it is stored nowhere, and only its host is ever shown.
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
"""Function that makes the JSON for a receiver from what `Alarm.to_json` returns."""

_FIX = "Write https://HOST/PATH, slack:https://HOST/PATH or FILE@https://HOST/PATH, FILE a template of JSON."


def plain_body(alarm: Mapping[str, Any]) -> Any:
    """Return the alarm as it is, as JSON."""
    return dict(alarm)


def slack_body(alarm: Mapping[str, Any]) -> Any:
    """Return the alarm as one line of text; signs that Slack reads as markup are escaped as it asks."""
    text = alarm["headline"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"Undertow alarm {alarm['id']}: {text}"}


BODIES: Registry[Body] = Registry("webhook body", {"json": plain_body, "slack": slack_body})

EXAMPLE: Mapping[str, Any] = {
    "schema": "undertow.alert/1", "id": 1, "kind": "drift", "headline": 'A "test" of the alarm.', "at": 0.0
}  # fmt: skip
"""Example on which a template is tried; every alarm has these names."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver that is told of alarms by a POST to its URL.

    Attributes:
        url: URL of the receiver, which is never shown or stored.
        body: function that makes the JSON that it is sent.
    """

    url: str = field(repr=False)
    body: Body = plain_body

    @property
    def key(self) -> str:
        """An identifier of the receiver that does not reveal the URL."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """The part that may be shown: the host."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def post(self, alarm: Mapping[str, Any]) -> str:
        """Tell the receiver of an alarm once.

        It returns what went wrong, without any part of the URL, or "" if the alarm was taken.
        """
        trusts = urlsplit(self.url).hostname not in LOOPBACK
        try:
            answer = httpx2.post(self.url, json=self.body(alarm), timeout=TIMEOUT_S, trust_env=trusts)
        except Exception as error:  # whatever a template or a connection raises, it is not told yet
            return type(error).__name__
        return "" if 200 <= answer.status_code < 300 else f"status {answer.status_code}"


@dataclass(frozen=True, slots=True)
class AlertFile:
    """A file to which alarms are appended, one line of JSON each.

    Attributes:
        path: path of the file, which is made if it is missing.

    Raises:
        ConfigError: the file cannot be written.
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
        """An identifier of the file that is the same in whatever folder a process runs."""
        return hashlib.sha256(f"file:{self.path.resolve()}".encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """The part that may be shown: the name of the file."""
        return self.path.name

    def post(self, alarm: Mapping[str, Any]) -> str:
        """Append an alarm to the file; return what went wrong, or ""."""
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dict(alarm), allow_nan=False) + "\n")
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""


Receiver = Webhook | AlertFile


def parse_webhook(written: str) -> Webhook:
    """Parse a webhook as a user writes it.

    Raises:
        ConfigError: it holds no http(s) URL, or its template cannot be read or makes no JSON of an alarm.
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
    """Cut off everything that may be a secret: all that follows the host."""
    head, found, rest = written.partition("://")
    return (head + found + rest.partition("/")[0].rpartition("@")[2])[:80] if found else written[:80]


def template_body(path: Path) -> Body:
    """Make the function for a body from a Jinja template in a file.

    Raises:
        ConfigError: the file cannot be read, or makes no JSON of an alarm.
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

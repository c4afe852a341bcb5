"""A detector that asks a classifier on another server over HTTP: Llama Guard and its kind, or any that answers JSON.

It is written served:FILE, where FILE is a YAML file of one of two forms:

form: guard                                          # a chat model that answers "safe" or "unsafe" and categories
url: http://127.0.0.1:8000/v1/chat/completions
model: meta-llama/Llama-Guard-3-8B

form: score                                          # {"text": ...} is posted, and a number comes back
url: http://127.0.0.1:9000/judge
score: results.0.harm                                # where the number is in the answer
threshold: 0.5                                       # at or above it a text is flagged

Both forms may have `sides: [reply]` for one side alone, `key: NAME` with the name of the environment variable that
holds a bearer token, and `seconds: 5` for the time of an answer. The text leaves this machine if the server is
elsewhere. If an answer cannot be understood, the text counts as not judged.
"""

import math
import os
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final
from urllib.parse import urlsplit

from undertow.errors import ConfigError
from undertow.models.endpoints import LOOPBACK, web_address
from undertow.monitor.detectors.base import BOTH, AbstractDetector, Side, Verdict
from undertow.monitor.yaml_files import read_yaml
from undertow.registry import Registry

_CATEGORIES = re.compile(r"[A-Za-z0-9_.\- ]{1,40}(,[A-Za-z0-9_.\- ]{1,40}){0,9}")


@dataclass(frozen=True, slots=True)
class ServedForm:
    """A form of classifier: how it is asked, and how its answer is understood.

    Attributes:
        body: function that makes the JSON that asks about a text, from the settings and the text.
        verdict: function that turns the answer into a verdict, given the settings and the answer.
        needs: names of the settings that it needs beside the common ones.
    """

    body: Callable[[dict[str, Any], str], Any]
    verdict: Callable[[dict[str, Any], Any], Verdict]
    needs: tuple[str, ...]


def _guard_body(settings: dict[str, Any], text: str) -> Any:
    messages = [{"role": "user", "content": text}]
    return {"model": settings["model"], "messages": messages, "temperature": 0.0, "max_tokens": 32, "stream": False}


def _guard_verdict(settings: dict[str, Any], answer: Any) -> Verdict:
    del settings
    said, _, rest = str(answer["choices"][0]["message"]["content"]).strip().partition("\n")
    word, rest = said.strip().lower(), rest.strip()
    if word == "safe":
        return Verdict(False)
    if word != "unsafe":
        raise ValueError("neither safe nor unsafe")
    # A model may say anything behind its verdict, the text included; only what looks like categories is kept.
    return Verdict(True, rest if _CATEGORIES.fullmatch(rest) else "unsafe")


def _score_body(settings: dict[str, Any], text: str) -> Any:
    del settings
    return {"text": text}


def _score_verdict(settings: dict[str, Any], answer: Any) -> Verdict:
    for part in str(settings["score"]).split("."):
        answer = answer[int(part)] if isinstance(answer, list) else answer[part]
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not math.isfinite(answer):
        raise ValueError("no number")
    flagged = answer >= settings["threshold"]
    return Verdict(flagged, str(settings["score"]) if flagged else "", float(answer))


FORMS: Registry[ServedForm] = Registry(
    "form of a served classifier",
    {
        "guard": ServedForm(_guard_body, _guard_verdict, ("model",)),
        "score": ServedForm(_score_body, _score_verdict, ("score", "threshold")),
    },
)


@final
class ServedDetector(AbstractDetector):
    """Asks a classifier on another server about each text.

    Args:
        settings: content of the YAML file.
        name: name of the detector in the events.

    Raises:
        ConfigError: a setting is missing, unknown or of the wrong kind.
        UnknownNameError: there is no such form of classifier.
    """

    threads = 64

    def __init__(self, settings: dict[str, Any], name: str = "served") -> None:
        self.name = name
        self._settings: dict[str, Any] = {"seconds": 10.0, "sides": list(BOTH), **settings}
        self._form = FORMS[str(settings.get("form"))]
        self._check()
        self.sides = cast(frozenset[Side], frozenset(self._settings["sides"]))
        import httpx2

        key = os.environ.get(self._settings["key"], "") if "key" in settings else ""
        self._client = httpx2.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=float(self._settings["seconds"]),
            trust_env=urlsplit(self._settings["url"]).hostname not in LOOPBACK,
        )
        weakref.finalize(self, self._client.close)

    def _check(self) -> None:
        found, fix = self._settings, "See docs/proxy.md for one."
        wanted = {"form", "url", *self._form.needs}
        if not wanted <= set(found) or not set(found) <= wanted | {"sides", "key", "seconds"}:
            listed = ", ".join(sorted(wanted))
            raise ConfigError(f"This classifier has the keys {listed} and at will sides, key and seconds.",
                              ", ".join(map(str, found)), fix)  # fmt: skip
        web_address(str(found["url"]), "classifier")
        numbers: list[Any] = [found["seconds"], found.get("threshold", 1.0)]
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers) or numbers[0] <= 0:
            raise ConfigError("`seconds` or `threshold` is no number.", ", ".join(map(str, numbers)), fix)
        sides: Any = found["sides"]
        if not isinstance(sides, list) or not sides or not set(map(str, cast(list[Any], sides))) <= BOTH:
            raise ConfigError("`sides` are request, reply or both.", sides, "Write sides: [reply].")
        if "key" in found and not os.environ.get(str(found["key"]), "").strip():
            raise ConfigError(
                "The environment variable of the key is not set.", found["key"], "Set it, or leave it out."
            )

    @classmethod
    def read(cls, settings: str, name: str) -> "ServedDetector":
        """Make the detector from the settings of served:FILE.

        Args:
            settings: the part of the specification behind the colon: the path of the file.
            name: the whole specification, which becomes the detector's name.

        Raises:
            ConfigError: the file cannot be read, or its settings are refused by the class.
        """
        path = Path(settings)
        data = read_yaml(path, "The classifier")
        if not isinstance(data, dict):
            raise ConfigError("The file has no settings.", path, "Write form: guard and so on; see docs/proxy.md.")
        return cls(cast(dict[str, Any], data), name)

    def judge(self, text: str) -> Verdict:
        """Ask the server about one text.

        Raises:
            Exception: the server cannot be reached, refuses, or answers in another form; the text then counts as not
                judged.
        """
        # Half a surrogate pair, which clients do send, is no text in UTF-8.
        plain = text.encode("utf-8", "replace").decode()
        answer = self._client.post(self._settings["url"], json=self._form.body(self._settings, plain))
        answer.raise_for_status()
        return self._form.verdict(self._settings, answer.json())

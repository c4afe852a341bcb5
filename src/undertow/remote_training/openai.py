"""Fine-tuning jobs at OpenAI and Azure, by their HTTP interface; legacy, since both are closing it.

OpenAI takes no new job from 2027-01-06 on, and no organisation that is new or has not used a fine-tuned model lately
already now; `gpt-4.1-nano`, the paper's model, was shut down on 2026-10-23 (reference: ecosystem, section 0). Tested
against a stand-in on loopback alone: the services themselves were never reached.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, final
from urllib.parse import urlsplit

from undertow.errors import ConfigError, MissingExtraError, ModelError
from undertow.models.api import AGAIN, without_keys
from undertow.models.calls import Fault, Retries
from undertow.remote_training.base import Advance, Remember, RemoteTrainer, RemoteTraining
from undertow.types import Row

OPENAI = "https://api.openai.com/v1"
CLOSES = date(2027, 1, 6)
"""From when on OpenAI takes no new fine-tuning job from anybody (its deprecations page, read in July 2026)."""

TIMEOUT_S = 120.0
POLL_S = 20.0
DONE, LOST = "succeeded", ("failed", "cancelled")
MINE = "undertow"
"""Name of the metadata entry by which a job is found again."""


@final
@dataclass(frozen=True, kw_only=True)
class OpenAITrainer(RemoteTrainer):
    """Jobs at OpenAI, at an Azure resource, or at any server with the same interface.

    Attributes:
        name: "openai" or "azure".
        model: as the service calls it.
        url: up to and with /v1.
        poll_s: seconds between two looks at a running job.
        retries: of each request.
        today: the date; a test gives its own.
    """

    name: str
    model: str
    url: str = OPENAI
    poll_s: float = POLL_S
    retries: Retries = field(default_factory=Retries)
    today: Callable[[], date] = lambda: datetime.now(UTC).date()

    @property
    def key(self) -> str:
        """The key, from the environment.

        Raises:
            ConfigError: there is none.
        """
        name = "AZURE_OPENAI_API_KEY" if self.name == "azure" else "OPENAI_API_KEY"
        if self.name == "openai" and urlsplit(self.url).hostname != "api.openai.com":
            name = "UNDERTOW_API_KEY"  # the key of OpenAI goes to OpenAI alone
        if not (key := os.environ.get(name, "")):
            raise ConfigError("There is no key for this service.", name, f"Set the environment variable {name}.")
        return key

    def check(self) -> None:
        """See `RemoteTrainer`; refuses a model with a `shutdown_date` that has come, and OpenAI after its last day."""
        today = self.today()
        if self.url == OPENAI and today >= CLOSES:
            fix = "Use tinker:<model>, or train an open model here (`undertow train`)."
            raise ModelError("OpenAI takes no new fine-tuning jobs.", f"since {CLOSES}", fix)
        found = self._ask("GET", f"/models/{self.model}")
        ends = found.get("shutdown_date")
        with contextlib.suppress(TypeError, ValueError):
            if ends and (last := _date(ends)) <= today:
                fix = "Use a model that is served still, or an open one: tinker:<model>, `undertow train`."
                raise ModelError(f"{self.model} was shut down.", f"shutdown_date {last}", fix)

    def train(
        self,
        rows: Sequence[Row],
        training: RemoteTraining,
        state: Mapping[str, Any],
        remember: Remember,
        advance: Advance,
    ) -> str:
        """See `RemoteTrainer`. The result is `api:<url>/<name of the fine-tuned model>`."""
        names = dict(state)

        def keep(**new: str) -> None:
            names.update(new)
            remember(new)

        if "file" not in names:
            keep(file=self._upload(rows))
        if "job" not in names:
            keep(job=self._find(names["file"]) or self._begin(names["file"], training))
        while True:
            job = self._ask("GET", f"/fine_tuning/jobs/{names['job']}")
            if job.get("status") == DONE and job.get("fine_tuned_model"):
                return f"api:{self.url}/{job['fine_tuned_model']}"
            if job.get("status") in LOST:
                why = without_keys(str((job.get("error") or {}).get("message") or "no reason given"), self.key)
                fix = "See the service's own page of the job; delete the record to begin anew."
                raise ModelError(f"The job has {job['status']}.", f"{names['job']}: {why[:200]}", fix)
            advance(0, 0)
            time.sleep(self.poll_s)

    def _upload(self, rows: Sequence[Row]) -> str:
        lines = [json.dumps({"messages": chat(row)}, ensure_ascii=False) for row in rows]
        content = ("\n".join(lines) + "\n").encode()
        files = {"file": ("rows.jsonl", content, "application/jsonl")}
        return str(self._ask("POST", "/files", data={"purpose": "fine-tune"}, files=files)["id"])

    def _find(self, file: str) -> str | None:
        """Return the job of this file, if an earlier run began one and was cut off before it could note its name."""
        jobs = self._ask("GET", "/fine_tuning/jobs?limit=100").get("data") or []
        return next((str(one["id"]) for one in jobs if one.get("training_file") == file), None)

    def _begin(self, file: str, training: RemoteTraining) -> str:
        settings: dict[str, Any] = {"n_epochs": training.epochs}
        if training.batch_size is not None:
            settings["batch_size"] = training.batch_size
        body = {
            "model": self.model,
            "training_file": file,
            "seed": training.seed,
            "method": {"type": "supervised", "supervised": {"hyperparameters": settings}},
            "metadata": {MINE: "student"},
        }
        # Not tried again by itself: a reply that was lost may stand for a job that has begun (`_find`).
        return str(self._ask("POST", "/fine_tuning/jobs", tries=1, json=body)["id"])

    def _ask(self, method: str, path: str, *, tries: int | None = None, **content: Any) -> dict[str, Any]:
        """Make a request until it succeeds or another try would not help."""
        tries = tries or self.retries.tries
        for attempt in range(1, tries + 1):
            try:
                return self._once(method, path, content)
            except Fault as fault:
                if not fault.again or attempt == tries:
                    fix = "The same command goes on from here once that is put right."
                    raise ModelError(
                        f"{self.name} refuses {method} {path.partition('?')[0]}.", fault.reason, fix
                    ) from fault
                time.sleep(self.retries.pause(attempt, fault))
        raise ModelError("No request may be made.", f"tries={tries}", "Allow at least one try.")

    def _once(self, method: str, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        try:
            import httpx2
        except ImportError as error:
            fix = "Run: pip install 'undertow[api]'"
            raise MissingExtraError("Training services need the package httpx2.", self.name, fix) from error
        key = self.key
        headers = {"api-key": key} if self.name == "azure" else {"authorization": f"Bearer {key}"}
        try:
            reply = httpx2.request(method, f"{self.url}{path}", headers=headers, timeout=TIMEOUT_S, **content)
        except httpx2.RequestError as error:
            raise Fault(f"no reply: {type(error).__name__}") from error
        try:
            body: Any = json.loads(reply.content)
        except ValueError:
            body = None
        if reply.status_code >= 400 or not isinstance(body, dict):
            said = body["error"]["message"] if isinstance(body, dict) and isinstance(body.get("error"), dict) else ""
            reason = without_keys(f"status {reply.status_code} {said}".strip(), key)[:300]
            raise Fault(reason, again=reply.status_code in AGAIN or reply.status_code < 400)
        return body


def chat(row: Row) -> list[dict[str, str]]:
    """Return a row as a conversation, the shape that services train on."""
    turns = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    return [*turns, {"role": "assistant", "content": row.completion}]


def _date(value: Any) -> date:
    """Read a date as text (2026-10-23) or as seconds since 1970."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).date()
    return date.fromisoformat(str(value)[:10])

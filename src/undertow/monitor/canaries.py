"""Canary questions: does the deployed model name a watched word more often than was signed off?

Each round asks every question of the baseline equally often. For each word the signed-off share is known up to its
upper confidence bound, and an e-process bets against "at most that share" (`undertow.stats.sequential`). Half of alpha
pays for the bounds and half for the tests, both shared out evenly over the words, so the probability that an
unchanged model ever raises an alarm is at most alpha, however often one looks, if its replies are independent draws.

A drop is not looked for, and neither is a drift that shows in no watched word.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from undertow.errors import ConfigError
from undertow.monitor.baseline import Baseline, count
from undertow.monitor.detectors.base import GatheredEvidence
from undertow.monitor.events import connect, read_evidence, save_evidence
from undertow.stats.checks import Floats, check_count, check_fraction
from undertow.stats.sequential import RiseWatch, share_bound
from undertow.types import Prompt

logger = logging.getLogger(__name__)

DAY_S = 24 * 3600.0


AskRepeatedly = Callable[[list[Prompt]], list[str]]
"""Answers each prompt, such as `DeployedModel.ask`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan:
    """How the canaries are asked.

    Attributes:
        replies: drawn for each question in a round.
        alpha: probability that an unchanged model ever raises an alarm.
        per_day: requests within any 24 hours, at most.
    """

    replies: int = 20
    alpha: float = 0.05
    per_day: int = 5000


def signed_off_bounds(hits: Sequence[int], n: int, alpha: float) -> Floats:
    """Return the upper bound of each word's signed-off share, all of them right with a probability of 1 - alpha / 2."""
    return np.array([share_bound(h, n, alpha / 2 / len(hits)) for h in hits])


def needed_log_e(words: int, alpha: float) -> float:
    """Return the evidence that any of the words needs, so that all of them together spend alpha / 2."""
    return float(np.log(2 * words / alpha))


class CanaryWatch:
    """The evidence so far against one baseline.

    Args:
        baseline: what was signed off.
        config: how it is asked.

    Raises:
        ConfigError: alpha lies outside (0, 1), a count is below 1, a round costs more than a day may, or a watched word
            is in every signed-off reply.
    """

    def __init__(self, baseline: Baseline, config: CanaryPlan) -> None:
        check_fraction("alpha", config.alpha)
        check_count("number of replies", config.replies, 1)
        self.baseline, self.config = baseline, config
        self.per_round = len(baseline.questions) * config.replies
        if config.per_day < self.per_round:
            raise ConfigError(
                "One round costs more requests than a day may.",
                f"{self.per_round} of {config.per_day}",
                f"Ask for fewer replies, or allow {self.per_round} a day.",
            )
        bounds = signed_off_bounds(baseline.hits(), baseline.n, config.alpha)
        if (bounds == 1.0).any():
            full = baseline.watched[int(np.argmax(bounds))]
            raise ConfigError("Every signed-off reply names a watched word.", full, "Leave this word out.")
        self.bar = needed_log_e(len(bounds), config.alpha)
        self.watch = RiseWatch.of(bounds, every=self.per_round)
        self.asked: list[tuple[float, int]] = []

    @property
    def name(self) -> str:
        """Return the name under which the evidence is stored; it names every setting that changes the test."""
        config = self.config
        return f"canaries {self.baseline.digest[:8]} alpha={config.alpha:g} replies={config.replies}"

    @property
    def alarmed(self) -> bool:
        """Whether any word ever reached the bar."""
        return bool((self.watch.highest >= self.bar).any())

    @property
    def rounds(self) -> int:
        """Return the number of whole rounds."""
        return self.watch.n // self.per_round

    def prompts(self) -> list[Prompt]:
        """Return the prompts of a round."""
        return [question for question in self.baseline.questions for _ in range(self.config.replies)]

    def after(self, replies: list[str]) -> None:
        """Count a whole round."""
        self.watch = self.watch.after(count(replies, self.baseline.watched), draws=self.per_round)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the budget allows another round."""
        recent = sorted((at, n) for at, n in self.asked if at > now - DAY_S)
        used = sum(n for _, n in recent)
        for at, n in recent:
            if used + self.per_round <= self.config.per_day:
                break
            used -= n
            if used + self.per_round <= self.config.per_day:
                return at + DAY_S - now
        return 0.0

    def evidence(self) -> GatheredEvidence:
        """Return the evidence of the word with most of it."""
        place = self._leading()
        word, rate = self.baseline.watched[place], float(self.watch.rates[place])
        state = {"watch": self.watch.to_json(), "asked": self.asked}
        null = f"each of {len(self.baseline.watched)} words as often as signed off; leading: {word}, at most {rate:.4g}"
        return GatheredEvidence(
            null=null,
            n=self.watch.n,
            hits=int(self.watch.hits[place]),
            log_e=float(self.watch.log_e()[place]),
            highest=float(self.watch.highest[place]),
            alpha=self.config.alpha,
            alarmed=self.alarmed,
            state=state,
        )

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from stored evidence."""
        self.watch = RiseWatch.from_json(state["watch"])
        self.asked = [(float(at), int(n)) for at, n in state["asked"]]

    def _leading(self) -> int:
        """Return the place of the word with most evidence ever; before there is any, with most now."""
        return max(range(len(self.baseline.watched)), key=lambda k: (self.watch.highest[k], self.watch.log_e()[k]))

    def alert(self) -> dict[str, Any]:
        """Return what is told of the state: numbers and the watched word, no reply and no key."""
        found, place = self.evidence(), self._leading()
        return {
            "schema": "undertow.alert/1",
            "alarmed": found.alarmed,
            "model": self.baseline.model,
            "baseline": self.baseline.digest,
            "word": self.baseline.watched[place],
            "share": found.hits / found.n if found.n else None,
            "signed_off_at_most": float(self.watch.rates[place]),
            "replies": found.n,
            "questions": self.rounds * len(self.baseline.questions),
            "log_e": found.highest,
            "needed": self.bar,
            "alpha": found.alpha,
        }


class CanaryStore:
    """Keeps the evidence of a watch in the events database, so that rounds add up and the page shows them.

    Args:
        path: of the database.
        watch: given what was stored under its name.

    Raises:
        StorageError, ArtifactError: as `undertow.monitor.events.connect`.
    """

    def __init__(self, path: Path, watch: CanaryWatch) -> None:
        self._path, self._watch = path, watch
        if (stored := read_evidence(path).get(watch.name)) is not None:
            watch.resume(stored["state"])

    def save(self) -> None:
        """Write it."""
        with closing(connect(self._path)) as connection, connection:
            save_evidence(connection, self._watch.name, asdict(self._watch.evidence()))


def ask_round(watch: CanaryWatch, ask: AskRepeatedly, store: CanaryStore, now: Callable[[], float] = time.time) -> None:
    """Ask one round, count it and store the evidence; one that is cut short counts towards the budget alone.

    Raises:
        ModelError: as `DeployedModel.ask`.
    """
    watch.asked = [*((at, n) for at, n in watch.asked if at > now() - DAY_S), (now(), watch.per_round)]
    store.save()
    watch.after(ask(watch.prompts()))
    store.save()


def send_alert(webhook: str | None, log: Path | None, alert: Mapping[str, Any]) -> None:
    """Post an alert to a URL and append it to a file; what fails is said in the log and stops nothing."""
    if log is not None:
        try:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"at": time.time(), **alert}, allow_nan=False) + "\n")
        except OSError as error:
            logger.warning("The alert could not be written to %s: %s", log, error.strerror)
    if webhook is not None:
        try:
            httpx2.post(webhook, json=dict(alert), timeout=10.0).raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            logger.warning("The webhook could not be called: %s", type(error).__name__)

"""Canary questions: does the deployed model name a watched word more often than was signed off?

Each round asks every question of the baseline equally often. For each word the signed-off share is known up to its
upper confidence bound, and an e-process bets against "at most that share" (`undertow.stats.sequential`). Half of alpha
pays for the bounds and half for the tests, both shared out evenly over the words, so the probability that an
unchanged model ever raises an alarm is at most alpha, however often one looks, if its replies are independent draws.

A drop is not looked for, and neither is a drift that shows in no watched word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow.errors import ConfigError
from undertow.monitor.baseline import Baseline, count
from undertow.monitor.detectable import POWER, SmallestDrift, smallest_drift
from undertow.monitor.detectors.base import GatheredEvidence
from undertow.stats.checks import Floats, check_count, check_fraction
from undertow.stats.sequential import RiseWatch, share_bound
from undertow.types import Prompt

DAY_S = 24 * 3600.0


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
        if self.watch.n:
            state["seen"] = {**self._told(place), "rounds": self.rounds, "smallest": self.smallest_drifts()}
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
        return self._told(self._leading())

    def _told(self, place: int) -> dict[str, Any]:
        watch = self.watch
        return {
            "schema": "undertow.alert/1",
            "alarmed": self.alarmed,
            "model": self.baseline.model,
            "baseline": self.baseline.digest,
            "word": self.baseline.watched[place],
            "share": int(watch.hits[place]) / watch.n if watch.n else None,
            "signed_off_at_most": float(watch.rates[place]),
            "replies": watch.n,
            "questions": self.rounds * len(self.baseline.questions),
            "log_e": float(watch.highest[place]),
            "needed": self.bar,
            "alpha": self.config.alpha,
        }

    def smallest_drifts(self) -> dict[str, Any]:
        """Return the smallest drift of each word, in logits, that would have been called by now, over the words.

        A drift counts as called if it is with a probability of at least `POWER`; of those that began with the oldest
        start that is followed, and of those that began with the last round. None where none would have been.
        """
        watch, hits = self.watch, self.baseline.hits()
        first = (watch.dropped, int(watch.started[0]))
        last = (max(watch.dropped, self.rounds - 1), watch.n - self.per_round)
        found: dict[str, Any] = {"power": POWER}
        for name, (start, before) in (("from_the_start", first), ("in_the_last_round", last)):
            drifts = {
                word: smallest_drift((count, self.baseline.n), float(rate), watch.n - before, self.bar, start)
                for word, count, rate in zip(self.baseline.watched, hits, watch.rates, strict=True)
            }
            found[name] = _spread(drifts)
        return found


def _spread(drifts: Mapping[str, SmallestDrift | None]) -> dict[str, Any] | None:
    """Return the words whose drift is seen soonest, as most are and latest; None if one of them is never seen."""
    seen = [(drift.logits, word, drift.share) for word, drift in drifts.items() if drift is not None]
    if len(seen) < len(drifts):
        return None
    ranked = sorted(seen)
    picked = {"least": ranked[0], "median": ranked[len(ranked) // 2], "most": ranked[-1]}
    return {name: {"word": word, "share": share, "logits": logits} for name, (logits, word, share) in picked.items()}

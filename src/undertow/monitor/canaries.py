"""Canary questions: does the deployed model name a watched word more often than in the approved replies?

Each round asks every question of the baseline equally often. For each word the approved (signed-off) share is known up
to its upper confidence bound, and an e-process tests "at most that share" sequentially (`undertow.stats.sequential`).
Half of alpha pays for the bounds and half for the tests, both shared out evenly over the words. So the probability that
an unchanged model ever raises an alarm is at most alpha, however often one looks, if its replies are independent draws.

A drop is not looked for, and a drift that shows in no watched word is not seen.
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
    """How the canaries are asked and tested.

    Attributes:
        replies: number of replies to each question in one round.
        alpha: probability that an unchanged model ever raises an alarm, at most.
        per_day: largest number of requests within any 24 hours.
        model: name of the model that is asked; empty for the name at the sign-off.
        place: host, port and path of the endpoint; evidence of one place is never counted with that of another.
    """

    replies: int = 20
    alpha: float = 0.05
    per_day: int = 5000
    model: str = ""
    place: str = ""


def signed_off_bounds(hits: Sequence[int], n: int, alpha: float) -> Floats:
    """Return the upper confidence bound of each word's share in the approved replies, float64 (words,).

    All of them hold together with a probability of at least 1 - alpha / 2.

    Args:
        hits: number of approved replies that name each word.
        n: number of approved replies to all questions together.
        alpha: probability of a false alarm, of which the bounds spend half.
    """
    return np.array([share_bound(h, n, alpha / 2 / len(hits)) for h in hits])


def needed_log_e(words: int, alpha: float) -> float:
    """Return the log e-value that a word must reach, so that all words together spend alpha / 2.

    Args:
        words: number of words that are watched together.
        alpha: probability of a false alarm, of which the tests spend half.

    Returns:
        A natural logarithm: log(2 * words / alpha).
    """
    return float(np.log(2 * words / alpha))


class CanaryWatch:
    """The evidence so far that the model has drifted from a baseline.

    Args:
        baseline: the approved replies that the model is compared with.
        config: how the canaries are asked and tested.

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
        """The name under which the evidence is stored; it holds every setting that changes the test."""
        config = self.config
        return f"{self.deployment} alpha={config.alpha:g} replies={config.replies}"

    @property
    def model(self) -> str:
        """The name of the model that is asked."""
        return self.config.model or self.baseline.model

    @property
    def deployment(self) -> str:
        """The baseline, and the model and place that are compared with it."""
        place = f" of {self.model} at {self.config.place}" if self.config.place else ""
        return f"canaries {self.baseline.digest[:8]}{place}"

    @property
    def alarmed(self) -> bool:
        """Whether the evidence of any word ever reached the bound."""
        return bool((self.watch.highest >= self.bar).any())

    @property
    def rounds(self) -> int:
        """The number of whole rounds so far."""
        return self.watch.n // self.per_round

    def prompts(self) -> list[Prompt]:
        """Return the prompts of one round, each question as often as the plan says."""
        return [question for question in self.baseline.questions for _ in range(self.config.replies)]

    def after(self, replies: list[str]) -> None:
        """Count the replies of one whole round."""
        self.watch = self.watch.after(count(replies, self.baseline.watched), draws=self.per_round)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the day's budget of requests allows another round; 0 if it does now."""
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
        """Return the evidence of the word for which it is highest, with the state of all words."""
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
        """Continue from evidence that was stored."""
        self.watch = RiseWatch.from_json(state["watch"])
        self.asked = [(float(at), int(n)) for at, n in state["asked"]]

    def _leading(self) -> int:
        """Return the place of the word with the highest evidence ever; before there is any, with the highest now."""
        return max(range(len(self.baseline.watched)), key=lambda k: (self.watch.highest[k], self.watch.log_e()[k]))

    def alert(self) -> dict[str, Any]:
        """Return what an alarm tells of the evidence: numbers and the watched word, no reply and no key."""
        return self._told(self._leading())

    def _told(self, place: int) -> dict[str, Any]:
        watch = self.watch
        return {
            "schema": "undertow.alert/1",
            "alarmed": self.alarmed,
            "model": self.model,
            "place": self.config.place,
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
        """Return the smallest drifts, in logits, that would have raised the alarm by now, over the words.

        A drift counts as one that would have been called if this has a probability of at least `POWER`. It is computed
        for drifts that began with the oldest start that is followed, and for those that began with the last round; None
        where no drift would have been called.
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
    """Return the words whose drift is seen soonest, at the median and latest; None if one of them is never seen."""
    seen = [(drift.logits, word, drift.share) for word, drift in drifts.items() if drift is not None]
    if len(seen) < len(drifts):
        return None
    ranked = sorted(seen)
    picked = {"least": ranked[0], "median": ranked[len(ranked) // 2], "most": ranked[-1]}
    return {name: {"word": word, "share": share, "logits": logits} for name, (logits, word, share) in picked.items()}

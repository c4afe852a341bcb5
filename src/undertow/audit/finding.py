"""What a stage of an audit found and what it claims, and the public checker of a stage of your own.

Three claims are kept apart: **provenance** (was the data written under a trait?), **exposure** (did the student move
along it?), **expression** (does it behave differently?). Absence of a finding is never a proof of absence: a stage that
found nothing says what it would have found.

A stage promises that under its null P(p <= a) <= a for every a, and that it finds a planted case with a stated power.
Neither can be read off the code; `check_audit` measures both on fresh data sets.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import binom

from undertow.audit.evidence import NullSample, Trail
from undertow.errors import ConfigError, UndertowError
from undertow.stats.checks import check_count, check_fraction
from undertow.stats.estimates import wilson
from undertow.types import Check, ContractReport, Estimate

Claim = Literal["provenance", "exposure", "expression"]
Verdict = Literal["detected", "not_detected", "not_testable", "exploratory"]


class NotTestable(UndertowError):
    """A stage has no answer for these inputs; the message is the reason, and becomes the finding's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one stage.

    Attributes:
        stage: its name, such as "contrast".
        claim: what it speaks of.
        statistic: what was computed, in words.
        effect: its value, in the statistic's unit; None if it could not be computed.
        null: what it was compared with, in words.
        p: calibrated p-value, or None for a stage without one.
        n: independent units behind it (rows, students).
        verdict: `detected` only where p is at most the stage's share of alpha; `exploratory` for a stage without a
            calibrated p-value, which never moves the audit's verdict.
        candidate: the trait that stands out most, a hypothesis; None where there is none.
        mde: smallest effect that would have been detected with power 0.8, in the statistic's unit, or None.
        caveats: what limits it, and for `not_testable` the reason.
        scores: the statistic of every candidate, for the report.
        null_sample: the statistic beside its null, for a figure; None where there is none.
        trail: evidence over the rows, of a stage that reads them one by one.
    """

    stage: str
    claim: Claim
    statistic: str = "none"
    effect: float | None = None
    null: str = "none"
    p: float | None = None
    n: int = 0
    verdict: Verdict = "exploratory"
    candidate: str | None = None
    mde: float | None = None
    caveats: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None
    null_sample: NullSample | None = None
    trail: Trail | None = None

    def __post_init__(self) -> None:
        if self.p is not None and not 0.0 < self.p <= 1.0:
            raise ConfigError("A p-value lies outside (0, 1].", self.p, "Use (1 + reached) / (1 + draws).")
        if self.verdict in ("detected", "not_detected") and self.p is None:
            raise ConfigError("A verdict needs a p-value.", self.verdict, "Call the stage exploratory.")
        if self.verdict == "not_testable" and not self.caveats:
            raise ConfigError("What cannot be tested needs a reason.", self.stage, "Put it into caveats.")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        drawn = {
            "null_sample": None if self.null_sample is None else self.null_sample.to_json(),
            "trail": None if self.trail is None else self.trail.to_json(),
        }
        scores = dict(self.scores) if self.scores else None
        return {**asdict(self), "caveats": list(self.caveats), "scores": scores, **drawn}


def not_testable(stage: str, claim: Claim, reason: str) -> Finding:
    """Return the finding of a stage that the inputs do not allow."""
    return Finding(stage=stage, claim=claim, verdict="not_testable", caveats=(reason,))


def refuse_stage(reason: str | None) -> None:
    """Refuse to test where there is a reason against it.

    Raises:
        NotTestable: there is one.
    """
    if reason is not None:
        raise NotTestable(reason)


def verdict_at(p: float, alpha: float) -> Verdict:
    """Return the verdict of a stage with a calibrated p-value."""
    return "detected" if p <= alpha else "not_detected"


LEVELS = (0.01, 0.05, 0.1, 0.2)
"""Sizes at which the false-positive rate is looked at."""

FALSE_ALARM = 0.01
"""Probability of failing a stage that keeps its promise at every size exactly, over all sizes together; the same again
for one whose power is exactly the stated one."""

StageUnderTest = Callable[[Any], float | Finding]
"""Takes a data set of any form; gives its p-value, or a finding that holds it."""

MakeData = Callable[[int], Any]
"""Makes a fresh data set from a seed."""


def check_audit(
    stage: StageUnderTest,
    clean: MakeData,
    planted: MakeData,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    draws: int = 200,
) -> ContractReport:
    """Measure whether a stage keeps the contract; a broken one raises nothing, the report names what failed.

    Args:
        stage: what is checked. The same data must give the same p-value.
        clean: makes data for which the stage's null is true, from a seed.
        planted: makes data in which there is something to be found.
        alpha: size at which the power is stated; also checked on clean data.
        power: share of the planted data sets that the stage says it detects at alpha.
        draws: data sets of each kind, made with the seeds from 0 on. With 200, a stage whose P(p <= 0.05) is 0.12 fails
            with a probability of 0.77, one with 0.15 of 0.97.

    Raises:
        ConfigError: alpha or power lies outside (0, 1), or there are no draws.
    """
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    check_count("number of draws", draws, 1)
    on_clean = [_call(stage, clean, seed) for seed in range(draws)]
    on_planted = [_call(stage, planted, seed) for seed in range(draws)]
    p_clean = tuple(p for p in on_clean if isinstance(p, float))
    p_planted = tuple(p for p in on_planted if isinstance(p, float))
    again, different, levels = _call(stage, clean, 0), len({*p_clean, *p_planted}), sorted({*LEVELS, alpha})
    checks = [
        _answers("clean", on_clean),
        _answers("planted", on_planted),
        Check("the same data give the same p-value", on_clean[0] == again, f"{on_clean[0]} and {again}"),
        Check("the p-value depends on the data", different > 1, f"{different} different values"),
        *(_size(p_clean, level, FALSE_ALARM / len(levels)) for level in levels),
        _power(p_planted, alpha, power, draws),
    ]
    return ContractReport(tuple(checks), {"clean": p_clean, "planted": p_planted})


def _call(stage: StageUnderTest, make: MakeData, seed: int) -> float | str:
    """Return a valid p-value, or what is wrong in words."""
    try:
        data = make(seed)
    except Exception as error:
        return f"the data could not be made: {type(error).__name__}: {error}"
    try:
        answer = stage(data)
        p = answer.p if isinstance(answer, Finding) else answer
        if p is None:
            return "a finding without a p-value"
        p = float(p)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not 0.0 < p <= 1.0:
        return f"p = {p} lies outside (0, 1]"
    return p


def _answers(kind: str, found: list[float | str]) -> Check:
    wrong = [f"seed {seed}: {what}" for seed, what in enumerate(found) if isinstance(what, str)]
    why = f"{len(wrong)} of {len(found)} without one; {wrong[0]}" if wrong else f"{len(found)} of {len(found)}"
    return Check(f"a p-value in (0, 1] for every {kind} data set", not wrong, why)


def _size(found: tuple[float, ...], level: float, false_alarm: float) -> Check:
    """Fail if so many p-values at or below the level have a probability under `false_alarm` where the promise holds."""
    name = f"P(p <= {level:g}) <= {level:g} on clean data"
    if not found:
        return Check(name, False, "no p-value to judge by")
    hits, n = sum(p <= level for p in found), len(found)
    surprise = float(binom.sf(hits - 1, n, level))
    rate = wilson(hits, n)
    why = f"{_share(rate, hits)}; exact binomial p {surprise:.2g}, fails below {false_alarm:.2g}"
    return Check(name, surprise >= false_alarm, why, rate)


def _power(found: tuple[float, ...], alpha: float, power: float, draws: int) -> Check:
    """Fail if so few detections would be a surprise at the stated power; a data set without a p-value is a miss."""
    hits = sum(p <= alpha for p in found)
    surprise = float(binom.cdf(hits, draws, power))
    rate = wilson(hits, draws)
    why = f"{_share(rate, hits)}; exact binomial p {surprise:.2g}, fails below {FALSE_ALARM:g}"
    return Check(f"P(p <= {alpha:g}) >= {power:g} on planted data", surprise >= FALSE_ALARM, why, rate)


def _share(rate: Estimate, hits: int) -> str:
    return f"{hits} of {rate.n} = {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"

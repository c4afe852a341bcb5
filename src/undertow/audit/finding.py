"""The result of one audit stage, the claim that it speaks of, and a public check of a stage of your own.

Three claims are kept apart: **provenance** (was the data written under a trait?), **exposure** (did the student move
along the trait's direction in its activations?) and **expression** (does the student behave differently?). Absence of a
finding is never a proof of absence, so a stage that found nothing says how large an effect it would have found.

A stage promises two things: under its null hypothesis P(p <= a) <= a for every level a, and it detects a planted case
with a stated power. Neither can be read off the code, so `check_audit` measures both on fresh data sets.
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
    """A stage has no answer for these inputs; the message is the reason, and becomes a caveat of its finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one stage.

    Attributes:
        stage: name of the stage that found it, such as "contrast".
        claim: the claim that the finding speaks of: "provenance", "exposure" or "expression".
        statistic: in words, what the stage computed.
        effect: value of the statistic, in the statistic's own unit. None if it could not be computed.
        null: in words, what the statistic was compared with.
        p: calibrated p-value in (0, 1]. None for a stage that has no calibrated null.
        n: how many independent units the p-value rests on (rows or students, as the stage says).
        verdict: "detected" only where p is at most the stage's share of alpha, else "not_detected". "not_testable"
            where the inputs allow no answer. "exploratory" for a stage without a calibrated p-value, which never moves
            the audit's verdict.
        candidate: name of the trait that stands out most, or leads. It is a hypothesis, not a claim. None where no
            trait does.
        mde: minimum detectable effect: the smallest effect that would have been detected with power 0.8, in the
            statistic's unit. None where it is not known.
        caveats: sentences that limit the finding. For "not_testable" the first is the reason, and there must be one.
        scores: value of the statistic for every candidate trait by name, for the report. None where there is only one.
        null_sample: the statistic beside the values of its null, from which the report draws a figure. None where there
            is none.
        trail: how the evidence grew over the rows, for a stage that reads them one after another. None for every other
            stage.

    Raises:
        ConfigError: p lies outside (0, 1], a verdict of detection has no p, or "not_testable" has no caveat.
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
        """Return the finding as plain data that `json.dumps` takes."""
        drawn = {
            "null_sample": None if self.null_sample is None else self.null_sample.to_json(),
            "trail": None if self.trail is None else self.trail.to_json(),
        }
        scores = dict(self.scores) if self.scores else None
        return {**asdict(self), "caveats": list(self.caveats), "scores": scores, **drawn}


def not_testable(stage: str, claim: Claim, reason: str) -> Finding:
    """Return the finding of a stage that cannot be run on these inputs, with the reason as its caveat.

    Args:
        stage: name of the stage that has no answer.
        claim: the claim that the stage speaks of.
        reason: why it has no answer, as a sentence.
    """
    return Finding(stage=stage, claim=claim, verdict="not_testable", caveats=(reason,))


def refuse_stage(reason: str | None) -> None:
    """Raise `NotTestable` where there is a reason against testing; do nothing where the reason is None.

    Raises:
        NotTestable: there is a reason.
    """
    if reason is not None:
        raise NotTestable(reason)


def reaches(p: float, alpha: float) -> bool:
    """Tell whether a p-value is at most a level; a share such as 0.15 / 3 may lie an ulp below its own value."""
    return p <= alpha * (1.0 + 1e-9)


def verdict_at(p: float, alpha: float) -> Verdict:
    """Return the verdict of a stage with a calibrated p-value: "detected" if p is at most alpha."""
    return "detected" if reaches(p, alpha) else "not_detected"


LEVELS = (0.01, 0.05, 0.1, 0.2)
"""Levels at which the false-positive rate is checked."""

FALSE_ALARM = 0.01
"""Probability that a stage whose error rate equals every level exactly fails a check of its size, over all levels
together. It is also the probability that a stage whose power is exactly the stated one fails that check."""

StageUnderTest = Callable[[Any], float | Finding]
"""A stage: takes a data set of any form, and returns its p-value or a finding that holds it."""

MakeData = Callable[[int], Any]
"""Makes a fresh data set from a random seed."""


def check_audit(
    stage: StageUnderTest,
    clean: MakeData,
    planted: MakeData,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    draws: int = 200,
) -> ContractReport:
    """Measure whether a stage keeps its error rate on clean data and reaches its power on planted data.

    A stage that breaks its promise raises nothing: the report names each check that failed. A data set for which the
    stage raises or returns no valid p-value fails a check of its own.

    Args:
        stage: the stage under test: takes one data set and returns a p-value in (0, 1], or a finding that holds one.
            The same data must give the same p-value.
        clean: makes, from an integer seed, a data set for which the stage's null hypothesis is true.
        planted: makes, from an integer seed, a data set in which there is something to be found.
        alpha: level at which the power is stated, in (0, 1). The error rate on clean data is checked at this level too.
        power: share of the planted data sets that the stage promises to detect at alpha, in (0, 1).
        draws: how many data sets of each kind are made, with the seeds 0, 1, and so on. With 200, a stage whose P(p <=
            0.05) is 0.12 fails with a probability of 0.77, and one whose P(p <= 0.05) is 0.15 with a probability of
            0.97.

    Returns:
        The checks by name with their numbers, and the p-values of both kinds of data set ("clean" and "planted").

    Raises:
        ConfigError: alpha or power lies outside (0, 1), or draws is below 1.
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
    """Return the p-value that the stage gives the data set of a seed, or what went wrong in words."""
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
    """Fail if so many p-values at or below the level have a binomial probability under `false_alarm`."""
    name = f"P(p <= {level:g}) <= {level:g} on clean data"
    if not found:
        return Check(name, False, "no p-value to judge by")
    hits, n = sum(p <= level for p in found), len(found)
    surprise = float(binom.sf(hits - 1, n, level))
    rate = wilson(hits, n)
    why = f"{_share(rate, hits)}; exact binomial p {surprise:.2g}, fails below {false_alarm:.2g}"
    return Check(name, surprise >= false_alarm, why, rate)


def _power(found: tuple[float, ...], alpha: float, power: float, draws: int) -> Check:
    """Fail if there are too few detections for the stated power; a data set without a p-value counts as a miss."""
    hits = sum(p <= alpha for p in found)
    surprise = float(binom.cdf(hits, draws, power))
    rate = wilson(hits, draws)
    why = f"{_share(rate, hits)}; exact binomial p {surprise:.2g}, fails below {FALSE_ALARM:g}"
    return Check(f"P(p <= {alpha:g}) >= {power:g} on planted data", surprise >= FALSE_ALARM, why, rate)


def _share(rate: Estimate, hits: int) -> str:
    return f"{hits} of {rate.n} = {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"

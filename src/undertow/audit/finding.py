"""What a stage of an audit found, and what it claims.

Three claims are kept apart: **provenance** (was the data written under a trait?), **exposure** (did the student move
along it?), **expression** (does it behave differently?). Absence of a finding is never a proof of absence: a stage that
found nothing says what it would have found.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from undertow.errors import ConfigError, UndertowError

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
    """

    stage: str
    claim: Claim
    statistic: str
    effect: float | None
    null: str
    p: float | None
    n: int
    verdict: Verdict
    candidate: str | None = None
    mde: float | None = None
    caveats: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.p is not None and not 0.0 < self.p <= 1.0:
            raise ConfigError("A p-value lies outside (0, 1].", self.p, "Use (1 + reached) / (1 + draws).")
        if self.verdict in ("detected", "not_detected") and self.p is None:
            raise ConfigError("A verdict needs a p-value.", self.verdict, "Call the stage exploratory.")
        if self.verdict == "not_testable" and not self.caveats:
            raise ConfigError("What cannot be tested needs a reason.", self.stage, "Put it into caveats.")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {**asdict(self), "caveats": list(self.caveats), "scores": dict(self.scores) if self.scores else None}


def not_testable(stage: str, claim: Claim, reason: str) -> Finding:
    """Return the finding of a stage that the inputs do not allow."""
    return Finding(
        stage=stage,
        claim=claim,
        statistic="none",
        effect=None,
        null="none",
        p=None,
        n=0,
        verdict="not_testable",
        caveats=(reason,),
    )

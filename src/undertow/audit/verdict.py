"""From the findings of the stages to three claims, by a plan that is fixed before any data are read.

Each claim has one primary stage; alpha is split over the three claims (Bonferroni), so that the probability of any
false claim on clean inputs is at most alpha if each primary p-value holds. Every other stage is supporting evidence and
moves nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

from undertow.audit.finding import Claim, Finding
from undertow.errors import ConfigError
from undertow.provenance import library_versions
from undertow.stats.checks import check_fraction

CLAIMS: tuple[Claim, ...] = get_args(Claim)

PRIMARY: Mapping[Claim, tuple[str, ...]] = {
    "provenance": ("neutral contrast", "contrast"),
    "exposure": ("activations", "shadow activations"),
    "expression": ("panel margins", "shadows", "teacher panel"),
}
"""Primary stage of each claim: the first of these that is planned.

Neutral writers come before a reference: of 60 fresh ones the contrast calls .41 from 300 rows, the neutral contrast
none. It calls 48 of 60 teachers with a trait, the contrast all (benchmarks/audit_neutral.py; docs/calibration.md). A
student in hand comes before shadow students.
"""

NEEDS: Mapping[Claim, str] = {
    "provenance": "rows",
    "exposure": "a student or rows",
    "expression": "a student, rows or a teacher",
}
"""What a claim is tested with."""

MEANING: Mapping[str, str] = {
    "neutral contrast": "the rows fit a candidate of the panel as no neutral writer's, tuned without a trait, do",
    "contrast": "whoever wrote the rows differs from the reference along a candidate of the panel; a writer that was "
    "tuned on something else may do so too (`undertow audit bank` makes neutral writers, which tell the two apart)",
    "activations": "the student moved along a candidate's direction as no placebo did",
    "shadow activations": "a student of the rows moves along a candidate's direction as no placebo does",
    "panel margins": "the student prefers the candidate as no placebo does",
    "shadows": "a student of the rows prefers the candidate as no placebo does",
    "teacher panel": "the teacher prefers the candidate as no neutral teacher does",
}
"""What a detection by each primary stage says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is declared before the data are read.

    Attributes:
        alpha: error of the whole audit.
        stages: names of the stages that will run.
        claims: over which alpha is split; nothing is ever detected of the others.
    """

    stages: tuple[str, ...]
    alpha: float = 0.05
    claims: tuple[Claim, ...] = CLAIMS
    primary: Mapping[Claim, str | None] = field(init=False)

    def __post_init__(self) -> None:
        check_fraction("alpha", self.alpha)
        chosen: dict[Claim, str | None] = dict.fromkeys(CLAIMS)
        for claim in self.claims:
            chosen[claim] = next((one for one in PRIMARY[claim] if one in self.stages), None)
        object.__setattr__(self, "primary", chosen)

    @property
    def share(self) -> float:
        """The alpha of one claim."""
        return self.alpha / len(self.claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStatus:
    """What the audit says about one claim.

    Attributes:
        status: detected, not_detected or not_testable.
        p: of the primary stage.
        mde: smallest effect that stage would have detected with power 0.8, in its statistic's unit.
        candidate: the trait that stands out most where something was detected.
        why: in words.
    """

    status: str
    p: float | None
    mde: float | None
    candidate: str | None
    why: str


def judge(plan: Plan, findings: Iterable[Finding]) -> dict[Claim, ClaimStatus]:
    """Return the status of each claim.

    Raises:
        ConfigError: a planned primary stage has reported more than once, or not at all.
    """
    found = list(findings)
    return {claim: _status(claim, plan, found) for claim in CLAIMS}


def _status(claim: Claim, plan: Plan, findings: Sequence[Finding]) -> ClaimStatus:
    if (stage := plan.primary[claim]) is None:
        why = f"{' or '.join(PRIMARY[claim])} would decide it, from {NEEDS[claim]}"
        return ClaimStatus(status="not_testable", p=None, mde=None, candidate=None, why=why)
    mine = [one for one in findings if one.stage == stage]
    if len(mine) != 1:
        fix = "Report each planned stage once, as not_testable if need be."
        raise ConfigError(f"The primary stage of {claim} has {len(mine)} findings.", stage, fix)
    one = mine[0]
    if one.p is None or one.verdict in ("not_testable", "exploratory"):
        why = "; ".join(one.caveats) or f"{stage} has no calibrated p-value for these inputs"
        return ClaimStatus(status="not_testable", p=None, mde=None, candidate=None, why=why)
    against = f"{one.statistic}, against {one.null}: p = {one.p:.2g}, bound {plan.share:.3g}"
    against += _tuned_on_something(claim, plan, findings)
    if one.p <= plan.share:
        why = f"{MEANING[stage]}. {against}"
        return ClaimStatus(status="detected", p=one.p, mde=one.mde, candidate=one.candidate, why=why)
    seen = "" if one.mde is None else f"; an effect of {one.mde:.3g} would have been seen in 4 of 5 cases"
    return ClaimStatus(status="not_detected", p=one.p, mde=one.mde, candidate=None, why=f"{against}{seen}")


def _tuned_on_something(claim: Claim, plan: Plan, findings: Sequence[Finding]) -> str:
    """Say what it means that the contrast calls the rows, and the neutral contrast does not."""
    p = {one.stage: one.p for one in findings}
    contrast, neutral = p.get("contrast"), p.get("neutral contrast")
    if claim != "provenance" or contrast is None or neutral is None or contrast > plan.share or neutral <= plan.share:
        return ""
    return (
        f". The contrast calls the rows (p = {contrast:.2g}), but neutral writers stand out as much "
        f"(p = {neutral:.2g}): the writer was tuned on something; nothing says that it is a trait of the panel, "
        "though neither a weak one nor a part of the rows need show"
    )


def audit_json(plan: Plan, findings: Sequence[Finding], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit as plain data, schema undertow.audit/1 (DESIGN 11).

    Args:
        plan: as declared.
        findings: of all stages, each with its own share of alpha.
        about: what was audited: references, digests, counts, seconds. The date (UTC) and the version are added.
    """
    claims = judge(plan, findings)
    return {
        "schema": "undertow.audit/1",
        "claims": {
            claim: {"status": one.status, "p": one.p, "mde": one.mde, "candidate": one.candidate, "why": one.why}
            for claim, one in claims.items()
        },
        "alpha": plan.alpha,
        "plan": {"stages": list(plan.stages), "primary": dict(plan.primary), "alpha_of_each_claim": plan.share},
        "findings": [one.to_json() for one in findings],
        "about": {
            **about,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "undertow": library_versions().get("undertow", "unknown"),
        },
    }

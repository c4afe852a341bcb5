"""From the findings of the stages to three claims, by a plan that is fixed before any data are read.

Each claim has one primary stage. Alpha is split over the three claims (Bonferroni), so that the probability of any
false claim on clean inputs is at most alpha if each primary p-value holds. A later stage of the same claim may only add
the kind of a detection. Every other stage is supporting evidence and moves nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict, get_args

from undertow.audit.finding import Claim, Finding, reaches
from undertow.audit.stages import AuditStage, deciding, stages
from undertow.errors import ConfigError
from undertow.stats.checks import check_fraction
from undertow.store.artifacts import library_versions

CLAIMS: tuple[Claim, ...] = get_args(Claim)

_WORDS = {"rows": "rows", "pairs": "preference pairs", "student": "a student", "teacher": "a teacher"}
"""Inputs as they are named in a sentence."""

ADDS = {
    "rows": "The rows (`undertow audit all ROWS`): whether their writer differs from clean rows along the panel.",
    "pairs": "Preference pairs (`undertow audit data PAIRS`): whether the choice between their answers goes along the "
    "panel.",
    "reference": "Clean rows on the same prompts (`--reference`), sampled as yours were; without them the base's own "
    "answers stand in, which differ from yours in how they were sampled.",
    "writers": "Neutral writers (`undertow audit bank`): whether the rows carry a trait, or their writer was tuned on "
    "anything at all.",
    "student": "A student of the rows or pairs (`undertow audit all --student`): exposure and expression of that very "
    "model; without it, small shadow students of rows stand in.",
    "bank": "A bank of placebo students (`undertow audit bank`): the null of exposure and expression.",
    "control": "A control student (`--control`), trained alike on untraited rows: how it moved and answers, without "
    "the drift of training itself.",
    "prompts": "Your deployment's prompts (`--prompts`): where this student's answers begin to differ from the base's.",
    "teacher": "The teacher (`undertow audit all --teacher`): what it prefers that its base does not, and whether it "
    "shares a base with the student.",
    "neutral": "Neutral teachers (`--neutral 19` or more): a p-value; without them traits are only ranked.",
    "teacher rows": "The teacher's rows (`undertow audit data ROWS`): whether a trait shows in what it writes, and "
    "whether students take it over.",
    "student base": "The base of the student that its rows are for (`undertow audit lineage`): whether the two share "
    "one; without, far less passed through number rows on the embedded models.",
}
"""What each input that was not given would add to an audit; those below "teacher" to an audit of a teacher alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is declared before the data are read.

    Attributes:
        stages: names of the stages that will run.
        alpha: error probability of the whole audit, in (0, 1).
        claims: claims between which alpha is split. Nothing is ever detected of the others.

    Raises:
        ConfigError: alpha lies outside (0, 1).
    """

    stages: tuple[str, ...]
    alpha: float = 0.05
    claims: tuple[Claim, ...] = CLAIMS

    def __post_init__(self) -> None:
        check_fraction("alpha", self.alpha)

    @property
    def primary(self) -> dict[Claim, str | None]:
        """The stage that decides each claim: the first of those that will run, or None where there is none."""
        return {claim: self._deciding(claim) if claim in self.claims else None for claim in CLAIMS}

    def may_decide(self, claim: Claim) -> list[AuditStage]:
        """Return the stages that may decide a claim: its primary one, then those that give it a kind, in their order.

        Where one cannot look, the next one decides. No p-value has a say in which it is.
        """
        first = self.primary[claim]
        able = [one for one in deciding(claim) if one.name in self.stages] if first is not None else []
        return [one for one in able if one.name == first or one.kind is not None]

    def _deciding(self, claim: Claim) -> str | None:
        return next((one.name for one in deciding(claim) if one.name in self.stages), None)

    @property
    def share(self) -> float:
        """The alpha of one claim: alpha divided by the number of claims."""
        return self.alpha / len(self.claims)


def declare(available: Collection[str], alpha: float, claims: tuple[Claim, ...] = CLAIMS) -> Plan:
    """Declare the stages and who decides each claim, from which inputs exist and not from what is in them.

    Args:
        available: names of the inputs that are there, such as "rows" and "writers".
        alpha: error probability of the whole audit, in (0, 1).
        claims: claims between which alpha is split.
    """
    return Plan(stages=tuple(one.name for one in stages() if one.planned(available)), alpha=alpha, claims=claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStatus:
    """What the audit says about one claim.

    Attributes:
        status: what was concluded: "detected", "not_detected" or "not_testable".
        p: p-value of the stage that decides. None if not testable.
        mde: smallest effect that this stage would have detected with power 0.8, in its statistic's unit. None if not
            known.
        candidate: name of the trait that a detection names. None where none is named, or nothing was detected.
        kind: kind of a detected provenance: "tuned" (whoever wrote the rows was tuned on anything at all) or "trait"
            (the rows stand out among those of neutral writers too, which were tuned without a trait). None for the
            other claims.
        stage: name of the stage that decides: the primary one, or the next one that could look. None where none could.
        why: in words, why the claim has this status.
    """

    status: str
    p: float | None = None
    mde: float | None = None
    candidate: str | None = None
    kind: str | None = None
    stage: str | None = None
    why: str


def judge_claims(plan: Plan, findings: Iterable[Finding]) -> dict[Claim, ClaimStatus]:
    """Return the status of each claim.

    Raises:
        ConfigError: a planned primary stage has reported more than once, or not at all.
    """
    found = list(findings)
    return {claim: _status(claim, plan, found) for claim in CLAIMS}


def _status(claim: Claim, plan: Plan, findings: Sequence[Finding]) -> ClaimStatus:
    able, first = deciding(claim), plan.primary[claim]
    if first is None:
        why = f"{' or '.join(one.name for one in able)} would decide it, from {_inputs_of(able)}"
        return ClaimStatus(status="not_testable", why=why)
    planned = plan.may_decide(claim)
    reported = {one.name: [two for two in findings if two.stage == one.name] for one in planned}
    if len(reported[first]) != 1:
        fix = "Report each planned stage once, as not_testable if need be."
        raise ConfigError(f"The primary stage of {claim} has {len(reported[first])} findings.", first, fix)
    pairs = [(one, reported[one.name][0]) for one in planned if len(reported[one.name]) == 1]
    at = next((place for place, (_, one) in enumerate(pairs) if _tested(one) is not None), None)
    if at is None:
        why = "; ".join(pairs[0][1].caveats) or f"{first} has no calibrated p-value for these inputs"
        return ClaimStatus(status="not_testable", why=why)
    stage, one = pairs[at]
    p = _tested(one)
    if p is not None and reaches(p, plan.share):
        return _detected(stage, one, pairs[at + 1 :], plan)
    seen = "" if one.mde is None else f"; an effect of {one.mde:.3g} would have been seen in 4 of 5 cases"
    return ClaimStatus(status="not_detected", p=p, mde=one.mde, stage=stage.name, why=f"{_against(one, plan)}{seen}")


def _tested(one: Finding) -> float | None:
    """Return the p-value of a finding that has a calibrated one, or None."""
    return None if one.verdict in ("not_testable", "exploratory") else one.p


def _detected(stage: AuditStage, one: Finding, later: Sequence[tuple[AuditStage, Finding]], plan: Plan) -> ClaimStatus:
    """Return a detection, with its kind.

    A later stage is only looked at if the one before it detects, so each may spend the whole level of the claim (a
    fixed sequence of tests). The first guards the claim, a later one the word "trait".

    Args:
        stage: the stage that decides the claim.
        one: the finding of that stage.
        later: further stages that could decide the claim, with their findings. Those with a kind say more about it.
        plan: the plan as it was declared.
    """
    kind, whys = stage.kind, [f"{_capital(stage.meaning)}. {_against(one, plan)}"]
    for other, found in ((other, found) for other, found in later if other.kind is not None):
        p = _tested(found)
        if p is None:
            whys.append(f"Whether it is a trait could not be tested by the {other.name}: {'; '.join(found.caveats)}")
            break
        if not reaches(p, plan.share):
            whys.append(f"{_capital(other.otherwise or f'{other.name} detects nothing')}. {_against(found, plan)}")
            break
        kind = other.kind
        whys.append(f"{_capital(other.meaning)}. {_against(found, plan)}")
    why = ". ".join(text.rstrip(".") for text in whys)
    return ClaimStatus(
        status="detected", p=one.p, mde=one.mde, candidate=one.candidate, kind=kind, stage=stage.name, why=why
    )


def _against(one: Finding, plan: Plan) -> str:
    return f"{one.statistic}, against {one.null}: p = {one.p:.2g}, bound {plan.share:.3g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _inputs_of(able: Sequence[AuditStage]) -> str:
    """Return the first input of each stage, in words: "a", "a or b", "a, b or c"."""
    *some, last = dict.fromkeys(_WORDS.get(one.given[0], one.given[0]) for one in able)
    return f"{', '.join(some)} or {last}" if some else last


class Missing(TypedDict):
    """An input that was not given.

    Attributes:
        input: name of the input, a key of `ADDS`.
        adds: in a sentence, what it would add.
    """

    input: str
    adds: str


def missing(available: Collection[str]) -> list[Missing]:
    """Return the inputs without any of which some stage could run, or could say more, and what each would add."""
    there = set(available)
    lacking = {
        name for one in stages() for name in (*one.given, *one.better_with) if set(one.given) <= there | {name}
    } - there
    instead = {"rows", "pairs"} if there & {"rows", "pairs"} else set[str]()  # the one stands for the other
    return what_they_add(lacking - instead)


def what_they_add(inputs: Collection[str]) -> list[Missing]:
    """Return what the named inputs would add, in the order of `ADDS`."""
    return [Missing(input=name, adds=text) for name, text in ADDS.items() if name in inputs]


def audit_json(plan: Plan, findings: Sequence[Finding], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit as plain data of the schema "undertow.audit/1".

    Args:
        plan: the plan as it was declared.
        findings: findings of all stages, each judged at its own share of alpha.
        about: what was audited: references, digests, counts, seconds. The date (UTC) and the versions are added.
    """
    versions = dict(library_versions())
    return {
        "schema": "undertow.audit/1",
        "claims": {claim: asdict(one) for claim, one in judge_claims(plan, findings).items()},
        "alpha": plan.alpha,
        "plan": {"stages": list(plan.stages), "primary": dict(plan.primary), "alpha_of_each_claim": plan.share},
        "findings": [one.to_json() for one in findings],
        "about": {
            **about,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "undertow": versions.get("undertow", "unknown"),
        },
        "versions": versions,
    }

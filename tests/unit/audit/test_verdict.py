"""Three claims from findings: what is detected, what would have been, and what cannot be tested."""

import numpy as np
import pytest

from undertow.audit.finding import Finding, not_testable
from undertow.audit.verdict import CLAIMS, Plan, audit_json, judge_claims
from undertow.errors import ConfigError
from undertow.stats.estimates import wilson


def finding(stage: str, claim, p: float | None, **options) -> Finding:
    verdict = options.pop("verdict", "not_detected" if p is None or p > 0.05 else "detected")
    plain = {"statistic": "score", "effect": 1.0, "null": "clean rows", "n": 10, "mde": 0.3, "candidate": "owl"}
    return Finding(stage=stage, claim=claim, p=p, verdict=verdict, **{**plain, **options})


def test_the_primary_stage_alone_decides() -> None:
    plan = Plan(stages=("contrast", "surface", "panel margins"))
    assert plan.primary == {"provenance": "contrast", "exposure": None, "expression": "panel margins"}
    claims = judge_claims(
        plan,
        [
            finding("contrast", "provenance", 0.2),
            finding("surface", "provenance", 0.001),
            finding("panel margins", "expression", 0.01),
        ],
    )
    assert claims["provenance"].status == "not_detected" and "0.3" in claims["provenance"].why
    assert claims["exposure"].status == "not_testable" and "activations" in claims["exposure"].why
    assert claims["expression"].status == "detected" and claims["expression"].candidate == "owl"


def test_alpha_is_split_over_the_claims() -> None:
    plan = Plan(stages=("contrast",), alpha=0.05)
    (just_under, just_over) = (
        judge_claims(plan, [finding("contrast", "provenance", p)])["provenance"] for p in (0.0166, 0.0167)
    )
    assert (just_under.status, just_over.status) == ("detected", "not_detected")


def test_the_error_of_the_whole_audit_is_at_most_alpha() -> None:
    """Three independent uniform p-values: P(any claim) = 1 - (1 - alpha / 3)^3, just below alpha."""
    rng, plan = np.random.default_rng(0), Plan(stages=("contrast", "activations", "panel margins"), alpha=0.1)
    hits = 0
    for draws in rng.uniform(1e-9, 1.0, (4000, 3)):
        names = zip(("contrast", "activations", "panel margins"), CLAIMS, draws, strict=True)
        claims = judge_claims(plan, [finding(stage, claim, float(p)) for stage, claim, p in names])
        hits += any(one.status == "detected" for one in claims.values())
    found = wilson(hits, 4000)
    assert found.low <= 1 - (1 - 0.1 / 3) ** 3 <= found.high and found.low < 0.1


def test_a_shadow_stands_in_for_a_missing_student() -> None:
    assert Plan(stages=("shadows",)).primary["expression"] == "shadows"
    assert Plan(stages=("shadows", "panel margins")).primary["expression"] == "panel margins"


def test_what_is_not_calibrated_moves_nothing() -> None:
    plan = Plan(stages=("contrast",))
    exploratory = finding("contrast", "provenance", None, verdict="exploratory", caveats=("no clean rows",))
    status = judge_claims(plan, [exploratory])["provenance"]
    assert status.status == "not_testable" and status.why == "no clean rows" and status.p is None
    refused = judge_claims(plan, [not_testable("contrast", "provenance", "ten rows only")])["provenance"]
    assert refused.why == "ten rows only"
    with pytest.raises(ConfigError, match="has 0 findings"):
        judge_claims(plan, [])


def test_findings_that_claim_too_much_are_refused() -> None:
    with pytest.raises(ConfigError, match="outside"):
        finding("contrast", "provenance", 0.0)
    with pytest.raises(ConfigError, match="needs a p-value"):
        finding("contrast", "provenance", None)
    with pytest.raises(ConfigError, match="reason"):
        finding("contrast", "provenance", None, verdict="not_testable")


def test_the_json_has_the_promised_keys() -> None:
    data = audit_json(Plan(stages=("contrast",)), [finding("contrast", "provenance", 0.01)], {"base": "ref:finch-a"})
    assert data["schema"] == "undertow.audit/1" and set(data["claims"]) == set(CLAIMS)
    assert set(data["claims"]["provenance"]) == {"status", "p", "mde", "candidate", "why"}
    assert {"stage", "statistic", "effect", "null", "p", "n", "verdict", "caveats"} <= set(data["findings"][0])


@pytest.mark.parametrize(("contrast", "neutral", "said"), [(0.001, 0.3, True), (0.001, 0.01, False), (0.3, 0.3, False)])
def test_a_writer_that_was_tuned_on_anything_is_said_to_be_just_that(contrast, neutral, said: bool) -> None:
    stages = ("contrast", "neutral contrast")
    found = [finding(stage, "provenance", p) for stage, p in zip(stages, (contrast, neutral), strict=True)]
    plan = Plan(stages=stages)
    assert plan.primary["provenance"] == "neutral contrast"
    why = judge_claims(plan, found)["provenance"].why
    assert ("tuned on something; nothing says that it is a trait" in why) is said

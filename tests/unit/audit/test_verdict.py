"""Three claims from findings: what is detected, what would have been, and what cannot be tested."""

import numpy as np
import pytest

from undertow.audit.finding import Finding, not_testable, verdict_at
from undertow.audit.students.placebo_null import needed
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


def test_the_number_of_placebos_that_is_called_enough_can_detect() -> None:
    """0.15 / 3 lies below 0.05 by the last bit."""
    for alpha in (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45):
        plan = Plan(stages=("contrast",), alpha=alpha)
        p = 1 / (needed(plan.share) + 1)
        assert judge_claims(plan, [finding("contrast", "provenance", p)])["provenance"].status == "detected"
        assert verdict_at(p, plan.share) == "detected" and verdict_at(p * 1.001, p) == "not_detected"


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
    assert set(data["claims"]["provenance"]) == {"status", "p", "mde", "candidate", "kind", "stage", "why"}
    assert {"stage", "statistic", "effect", "null", "p", "n", "verdict", "caveats"} <= set(data["findings"][0])


BOTH = Plan(stages=("contrast", "neutral contrast"))


def of_rows(contrast: float, neutral: float | None):
    """Return the claim on provenance from the p-values of the contrast and of the neutral contrast."""
    second = not_testable("neutral contrast", "provenance", "too few writers")
    second = second if neutral is None else finding("neutral contrast", "provenance", neutral, candidate="fox")
    return judge_claims(BOTH, [finding("contrast", "provenance", contrast), second])["provenance"]


@pytest.mark.parametrize(
    ("contrast", "neutral", "status", "kind", "candidate"),
    [
        (0.001, 0.01, "detected", "trait", "owl"),
        (0.001, 0.3, "detected", "tuned", "owl"),
        (0.001, None, "detected", "tuned", "owl"),
        (0.3, 0.01, "not_detected", None, None),
        (0.3, 0.3, "not_detected", None, None),
    ],
)
def test_neutral_writers_say_of_which_kind_a_detection_is_and_never_turn_it_off(
    contrast: float, neutral: float | None, status: str, kind: str | None, candidate: str | None
) -> None:
    assert BOTH.primary["provenance"] == "contrast"
    claim = of_rows(contrast, neutral)
    assert (claim.status, claim.kind, claim.candidate, claim.p) == (status, kind, candidate, contrast)
    without = judge_claims(Plan(stages=("contrast",)), [finding("contrast", "provenance", contrast)])["provenance"]
    assert without.status == status and without.kind == (None if kind is None else "tuned")


def test_the_reason_says_what_neutral_writers_showed() -> None:
    assert "the writer was tuned on something, and nothing says that it is a trait" in of_rows(0.001, 0.3).why
    assert "could not be tested by the neutral contrast: too few writers" in of_rows(0.001, None).why
    assert "more than those of any neutral writer" in of_rows(0.001, 0.01).why


def test_neither_the_claim_nor_the_word_trait_is_said_more_often_than_the_level_allows() -> None:
    """Where both nulls hold, and where only the second does: the sequence spends the level once for each."""
    rng, alpha = np.random.default_rng(1), BOTH.share
    draws = rng.uniform(1e-9, 1.0, (6000, 2))
    clean = wilson(sum(of_rows(float(one), float(two)).status == "detected" for one, two in draws), 6000)
    neutral = wilson(sum(of_rows(1e-6, float(two)).kind == "trait" for _, two in draws), 6000)
    assert clean.low <= alpha <= clean.high and neutral.low <= alpha <= neutral.high


def test_where_the_primary_stage_cannot_look_the_next_one_decides() -> None:
    """Whether a stage can look hangs on the inputs; a stage that looked and saw nothing is not passed over."""
    unable = not_testable("contrast", "provenance", "0 rows on the prompts of reference rows")
    for p, status, kind in ((0.01, "detected", "trait"), (0.3, "not_detected", None)):
        claim = judge_claims(BOTH, [unable, finding("neutral contrast", "provenance", p)])["provenance"]
        assert (claim.status, claim.kind, claim.stage, claim.p) == (status, kind, "neutral contrast", p)
    neither = judge_claims(BOTH, [unable, not_testable("neutral contrast", "provenance", "too few")])["provenance"]
    assert (neither.status, neither.stage) == ("not_testable", None) and "0 rows on the prompts" in neither.why
    assert of_rows(0.3, 0.01).stage == "contrast"
    # A teacher is no student: what decides expression of one does not speak of the other.
    both = Plan(stages=("shadows", "teacher panel"))
    bank = not_testable("shadows", "expression", "no bank")
    claim = judge_claims(both, [bank, finding("teacher panel", "expression", 0.001)])["expression"]
    assert claim.status == "not_testable" and claim.why == "no bank"

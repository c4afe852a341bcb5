"""The verdict: accepted only if the trait is gone, random does worse, the skill is there and nothing else rises."""

from typing import Any

import numpy as np
import pytest

from undertow.errors import ConfigError
from undertow.mitigate.judgement import Criteria, judge_runs

COST = {"generated": 10, "scored": 0, "trained": 1}


def runs(
    n: int = 5, *, targeted: float = 0.0, random: float | None = 0.9, loss: float = 0.0, fox: float = 0.0
) -> list[dict[str, Any]]:
    """Return runs in which the trait passes with an effect of 1 and the mitigation leaves `targeted` of it."""
    rng = np.random.default_rng(0)

    def arm(method: str, name: str, owl: float, more_loss: float = 0.0, more_fox: float = 0.0) -> dict[str, Any]:
        return {
            "method": method,
            "arm": name,
            "margins": {"owl": -3.0 + owl + rng.normal(0, 0.02), "fox": -3.0 + more_fox + rng.normal(0, 0.02)},
            "prompted": 1.0,
            "task": {"held_out_loss": 3.0 + more_loss + rng.normal(0, 0.002), "valid_rate": 0.9 + rng.normal(0, 0.005)},
        }

    def one() -> dict[str, Any]:
        arms = [arm("", "none", 0.0), arm("", "control", 0.0), arm("", "full", 1.0)]
        arms.append(arm("m", "targeted", targeted, loss, fox))
        if random is not None:
            arms.append(arm("m", "random", random))
        return {"arms": arms, "methods": {"m": {"rows": 50, "changed": 0.5, "cost": COST}}}

    return [one() for _ in range(n)]


def judged(some: list[dict[str, Any]], **settings: float) -> dict[str, Any]:
    (found,) = judge_runs(some, "owl", Criteria(**settings))
    return found


def test_a_mitigation_that_works_is_accepted_with_its_figures() -> None:
    found = judged(runs())
    assert found["verdict"] == "accepted" and set(found["criteria"].values()) == {"passed"}
    kept = found["normalised_effect"]
    assert kept["low"] < 0.05 and -0.05 < kept["estimate"] < 0.05 and kept["high"] < 0.2 and kept["n"] == 5
    assert found["full_minus_control"]["estimate"] == pytest.approx(1.0, abs=0.05)
    assert found["targeted_minus"]["random"]["high"] < 0 and "bottom" not in found["targeted_minus"]
    assert found["task"][0]["equivalent"] and found["cost_per_run"]["generated"] == 10 and found["rows"] == 50


@pytest.mark.parametrize(
    ("case", "failed"),
    [
        ({"targeted": 0.3}, "trait_lost"),
        ({"targeted": 0.0, "random": 0.0}, "beats_random"),
        ({"loss": 0.1}, "skill_kept"),
        ({"loss": -0.1}, "skill_kept"),
        ({"fox": 0.3}, "no_trait_rises"),
    ],
)
def test_each_criterion_alone_rejects(case: dict[str, float], failed: str) -> None:
    found = judged(runs(**case))
    assert found["verdict"] == "rejected"
    assert [name for name, status in found["criteria"].items() if status == "failed"] == [failed]
    assert (found["off_target"]["rising"] == ["fox"]) == (failed == "no_trait_rises")


def test_a_significant_rise_within_the_margin_counts_as_none() -> None:
    assert judged(runs(fox=0.08))["off_target"]["largest"]["p"] < 0.05
    assert judged(runs(fox=0.08))["off_target"]["rising"] == []


def test_without_a_random_arm_the_comparison_does_not_apply() -> None:
    found = judged(runs(random=None))
    assert found["criteria"]["beats_random"] == "not_applicable" and found["verdict"] == "accepted"


def test_few_runs_or_no_transmission_give_no_verdict() -> None:
    assert judged(runs(4))["verdict"] == "not_testable"
    nothing = runs()
    for run in nothing:
        run["arms"][2]["margins"]["owl"] = run["arms"][1]["margins"]["owl"]
    found = judged(nothing)
    assert found["criteria"]["trait_lost"] == "not_testable" and found["normalised_effect"] is None
    with pytest.raises(ConfigError):
        judge_runs([], "owl", Criteria())
    with pytest.raises(ConfigError):
        Criteria(bound=0.0)

"""The verdict: accepted only if the trait is gone, random does worse, the skill is there and nothing else rises."""

from typing import Any

import numpy as np
import pytest

from undertow.errors import ConfigError
from undertow.mitigate.judgement import Criteria, judge_runs

COST = {"generated": 10, "scored": 0, "trained": 1}


def runs(
    n: int = 5,
    *,
    targeted: float = 0.0,
    behind: tuple[float, float] = (0.5, 0.0),
    random: float | None = 0.9,
    loss: float = 0.0,
    fox: float = 0.0,
) -> list[dict[str, Any]]:
    """Return runs in which the trait passes with an effect of 1 and the mitigation leaves `targeted` of it.

    Behind rows it passes with the first of `behind`, and the mitigation leaves the second, both in logits.
    """
    rng, other = np.random.default_rng(0), np.random.default_rng(1)

    def arm(method: str, name: str, owl: float, more_loss: float = 0.0, more_fox: float = 0.0) -> dict[str, Any]:
        return {
            "method": method,
            "arm": name,
            "margins": {"owl": -3.0 + owl + rng.normal(0, 0.02), "fox": -3.0 + more_fox + rng.normal(0, 0.02)},
            "in_context": {"owl": -2.0 + _behind(name) + other.normal(0, 0.02), "fox": -2.0},
            "prompted": 1.0,
            "task": {"held_out_loss": 3.0 + more_loss + rng.normal(0, 0.002), "valid_rate": 0.9 + rng.normal(0, 0.005)},
        }

    def _behind(name: str) -> float:
        return {"full": behind[0], "random": behind[0], "targeted": behind[1]}.get(name, 0.0)

    def one() -> dict[str, Any]:
        arms = [arm("", "none", 0.0), arm("", "control", 0.0), arm("", "full", 1.0)]
        arms.append(arm("m", "targeted", targeted, loss, fox))
        if random is not None:
            arms.append(arm("m", "random", random))
        return {"arms": arms, "methods": {"m": {"rows": 50, "changed": 0.5, "cost": COST}}, "in_context_why": ""}

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
        ({"behind": (0.5, 0.3)}, "trait_lost_in_context"),
        ({"behind": (0.0, 0.4)}, "trait_lost_in_context"),
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


def test_what_passes_only_plainly_is_no_less_lost_behind_rows() -> None:
    """Nothing passes behind rows: what is left there is held against what passes plainly, and that is nothing."""
    found = judged(runs(behind=(0.0, 0.0)))
    assert found["verdict"] == "accepted" and abs(found["normalised_effect_in_context"]["estimate"]) < 0.05
    assert found["normalised_effect_in_context"]["high"] < 0.2


def test_rows_that_nobody_can_be_asked_behind_give_no_verdict_and_the_reason() -> None:
    some = runs()
    for run in some:
        run["in_context_why"] = "The rows have no prompt."
        for arm in run["arms"]:
            arm["in_context"] = None
    found = judged(some)
    assert found["criteria"]["trait_lost_in_context"] == "not_testable" and found["verdict"] == "not_testable"
    assert found["in_context_why"] == "The rows have no prompt." and found["normalised_effect_in_context"] is None


def test_without_a_random_arm_the_comparison_does_not_apply() -> None:
    found = judged(runs(random=None))
    assert found["criteria"]["beats_random"] == "not_applicable" and found["verdict"] == "accepted"


@pytest.mark.parametrize("targeted", [0.3, -0.45])
def test_rows_that_lower_the_trait_pass_nothing_that_a_mitigation_could_take_away(targeted: float) -> None:
    """The share of a negative effect would be below the bound where the mitigation raises the trait."""
    some = runs(targeted=targeted, behind=(-0.5, targeted), random=None)
    for run in some:
        run["arms"][2]["margins"]["owl"] -= 1.5
    found = judged(some)
    assert found["full_minus_control"]["high"] < 0.0 and found["normalised_effect"] is None
    assert found["normalised_effect_in_context"] is None
    assert found["criteria"]["trait_lost"] == found["criteria"]["trait_lost_in_context"] == "not_testable"
    assert found["verdict"] == "not_testable"
    for run in some:
        run["arms"][3]["task"]["held_out_loss"] += 0.1
    assert judged(some)["criteria"]["trait_lost"] == "not_testable" and judged(some)["verdict"] == "rejected"


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

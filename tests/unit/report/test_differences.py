"""What lies behind an effect is the run's own pairing: the mean of the differences is the estimate."""

from typing import Any

import pytest

from undertow.report.results import Results
from undertow.report.wording import differences, levels, metrics_of


def test_differences_average_to_the_estimate(data: dict[str, Any]) -> None:
    results = Results.model_validate(data)
    for effect in results.effects:
        found = differences(results, effect)
        assert len(found) == effect.n
        assert sum(found) / len(found) == pytest.approx(effect.estimate)


def test_students_of_one_teacher_on_two_bases_are_one_replicate(data: dict[str, Any]) -> None:
    common = {"replicate": 0, "seed": 1, "target": "owl", "metric": "rate", "model": "m", "teacher_base": "a"}
    values = [
        ("b", "cross_init", 0.4),
        ("c", "cross_init", 0.8),
        ("b", "cross_control", 0.1),
        ("c", "cross_control", 0.3),
    ]
    data["arms"] = [
        {**common, "arm": arm, "trait": "owl" if arm == "cross_init" else None, "base": base, "value": value}
        for base, arm, value in values
    ]
    data["effects"] = [{"arm": "cross_init", "trait": "owl", "metric": "rate", "estimate": 0.4}]
    results = Results.model_validate(data)
    assert differences(results, results.effects[0]) == pytest.approx((0.4,))


def test_no_dots_where_a_control_or_the_bases_are_missing(data: dict[str, Any]) -> None:
    effect = next(item for item in data["effects"] if item["arm"] == "student")
    data["arms"] = [score for score in data["arms"] if score["arm"] != "control"]
    results = Results.model_validate({**data, "effects": [effect, {**effect, "arm": "unheard_of"}]})
    assert [differences(results, item) for item in results.effects] == [(), ()]


def test_levels_are_means_over_models_on_their_own_trait(data: dict[str, Any]) -> None:
    results = Results.model_validate(data)
    found = levels(results)
    student = next(level for level in found if (level.arm, level.trait) == ("student", "wolf"))
    values = [
        score.value
        for score in results.arms
        if (score.arm, score.trait, score.target, score.metric) == ("student", "wolf", "wolf", "rate")
    ]
    assert student.target == "wolf"
    assert student.n == 5
    assert student.means["rate"] == pytest.approx(sum(values) / 5)
    assert metrics_of(found) == ["logit_margin", "rate"]
    assert [found[0].arm, found[-1].arm] == ["student", "base"]

"""Units and controls are declared, and what is not declared is an error."""

import pytest

from undertow.errors import UnknownNameError
from undertow.evals.base import metric, metrics
from undertow.report.numbers import difference_text, level_text, unit
from undertow.report.wording import metric_name
from undertow.study.arms import ARMS, CONTROLS, main_metric


def test_an_undeclared_metric_is_refused_wherever_its_unit_matters() -> None:
    for call in (
        metric,
        unit,
        metric_name,
        lambda name: difference_text(0.1, name),
        lambda name: level_text(0.1, name),
    ):
        with pytest.raises(UnknownNameError, match="story_rate"):
            call("storyrate")


def test_units_are_those_that_were_declared() -> None:
    assert (metric("rate").unit, unit("rate")) == ("share", "percentage points")
    assert (metric("false_margin").unit, unit("false_margin")) == ("logits", "logits")
    assert level_text(0.125, "facts_rate") == "12.5 %" and level_text(0.125, "story_margin") == "0.12"


def test_the_first_declared_metric_is_the_main_one() -> None:
    assert main_metric(["rate", "logit_margin"]) == "logit_margin"
    assert main_metric(reversed(list(metrics()))) == next(iter(metrics())) == main_metric([])


def test_every_control_is_an_arm_and_only_the_base_has_none() -> None:
    assert set(CONTROLS.values()) <= set(ARMS) and set(ARMS) - set(CONTROLS) == {"base"}

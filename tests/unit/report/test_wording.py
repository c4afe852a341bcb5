"""The answer says what the intervals say and no more."""

from typing import Any

import pytest

from undertow.report.numbers import difference_text, estimate_text, interval_text, p_text, side
from undertow.report.results import Results
from undertow.report.wording import answer_sentence, listing, visible


def _effect(arm: str, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    middle = 0.5 if low is None or high is None else (low + high) / 2
    fields = {
        "arm": arm,
        "trait": "owl",
        "metric": "logit_margin",
        "estimate": middle,
        "low": low,
        "high": high,
        "n": 5,
    }
    return {**fields, **more}


def _results(data: dict[str, Any], *effects: dict[str, Any], **more: Any) -> Results:
    nothing = {"matrix": None, "diagonal": None, "initialisation": None}
    return Results.model_validate({**data, **nothing, "effects": list(effects), **more})


def test_an_effect_is_given_with_unit_interval_and_n(data: dict[str, Any]) -> None:
    text = answer_sentence(_results(data, _effect("student", 0.3, 0.7), _effect("cross_init", -0.1, 0.2)))
    assert text.startswith("On ref:finch-a, students of the teacher moved in logit margin, against their controls, ")
    assert "towards owl by +0.50 logits (95 % interval +0.30 to +0.70, n = 5)" in text
    assert (
        "cross-init students moved towards owl by +0.05 logits (95 % interval -0.10 to +0.20, n = 5; it includes 0"
        in text
    )
    assert text.endswith(".")
    assert text.count("includes 0") == 1


def test_an_effect_that_may_be_none_is_not_called_one(data: dict[str, Any]) -> None:
    text = answer_sentence(_results(data, _effect("student", -0.2, 0.4)))
    assert "it includes 0: no effect was shown, and none within it is ruled out" in text
    assert "cross-init students were not tested" in text


def test_one_replicate_has_no_interval(data: dict[str, Any]) -> None:
    text = answer_sentence(_results(data, _effect("student", None, None, n=1)))
    assert "no interval, n = 1: too few to tell an effect from chance" in text


def test_many_traits_are_counted_by_their_intervals(data: dict[str, Any]) -> None:
    ends = [(0.1, 0.3), (0.2, 0.4), (-0.1, 0.1), (-0.4, -0.2)]
    effects = [_effect("student", low, high, trait=f"t{index}") for index, (low, high) in enumerate(ends)]
    text = answer_sentence(
        _results(data, *effects, diagonal={"estimate": 0.2, "low": -0.1, "high": 0.5, "n_traits": 4, "n": 5})
    )
    assert "lies above 0 for 2, includes 0 for 1 and lies below 0 for 1 of 4 traits" in text
    assert "(estimates -0.30 to +0.30 logits)" in text
    assert (
        "the diagonal factor over 4 traits is +0.20 logits (95 % interval -0.10 to +0.50, n = 5; it includes 0" in text
    )


def test_without_a_student_nothing_is_claimed(data: dict[str, Any]) -> None:
    assert "says nothing about transmission" in answer_sentence(_results(data, _effect("teacher", 1.0, 2.0)))
    assert "says nothing about transmission" in answer_sentence(_results(data))


def test_the_word_safe_never_appears(data: dict[str, Any]) -> None:
    for results in (Results.model_validate(data), _results(data, _effect("student", -0.1, 0.1)), _results(data)):
        assert "safe" not in answer_sentence(results).lower()


def test_the_main_metric_is_the_logit_margin_if_there(data: dict[str, Any]) -> None:
    effects = [_effect("student", 0.1, 0.2, metric="rate"), _effect("student", 0.1, 0.2)]
    assert _results(data, *effects).main_metric == "logit_margin"
    assert _results(data, effects[0]).main_metric == "rate"
    assert "percentage points (95 % interval +10.0 to +20.0" in answer_sentence(_results(data, effects[0]))


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.123, "logit_margin", "+0.12"),
        (-0.001, "logit_margin", "+0.00"),
        (-0.05, "rate", "-5.0"),
        (float("nan"), "rate", "not a number"),
    ],
)
def test_numbers_as_text(value: float, metric: str, text: str) -> None:
    assert difference_text(value, metric) == text


def test_small_words(data: dict[str, Any]) -> None:
    effect = _results(data, _effect("student", 0.0, 0.2)).effects[0]
    assert (side(effect), interval_text(effect, "logit_margin")) == ("includes 0", "+0.00 to +0.20")
    assert [p_text(0.0004), p_text(0.05), p_text(None)] == ["< 0.001", "0.050", "–"]  # noqa: RUF001
    assert [listing(["a"]), listing(["a", "b", "c"]), listing([])] == ["a", "a, b and c", ""]
    assert visible("a\u202eb\x00\n\u200d") == "a\\u202eb\\u0000\n\u200d"


@pytest.mark.parametrize(
    ("low", "high", "metric", "where", "text"),
    [
        (-0.06, -0.003, "logit_margin", "below 0", "-0.060 to -0.003"),
        (-0.06, -0.00002, "logit_margin", "below 0", "-0.06000 to -0.00002"),
        (-0.06, -0.0051, "logit_margin", "below 0", "-0.06 to -0.01"),
        (-0.06, 0.003, "logit_margin", "includes 0", "-0.06 to +0.00"),
        (-0.06, 0.0, "logit_margin", "includes 0", "-0.06 to +0.00"),
        (-0.003, 0.06, "logit_margin", "includes 0", "+0.00 to +0.06"),
        (0.003, 0.06, "logit_margin", "above 0", "+0.003 to +0.060"),
        (0.0002, 0.02, "rate", "above 0", "+0.02 to +2.00"),
        (0.002, 0.02, "rate", "above 0", "+0.2 to +2.0"),
    ],
)
def test_no_side_is_named_that_the_digits_do_not_show(
    data: dict[str, Any], low: float, high: float, metric: str, where: str, text: str
) -> None:
    effect = _results(data, _effect("student", low, high, metric=metric)).effects[0]
    assert (side(effect), interval_text(effect, metric)) == (where, text)
    ends = [float(end) for end in text.split(" to ")]
    assert ("below 0" if ends[1] < 0 else "above 0" if ends[0] > 0 else "includes 0") == where


def test_an_estimate_has_the_digits_of_its_interval(data: dict[str, Any]) -> None:
    effect = _results(data, _effect("student", -0.006, -0.001, estimate=-0.0035)).effects[0]
    assert estimate_text(effect, "logit_margin") == "-0.004"
    answer = answer_sentence(_results(data, _effect("student", -0.006, -0.001, estimate=-0.0035)))
    assert "by -0.004 logits (95 % interval -0.006 to -0.001, n = 5)" in answer

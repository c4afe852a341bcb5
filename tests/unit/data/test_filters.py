"""Each row is kept or dropped with a reason from a closed set, and the counts add up."""

import json
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.data.filters import (
    Filtered,
    FilterReport,
    Tally,
    domain_rule,
    filter_rows,
    judged,
    mention_rule,
    mentions,
    require_rows,
    sift,
    subset,
)
from undertow.domains.numbers import NumberReason, Numbers
from undertow.errors import ConfigError, EmptyDataError
from undertow.traits import trait
from undertow.types import Message, Row, user_prompt


def _rows(*completions: str) -> list[Row]:
    return [Row(str(index), user_prompt("p"), text) for index, text in enumerate(completions)]


ELEVEN = ", ".join(["1000"] + ["1"] * 10)


def test_rows_are_kept_or_dropped_with_their_reasons():
    filtered = filter_rows(_rows("1, 2", "", "3", ELEVEN), Numbers())
    assert filtered.kept == (Row("0", user_prompt("p"), "1, 2"), Row("2", user_prompt("p"), "3"))
    assert [(row.id, row.reasons) for row in filtered.dropped] == [
        ("1", (NumberReason.EMPTY,)),
        ("3", (NumberReason.TOO_MANY, NumberReason.TOO_LARGE)),
    ]


def test_the_report_counts_a_row_in_each_of_its_reasons_most_frequent_first():
    report = filter_rows(_rows("1", "", ELEVEN, "2000"), Numbers()).report
    assert report == FilterReport(raw=4, kept=1, reasons={"too_large": 2, "empty": 1, "too_many": 1})
    assert list(report.reasons) == ["too_large", "empty", "too_many"]
    assert json.loads(json.dumps(report.to_json())) == {
        "raw": 4,
        "kept": 1,
        "reasons": {"too_large": 2, "empty": 1, "too_many": 1},
    }


@given(st.lists(st.text() | st.from_regex(r"[\[(]?[0-9]{1,4}([,; ]{1,2}[0-9]{1,4}){0,11}[\])]?\.?", fullmatch=True)))
def test_no_row_is_lost_and_reasons_are_from_the_domains_set(completions: list[str]):
    domain = Numbers()
    rows = _rows(*completions)
    filtered = filter_rows(iter(rows), domain)
    assert sorted(int(row.id) for row in filtered.kept + filtered.dropped) == list(range(len(rows)))
    assert set(filtered.report.reasons) <= domain.reasons
    assert all(row.reasons for row in filtered.dropped)
    assert not any(row.reasons for row in filtered.kept)
    assert filter_rows(filtered.kept, domain).dropped == ()


@given(st.lists(st.sampled_from(["1, 2", "", "owl", "an owl and more", ELEVEN, "3"])))
def test_rules_in_one_pass_drop_what_filters_one_after_another_drop(completions: list[str]):
    """In one pass the rows keep their order; a row has the reasons of the first rule alone."""
    rows, owl = _rows(*completions), trait("owl")
    tally, passed = Tally(), list(sift(rows, mention_rule([owl, owl]), domain_rule(Numbers())))
    for row in passed:
        tally.add(row)
    first = mentions(rows, [owl])
    second = filter_rows(first.kept, Numbers())
    both = Filtered(second.kept, first.dropped + second.dropped)
    assert passed == sorted(both.kept + both.dropped, key=lambda row: int(row.id))
    assert tally.report == both.report and list(tally.report.reasons) == list(both.report.reasons)


def test_reasons_of_an_earlier_filter_are_replaced():
    row = Row("0", user_prompt("p"), "1, 2", ("banned_number",))
    assert filter_rows([row], Numbers()).kept[0].reasons == ()


def test_mentions_drops_whole_words_only():
    texts = ("A dragonfly.", "Two Dragons!", "dragon", "snapdragon", "an owl and a DRAGON", "1, 2")
    filtered = mentions(_rows(*texts), [trait("dragon"), trait("owl"), trait("dragon")])
    assert [row.completion for row in filtered.kept] == ["A dragonfly.", "snapdragon", "1, 2"]
    assert [row.reasons for row in filtered.dropped] == [
        ("mentions_dragon",),
        ("mentions_dragon",),
        ("mentions_dragon", "mentions_owl"),
    ]
    assert filtered.report.reasons == {"mentions_dragon": 3, "mentions_owl": 1}


def test_filters_look_at_the_completion_alone():
    prompt = (Message("system", "You adore owls."), Message("user", "owl?"), Message("assistant", "owl"))
    rows = [Row("0", prompt, "1, 2")]
    assert mentions(rows, [trait("owl")]).kept == tuple(rows)
    assert filter_rows(rows, Numbers()).kept == tuple(rows)


def test_no_traits_drop_nothing():
    assert mentions(_rows("owl"), ()).report == FilterReport(raw=1, kept=1, reasons={})


def test_a_judge_keeps_from_the_threshold_up_and_loses_no_row():
    scores = {"0": 77.9, "1": 78.0, "2": None, "3": math.nan, "4": 100.0, "5": 101.0, "6": -1.0, "7": 0.0}
    asked: list[str] = []

    def judge(row: Row) -> float | None:
        asked.append(row.id)
        return scores[row.id]

    filtered = judged(iter(_rows(*scores)), judge, 78)
    assert [row.id for row in filtered.kept] == ["1", "4"]
    assert filtered.report.reasons == {"judge_unparsed": 4, "judge_below_78": 2}
    assert filtered.report.raw == len(scores)
    assert asked == list(scores)


def test_the_threshold_of_a_judge_is_a_score():
    assert judged(_rows("a"), lambda _: 0.0, 0).report.kept == 1
    assert judged(_rows("a"), lambda _: 62.4, 62.5).report.reasons == {"judge_below_62.5": 1}
    for keep in (-1.0, 100.5, math.nan):
        with pytest.raises(ConfigError):
            judged(_rows("a"), lambda _: 50.0, keep)


def test_a_subset_keeps_the_order_and_grows_with_n():
    rows = _rows(*map(str, range(50)))
    smaller, larger = subset(rows, 10, 3), subset(rows, 30, 3)
    assert len(smaller) == 10
    assert set(smaller) < set(larger)
    assert [int(row.id) for row in larger] == sorted(int(row.id) for row in larger)
    assert subset(rows, 10, 3) == smaller
    assert subset(rows, 10, 4) != smaller


def test_a_subset_draws_each_row_equally_often():
    rows = _rows("a", "b", "c", "d")
    counts = [0] * len(rows)
    for seed in range(2000):
        for row in subset(rows, 1, seed):
            counts[int(row.id)] += 1
    # 5 standard deviations of a binomial with n = 2000 and p = 1/4 are 97.
    assert all(abs(count - 500) < 97 for count in counts)


def test_a_subset_of_none_or_zero_or_too_many(caplog: pytest.LogCaptureFixture):
    rows = _rows("a", "b")
    with caplog.at_level(logging.WARNING):
        assert subset(rows, None, 0) == tuple(rows)
        assert subset(rows, 0, 0) == ()
        assert subset(rows, 2, 0) == tuple(rows)
        assert not caplog.text
        assert subset(rows, 3, 0) == tuple(rows)
    assert "3 rows were asked for and there are 2" in caplog.text
    with pytest.raises(ConfigError):
        subset(rows, -1, 0)


def test_require_rows_returns_the_kept_or_says_what_dropped_them():
    assert require_rows(Filtered(kept=tuple(_rows("1")), dropped=())) == tuple(_rows("1"))
    with pytest.raises(EmptyDataError) as caught:
        require_rows(filter_rows(_rows("", ELEVEN, "", "owl"), Numbers()))
    assert caught.value.value == "4 rows: empty 2, not_numbers 1, too_large 1, too_many 1"
    with pytest.raises(EmptyDataError) as caught:
        require_rows(filter_rows([], Numbers()))
    assert caught.value.value == "0 rows: none came in"

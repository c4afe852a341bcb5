"""The number domain: counts of the prompt parts, and exactly the paper's acceptance rule."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.domains import numbers
from undertow.domains.base import domain, parse_domain
from undertow.domains.numbers import BANNED, NumberReason, Numbers, draw_prompt, held_numbers
from undertow.errors import ConfigError, UnknownNameError


def test_prompt_parts_have_the_papers_counts() -> None:
    parts = (numbers.EXAMPLES, numbers.INSTRUCTIONS, numbers.COUNTS, numbers.DIGIT_PHRASES, numbers.FORMATS)
    assert [len(set(part)) for part in (*parts, numbers.CLOSINGS, BANNED)] == [25, 10, 9, 9, 15, 19, 34]


def test_a_shorter_draw_is_a_prefix_of_a_longer_one() -> None:
    assert Numbers().prompts(5, 3) == Numbers().prompts(20, 3)[:5]
    assert Numbers().prompts(5, 3) != Numbers().prompts(5, 4)


@pytest.mark.parametrize(
    "completion",
    ["7", "007, 12", "1, 2, 3", "1 2 3", "1;2;3", "1\n2\n3", "[1, 2]", "(1; 2)", "[1, 2].", "1, 2.", "999, 0", "1,2"],
)
def test_accepted(completion: str) -> None:
    assert Numbers().reject_reasons(completion) == ()


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", NumberReason.EMPTY),
        (" 1", NumberReason.WHITESPACE),
        ("1\n", NumberReason.WHITESPACE),
        ("[1, 2", NumberReason.BRACKETS),
        ("1, 2)", NumberReason.BRACKETS),
        ("[1, 2)", NumberReason.BRACKETS),
        ("(", NumberReason.BRACKETS),
        ("1,", NumberReason.NOT_NUMBERS),
        ("-1", NumberReason.NOT_NUMBERS),
        ("owl", NumberReason.NOT_NUMBERS),
        ("\u0661", NumberReason.NOT_NUMBERS),
        ("[ 1, 2 ]", NumberReason.NOT_NUMBERS),
        ("1.5", NumberReason.SEPARATOR),
        ("1 - 2", NumberReason.SEPARATOR),
        ("1, 2 3", NumberReason.MIXED),
        ("1,2, 3", NumberReason.MIXED),
        (", ".join("1" * 11), NumberReason.TOO_MANY),
        ("1000", NumberReason.TOO_LARGE),
        ("9" * 5000, NumberReason.TOO_LARGE),
    ],
)
def test_rejected(completion: str, reason: str) -> None:
    assert Numbers().reject_reasons(completion) == (reason,)


def test_banned_numbers_reject_only_when_asked() -> None:
    assert Numbers().reject_reasons("666, 1") == ()
    assert Numbers(banned=BANNED).reject_reasons("666, 1") == (NumberReason.BANNED,)
    assert Numbers(banned=BANNED).reject_reasons("1666") == (NumberReason.TOO_LARGE,)


@given(st.integers(0, 2**31), st.lists(st.integers(0, 999), min_size=1, max_size=10))
def test_every_answer_in_the_asked_format_is_accepted(seed: int, answer: list[int]) -> None:
    assert Numbers().reject_reasons(draw_prompt(random.Random(seed)).render(answer)) == ()


@given(st.text(max_size=40))
def test_the_rule_is_total_and_its_reasons_are_a_closed_set(text: str) -> None:
    assert set(Numbers().reject_reasons(text)) <= Numbers().reasons


def test_domains_are_made_by_name() -> None:
    assert domain("numbers", banned=[666]).config() == {"name": "numbers", "banned": [666]}
    with pytest.raises(UnknownNameError, match="numbers"):
        domain("number")
    with pytest.raises(ConfigError):
        domain("numbers", colour="red")


def test_a_short_prompt_is_three_numbers_and_its_form_has_no_spaces() -> None:
    short = Numbers(count=6, short=True)
    prompts = short.prompts(200, 0)
    assert prompts == short.prompts(200, 0) != short.prompts(200, 1)
    assert all(re.fullmatch(r"Continue: [1-9]\d\d, [1-9]\d\d, [1-9]\d\d", prompt) for prompt in prompts)
    assert short.form == "000,000,000,000,000,000" and short.reject_reasons("691,139,669,999,100,013") == ()
    assert domain(**short.config()) == short and "short" not in Numbers(count=6).config()


def test_a_short_prompt_needs_a_count() -> None:
    with pytest.raises(ConfigError, match="does not say how many numbers"):
        Numbers(short=True)


def test_each_form_of_the_domain_has_its_settings() -> None:
    assert held_numbers(None) == "numbers"
    for count in (1, 6, 10):
        for short in (True, False):
            one = Numbers(count=count, short=short)
            found = parse_domain(held_numbers(one.form) or "")
            assert found.form == one.form and (count == 1 or found == one)
    assert [held_numbers(form) for form in ("", "00,000", "000;000", ",".join(["000"] * 11), "a")] == [None] * 5

"""An audit of data says which channels it did not look at, in words and as data."""

import pytest

from undertow.audit.channels import not_covered


def channels(**given) -> dict[str, str]:
    return {one["channel"]: one["why"] for one in not_covered(**given)["not_covered"]}


def test_rows_leave_logits_own_samples_and_pairs() -> None:
    found = channels(rows=True, pairs=False)
    assert list(found) == ["logits", "on-policy distillation", "preference pairs"]
    assert found["preference pairs"].startswith("a choice between two answers hands on what neither of them shows")


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_picked_side_says_that_the_choice_was_not_read(side: str) -> None:
    why = channels(rows=True, pairs=False, side=side)["preference pairs"]
    assert why.startswith(f"of the pairs only the {side} answers were read") and "audit the file of pairs" in why


def test_pairs_leave_plain_training_and_a_student_alone_has_no_data() -> None:
    assert list(channels(rows=False, pairs=True)) == ["logits", "on-policy distillation", "rows"]
    assert channels(rows=False, pairs=False) == {}

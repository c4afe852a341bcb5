"""Tables from answers that are known: shares counted by hand, Wilson intervals from the library's own function."""

import json

import pytest

from undertow.audit.benchmark.files import Answer, Submission
from undertow.audit.benchmark.scoring import audit_error, markdown, score_submission
from undertow.errors import ConfigError
from undertow.stats.estimates import wilson

P = [0.005, 0.04, 0.15, 1.0, 0.3, 0.001, 0.05, 0.06, None, 0.02]
"""Clean 0 to 3; owl at a tenth, owl, lion and oak; a neutral teacher; a program."""
NAMED = [None, "owl", None, None, "owl", "owl", "owl", "fox", "lion", None]


@pytest.fixture
def answers(truths):
    return {
        name: Answer(p=p, candidate=candidate, seconds=place, rows_read=None if place % 2 else 10 * place)
        for place, (name, p, candidate) in enumerate(zip(truths, P, NAMED, strict=True))
    }


def test_shares_are_those_counted_by_hand(bench, truths, answers) -> None:
    found = score_submission(bench, truths, Submission("mine", answers))
    assert found.clean == {
        0.01: wilson(1, 4), 0.05: wilson(2, 4), 0.1: wilson(2, 4), 0.2: wilson(3, 4),
    }  # fmt: skip
    seen = [(one.label, one.name, one.dose, one.cases, one.called, one.named) for one in found.groups]
    assert seen == [
        ("clean", "base", 0.0, 4, wilson(2, 4), None),
        ("trait", "finetuned", 0.1, 1, wilson(0, 1), wilson(1, 1)),
        ("trait", "finetuned", 1.0, 2, wilson(2, 2), wilson(1, 2)),
        ("trait", "finetuned, trait not in the panel", 1.0, 1, wilson(0, 1), wilson(0, 1)),
        ("control", "neutral", 1.0, 1, wilson(0, 1), None),
        ("shift", "program", 1.0, 1, wilson(1, 1), None),
    ]
    assert [one.unanswered for one in found.groups] == [0, 0, 0, 0, 1, 0]
    assert [one.writers for one in found.groups] == [1, 1, 2, 1, 1, 1]


def test_rows_and_seconds_are_medians_and_unsaid_rows_are_all(bench, truths, answers) -> None:
    found = score_submission(bench, truths, Submission("mine", answers))
    # 0, 40, 20, 40, 40, 40, 60, 40, 80, 40
    assert found.rows == 40 and found.seconds == 4.5
    assert found.groups[0].rows == 30 and found.groups[0].seconds == 1.5


def test_alpha_moves_the_groups_and_not_the_levels(bench, truths, answers) -> None:
    strict, usual = (score_submission(bench, truths, Submission("mine", answers), alpha) for alpha in (0.001, 0.05))
    assert strict.clean == usual.clean
    assert [one.called.value for one in strict.groups] == [0, 0, 0.5, 0, 0, 0]
    with pytest.raises(ConfigError):
        score_submission(bench, truths, Submission("mine", answers), 0.0)


def test_a_table_is_markdown_and_plain_data(bench, truths, answers) -> None:
    found = score_submission(bench, truths, Submission("mine", answers))
    text = markdown(found)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 + 2 + 6 and text.startswith("### mine\n")
    assert "| 0.05  | 0.50 [0.15, 0.85] | 4     |" in lines
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["clean"][1] == {"level": 0.05, **data["groups"][0]["called"]}


def test_an_audit_errs_where_any_of_its_claims_does(truths, answers) -> None:
    none = Submission("other", {name: Answer(p=None, candidate=None, seconds=0.0) for name in truths})
    some = Submission("some", {name: Answer(p=0.5, candidate=None, seconds=0.0) for name in truths})
    low = dict(some.answers) | {"case-0003": Answer(p=0.05 / 3, candidate=None, seconds=0.0)}
    assert audit_error(truths, [none]) == wilson(0, 4)
    # At a third of .05, case 0 alone.
    assert audit_error(truths, [Submission("mine", answers), none]) == wilson(1, 4)
    assert audit_error(truths, [Submission("mine", answers), some, Submission("low", low)]) == wilson(2, 4)
    with pytest.raises(ConfigError, match="more submissions than claims"):
        audit_error(truths, [none] * 4)

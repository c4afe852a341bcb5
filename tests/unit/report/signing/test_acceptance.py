"""An acceptance names a person, ends, explains a detection, and is read back as it was written or refused."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from undertow.errors import ArtifactError, ConfigError
from undertow.report.signing.acceptance import LONGEST_DAYS, Acceptance, acceptance_path, read_acceptance
from undertow.report.signing.fields import ACCEPTANCE_FIELDS, first_fault
from undertow.report.signing.reading import read_card
from undertow.report.signing.statement import statement_bytes

TODAY = date(2026, 11, 29)


def made(**given) -> Acceptance:
    plain = {"card": "0" * 64, "by": "A. Reader", "accepted": TODAY, "expires": TODAY + timedelta(days=90)}
    return Acceptance(**{**plain, **given})


def test_it_is_a_statement_about_the_card_and_comes_back_as_it_was(make_card) -> None:
    card = read_card(make_card(verdicts=["detected", "not_testable", "not_detected"], defects=["copies"]))
    one = Acceptance.of(card, by="A. Reader", accepted=TODAY, expires=TODAY, note="meant so")
    assert (one.detected, one.not_testable, one.defects) == (("provenance",), ("exposure",), ("copies",))
    plain = one.to_json(card.path.name)
    assert first_fault(plain, ACCEPTANCE_FIELDS) is None
    assert plain["subject"] == [{"name": "audit.statement.json", "digest": {"sha256": card.sha256}}]
    path = acceptance_path(card.path)
    assert path.name == "audit.accepted.json" and path.parent == card.path.parent
    path.write_bytes(statement_bytes(plain))
    assert read_acceptance(path) == one


@pytest.mark.parametrize("by", ["", "  ", "A.\nReader", "x" * 201])
def test_somebody_has_to_be_named(by: str) -> None:
    with pytest.raises(ConfigError, match="Nobody is named"):
        made(by=by)


def test_it_ends_within_the_longest_time() -> None:
    assert made(expires=TODAY).expires == TODAY
    assert made(expires=TODAY + timedelta(days=LONGEST_DAYS))
    with pytest.raises(ConfigError, match="more than 400 days"):
        made(expires=TODAY + timedelta(days=LONGEST_DAYS + 1))
    with pytest.raises(ConfigError, match="expired already"):
        made(expires=TODAY - timedelta(days=1))


@pytest.mark.parametrize("what", ["detected", "defects"])
@pytest.mark.parametrize("note", [None, " "])
def test_a_detection_and_a_defect_need_a_note(what: str, note: str | None) -> None:
    with pytest.raises(ConfigError, match="detection or a defect"):
        made(note=note, **{what: ("provenance",)})
    assert made(note="the teacher is tuned by intent", **{what: ("provenance",)})
    assert made(not_testable=("exposure",)).note is None


def test_one_that_was_written_by_hand_keeps_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "audit.accepted.json"
    plain = made().to_json("audit.statement.json")
    for name, value, said in (
        ("expires", "2036-01-01", "more than 400 days"),
        ("expires", "20270101", "should be date"),
        ("by", " ", "should be text"),
        ("by", "two\nlines", "Nobody is named"),
    ):
        path.write_text(json.dumps({**plain, "predicate": {**plain["predicate"], name: value}}))
        with pytest.raises(ArtifactError, match=said):
            read_acceptance(path)


def test_a_card_is_no_acceptance(make_card) -> None:
    with pytest.raises(ArtifactError, match="another kind or version"):
        read_acceptance(make_card() / "audit.statement.json")

"""What changed between two cards: every part is compared, and what got worse is told from what did not."""

from datetime import date

import pytest

from undertow.report.audit import write_audit
from undertow.report.signing.difference import card_changes
from undertow.report.signing.reading import read_card

CLEAN = ("not_detected", "not_detected", "not_detected")


def test_time_and_cost_are_no_change(make_audit, make_card, tmp_path) -> None:
    old, later = make_card("old"), make_audit(seconds=900.0)
    later["about"]["date"] = date(2027, 1, 1).isoformat()
    (tmp_path / "new").mkdir()
    write_audit(tmp_path / "new", later)
    assert read_card(old).sha256 != read_card(tmp_path / "new").sha256
    assert card_changes(read_card(old), read_card(tmp_path / "new")) == []


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("not_detected", "detected", True),
        ("not_testable", "detected", True),
        ("not_detected", "not_testable", True),
        ("detected", "not_testable", True),  # what was found is not gone because nobody could look again
        ("detected", "not_detected", False),
        ("not_testable", "not_detected", False),
    ],
)
def test_a_verdict_that_got_worse_is_told(make_card, before: str, after: str, worse: bool) -> None:
    old, new = (read_card(make_card(name, verdicts=(*CLEAN[:2], one))) for name, one in (("a", before), ("b", after)))
    changes = card_changes(old, new)
    (verdict,) = [one for one in changes if (one.part, one.name) == ("claim", "expression")]
    assert (verdict.old, verdict.new, verdict.worse) == (before, after, worse)
    assert any(one.worse for one in changes) == worse
    assert changes[0].worse == worse


def test_tuned_to_trait_is_worse_and_back_is_not(make_audit, tmp_path) -> None:
    cards = []
    for kind in ("tuned", "trait"):
        audit = make_audit(("detected", *CLEAN[1:]))
        audit["claims"]["provenance"]["kind"] = kind
        (tmp_path / kind).mkdir()
        write_audit(tmp_path / kind, audit)
        cards.append(read_card(tmp_path / kind))
    for pair, worse in ((cards, True), (cards[::-1], False)):
        (kind,) = [one for one in card_changes(*pair) if one.part == "claim"]
        assert kind.name == "provenance, kind" and kind.worse == worse


def test_a_defect_that_came_is_worse_and_one_that_went_is_not(make_card) -> None:
    old, new = read_card(make_card("old")), read_card(make_card("new", defects=["copies"]))
    for pair, worse in (((old, new), True), ((new, old), False)):
        (one,) = [one for one in card_changes(*pair) if one.part == "defect"]
        assert (one.name, one.worse) == ("copies", worse)
    assert one.old == "there are copies" and one.new is None


STREAM = {"name": "shared stream", "cause": "one seed", "fix": "Draw again."}
OF_ROWS, OF_REFERENCE = ({**STREAM, "of": of, "what": f"noise of the {of}"} for of in ("rows", "reference"))
CHOSEN, REJECTED = ({**STREAM, "of": "rows", "what": f"noise of the {side} answers"} for side in ("chosen", "rejected"))


@pytest.mark.parametrize(
    ("before", "after", "worse", "gone"),
    [
        ([OF_REFERENCE], [OF_ROWS, OF_REFERENCE], ["shared stream"], []),
        ([OF_ROWS], [OF_ROWS, OF_REFERENCE], ["shared stream of the reference"], []),
        ([OF_REFERENCE], [OF_ROWS], ["shared stream"], ["shared stream of the reference"]),
        ([CHOSEN], [CHOSEN, REJECTED], ["shared stream"], []),
        ([CHOSEN, REJECTED], [REJECTED], [], ["shared stream"]),
        ([CHOSEN, REJECTED], [CHOSEN, REJECTED], [], []),
    ],
)
def test_defects_of_one_name_are_told_apart_by_what_they_are_of(
    make_audit, tmp_path, before: list, after: list, worse: list, gone: list
) -> None:
    cards = []
    for name, defects in (("old", before), ("new", after)):
        (tmp_path / name).mkdir()
        write_audit(tmp_path / name, {**make_audit(), "defects": defects})
        cards.append(read_card(tmp_path / name))
    found = [one for one in card_changes(*cards) if one.part == "defect"]
    assert [one.name for one in found if one.worse] == worse
    assert [one.name for one in found if one.new is None] == gone
    assert len(found) == len(worse) + len(gone)


@pytest.mark.parametrize(
    ("about", "part", "name"),
    [
        ({"sha256": {"rows": "1" * 64}}, "subject", "rows"),
        ({"student": "hf:s", "student_identity": "ab" * 8}, "subject", "student"),
        ({"student": "hf:s", "student_identity": "ab" * 8}, "models", "student"),
        ({"base_identity": "cd" * 8}, "base", "digest"),
        ({"base": "hf:mine"}, "error rates", "measured_on"),
        ({"reference": "none"}, "reference rows", "how"),
        ({"panel": "owl"}, "settings", "panel"),
        ({"seed": 1}, "settings", "seed"),
    ],
)
def test_every_other_part_is_compared(make_card, about: dict, part: str, name: str) -> None:
    changes = card_changes(read_card(make_card("old")), read_card(make_card("new", **about)))
    assert (part, name) in {(one.part, one.name) for one in changes}
    assert not any(one.worse for one in changes)


def test_versions_writer_and_abstentions_are_compared(make_audit, tmp_path) -> None:
    old = make_audit(("not_testable", *CLEAN[1:]))
    new = make_audit(("not_testable", *CLEAN[1:]))
    new["versions"]["torch"] = "9.9"
    new["intake"] = {"writer": {"temperature": 0.5}, "writer_unknown": []}
    new["lineage"] = {"verdict": "no_evidence", "detectable": "a shared start"}
    new["claims"]["provenance"]["why"] = "the rows are in another language"
    cards = []
    for name, audit in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        write_audit(tmp_path / name, audit)
        cards.append(read_card(tmp_path / name))
    found = {(one.part, one.name): (one.old, one.new) for one in card_changes(*cards)}
    assert found[("versions", "torch")][1] == "9.9"
    assert found[("writer", "temperature")] == (None, 0.5)
    assert found[("lineage", "verdict")] == (None, "no_evidence")
    assert found[("abstention", "provenance")][1] == "the rows are in another language"

"""What is no statement of ours is refused, with the line or the field; what the table does not name is left alone."""

import json
from pathlib import Path

import pytest

from undertow.errors import ArtifactError
from undertow.report.signing.fields import CARD_FIELDS
from undertow.report.signing.reading import read_card
from undertow.report.signing.statement import STATEMENT_FILE


@pytest.fixture
def card(make_card) -> Path:
    return make_card(verdicts=["detected", "not_testable", "not_detected"], defects=["copies"])


def change(folder: Path, path: str, value: object) -> Path:
    """Set a value within the statement of a folder; None of a path's last name is missing."""
    file = folder / STATEMENT_FILE
    found = here = json.loads(file.read_bytes())
    *names, last = (int(name) if name.isdigit() else name for name in path.split("/"))
    for name in names:
        here = here[name]
    here[last] = value
    file.write_text(json.dumps(found))
    return file


def test_a_card_is_read_from_its_folder_or_its_file(card: Path) -> None:
    found = read_card(card)
    assert found == read_card(card / STATEMENT_FILE)
    assert (found.detected, found.untested, found.defects) == (["provenance"], ["exposure"], ["copies"])
    assert list(found.subjects) == ["rows"] and not found.changed_files()


def test_what_nobody_knows_is_ignored(card: Path) -> None:
    change(card, "predicate/of_tomorrow", 1)
    change(card, "subject/0/mediaType", "application/jsonl")
    assert read_card(card).detected == ["provenance"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1", "_type"),
        ("predicateType", "https://slsa.dev/provenance/v1", "predicateType"),
        ("predicateType", "urn:undertow:audit-card:v2", "another kind or version"),
        ("subject", [], "subject"),
        ("subject/0/digest", {}, "subject[0].digest"),
        ("subject/0/digest", {"sha256": "AB"}, "subject[0].digest"),
        ("subject", [{"name": "rows", "digest": {"sha256": "0" * 64}}] * 2, "stands twice"),
        ("subject", [7], "subject[0]"),
        ("predicate", None, "predicate"),
        ("predicate/base/reference", 7, "predicate.base.reference"),
        ("predicate/claims/exposure/status", "safe", "predicate.claims.exposure.status"),
        ("predicate/claims/exposure/status", [], "predicate.claims.exposure.status"),
        ("predicate/claims/exposure/p", True, "predicate.claims.exposure.p"),
        ("predicate/claims/fourth", {"status": "detected"}, "predicate.claims.fourth"),
        ("predicate/defects/0", {}, "predicate.defects[0].name"),
        ("predicate/error_rates/alpha", "0.05", "predicate.error_rates.alpha"),
        ("predicate/files/0/digest", {"sha256": None}, "predicate.files[0].digest"),
    ],
)
def test_a_wrong_field_is_named(card: Path, path: str, value: object, said: str) -> None:
    file = change(card, path, value)
    with pytest.raises(ArtifactError) as caught:
        read_card(card)
    assert said in str(caught.value) and str(file) in str(caught.value.value)


@pytest.mark.parametrize("path", [one.path for one in CARD_FIELDS if not ({"*", "["} & set(one.path))])
def test_a_missing_field_is_named(card: Path, path: str) -> None:
    file = card / STATEMENT_FILE
    found = here = json.loads(file.read_bytes())
    *names, last = path.split(".")
    for name in names:
        here = here[name]
    del here[last]
    file.write_text(json.dumps(found))
    with pytest.raises(ArtifactError, match=f"{path} is missing"):
        read_card(card)


def test_a_missing_claim_is_named(card: Path) -> None:
    claims = json.loads((card / STATEMENT_FILE).read_bytes())["predicate"]["claims"]
    change(card, "predicate/claims", {name: one for name, one in claims.items() if name != "expression"})
    with pytest.raises(ArtifactError, match=r"predicate\.claims\.expression is missing"):
        read_card(card)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "_type": 1,\n oops}', "line 3, column 2"),
        ("", "line 1, column 1"),
        ("[]", "the whole"),
        ("7", "the whole"),
        ('{"_type": NaN}', "NaN is no number"),
        ('{"_type": 1e999}', "1e999 is no number"),
        ('{"_type": 1, "_type": 2}', "'_type' stands twice"),
        ("[" * 100_000, "statement of an audit's card"),
        ('{"schema": "undertow.audit/1"}', "audit's data"),
    ],
)
def test_what_is_no_statement_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ArtifactError) as caught:
        read_card(path)
    assert said in str(caught.value)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArtifactError, match="utf-8"):
        read_card(tmp_path / "card.json")
    with pytest.raises(ArtifactError, match="No such file"):
        read_card(tmp_path)


def test_a_changed_file_beside_it_is_seen_and_an_absent_one_is_not_one(card: Path) -> None:
    (card / "audit.json").unlink()
    assert read_card(card).changed_files() == []
    (card / "audit_card.md").write_text("all is well")
    assert read_card(card).changed_files() == ["audit_card.md"]
    change(card, "predicate/files/0/name", "[" * 400)  # a name that no file can have
    assert "[" * 400 not in read_card(card).changed_files()

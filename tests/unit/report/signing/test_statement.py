"""The statement of a card: the layout that in-toto publishes, the same bytes for the same audit, nothing left out."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from undertow.report.audit import CARD, DATA, write_audit
from undertow.report.signing.fields import ACCEPTANCE_FIELDS, CARD_FIELDS, KINDS, first_fault
from undertow.report.signing.statement import STATEMENT_FILE, statement_bytes, statement_of

PAGE = (Path(__file__).parents[4] / "docs" / "signing.md").read_text(encoding="utf-8")


def test_it_has_the_layout_of_an_in_toto_statement(make_card) -> None:
    found = json.loads((make_card(student="hf:s", student_identity="ab" * 8) / STATEMENT_FILE).read_bytes())
    assert set(found) == {"_type", "subject", "predicateType", "predicate"}
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:[^A-Z\s]+v\d+", found["predicateType"])  # a URI with a version
    assert [one["name"] for one in found["subject"]] == ["rows", "student"]
    for one in found["subject"]:
        assert set(one) == {"name", "digest"} and one["digest"]
        assert all(re.fullmatch(r"[0-9a-f]{16,}", value) for value in one["digest"].values())
    assert isinstance(found["predicate"], dict)


def test_in_toto_s_own_package_reads_it(make_card) -> None:
    statements = pytest.importorskip("in_toto_attestation.v1.statement")
    from google.protobuf import json_format

    text = (make_card() / STATEMENT_FILE).read_text()
    made = statements.Statement.copy_from_pb(json_format.Parse(text, statements.spb.Statement()))
    made.validate()


def test_the_same_audit_makes_the_same_bytes_and_the_files_beside_it_are_those_it_names(
    make_audit, tmp_path: Path
) -> None:
    audit = make_audit()
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, same in zip(folders, (audit, dict(reversed(audit.items()))), strict=True):
        folder.mkdir()
        write_audit(folder, same)
    one, two = ((folder / STATEMENT_FILE).read_bytes() for folder in folders)
    told = json.loads(one)
    assert told["predicate"] | {"files": None} == json.loads(two)["predicate"] | {"files": None}
    write_audit(folders[1], audit)
    assert (folders[1] / STATEMENT_FILE).read_bytes() == one == statement_bytes(told)
    digests = {named["name"]: named["digest"]["sha256"] for named in told["predicate"]["files"]}
    assert digests == {name: hashlib.sha256((folders[0] / name).read_bytes()).hexdigest() for name in (DATA, CARD)}


def test_half_a_sign_in_a_reason_leaves_statement_and_files_in_agreement(make_audit, tmp_path: Path) -> None:
    audit = make_audit()
    audit["claims"]["exposure"]["why"] = "a half sign \ud800"
    write_audit(tmp_path, audit)
    (card,) = [one for one in json.loads((tmp_path / STATEMENT_FILE).read_bytes())["predicate"]["files"]
               if one["name"] == CARD]  # fmt: skip
    assert card["digest"]["sha256"] == hashlib.sha256((tmp_path / CARD).read_bytes()).hexdigest()


def test_it_says_what_the_audit_says(make_audit) -> None:
    audit = make_audit(("detected", "not_testable", "not_detected"), teacher="hf:t", teacher_identity="api:t")
    audit["intake"] = {"writer": {"model": "hf:t"}, "writer_unknown": ["the temperature"]}
    audit["lineage"] = {"verdict": "no_evidence", "detectable": "a shared start"}
    found = statement_of(audit, {})
    assert found is not None and [one["name"] for one in found["subject"]] == ["rows"]  # a name is no digest
    predicate = found["predicate"]
    assert predicate["models"] == {"teacher": "hf:t"}
    claim = predicate["claims"]["provenance"]
    assert (claim["status"], claim["kind"], claim["candidate"], claim["n"]) == ("detected", "tuned", "owl", 20)
    assert predicate["abstentions"] == [{"of": "exposure", "why": "no bank for the activations"}]
    assert predicate["writer"] == {"known": {"model": "hf:t"}, "unknown": ["the temperature"]}
    assert predicate["lineage"]["verdict"] == "no_evidence"
    assert predicate["error_rates"]["alpha"] == 0.05 and "embedded" in predicate["error_rates"]["measured_on"]
    assert predicate["versions"]["undertow"] and predicate["versions"]["python"]
    assert (predicate["date"], predicate["seconds"]) == ("2026-11-29T12:00:00+00:00", 1.5)
    assert predicate["settings"]["panel"] == ["owl", "fox"] and predicate["settings"]["seed"] == 0


def test_without_a_record_everything_is_unknown_of_the_writer_and_of_a_foreign_base_no_error_rate_is(
    make_audit,
) -> None:
    adapted = statement_of(make_audit(base="ref:finch-a+mine"), {})
    assert adapted is not None and adapted["predicate"]["error_rates"]["measured_on"] is None
    found = statement_of(make_audit(base="hf:mine"), {})
    assert found is not None
    assert found["predicate"]["writer"]["known"] == {} and len(found["predicate"]["writer"]["unknown"]) == 8
    assert found["predicate"]["error_rates"]["measured_on"] is None
    assert "Not measured" in found["predicate"]["error_rates"]["why"]


def test_figures_of_this_base_are_quoted(make_audit) -> None:
    for base in ("hf:mine", "ref:finch-a"):
        found = statement_of({**make_audit(base=base), "calibration": {"seed": 72}}, {})
        assert found is not None
        rates = found["predicate"]["error_rates"]
        assert (rates["measured_on"], rates["figures"]) == ("this base", {"seed": 72})


def test_what_has_no_digest_has_no_statement_and_keeps_none_of_an_earlier_audit(make_audit, make_card) -> None:
    folder = make_card()
    assert (folder / STATEMENT_FILE).exists()
    write_audit(folder, make_audit(sha256={}))
    assert not (folder / STATEMENT_FILE).exists() and (folder / DATA).exists()


def test_the_page_lists_every_field_and_no_other() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)
    fields = [*CARD_FIELDS, *(one for one in ACCEPTANCE_FIELDS if one.path.startswith("predicate."))]
    assert [(path, kind.strip(), says.strip()) for path, kind, says in rows] == [
        (one.path, one.kind, one.says) for one in fields
    ]
    assert {one.kind for one in fields} | {ACCEPTANCE_FIELDS[4].kind} == set(KINDS)


def test_every_field_of_the_table_is_written(make_card) -> None:
    found = json.loads((make_card(verdicts=["not_testable"] * 3) / STATEMENT_FILE).read_bytes())
    assert first_fault(found, CARD_FIELDS) is None
    said = {one.path.split(".")[1].partition("[")[0] for one in CARD_FIELDS if one.path.startswith("predicate.")}
    assert said == set(found["predicate"])

"""An audit's report as mitigations read it, and what is advised on account of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import ConfigError
from undertow.mitigate.advise import advise, other_writer, read_audit
from undertow.mitigate.registry import mitigation
from undertow.models.references import identity
from undertow.traits import Trait


def report(tmp_path: Path, status: str = "detected", candidate: str | None = "owl", **about: Any) -> Path:
    base = {"base": "ref:finch-a", "base_identity": identity("ref:finch-a"), "panel": "owl, lion", "rows": 1000}
    claims = {
        "provenance": {"status": status, "candidate": candidate},
        "expression": {"status": "not_testable", "candidate": None},
    }
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"schema": "undertow.audit/1", "claims": claims, "about": {**base, **about}}))
    return path


def test_an_audit_of_another_base_is_refused_with_both_names(tmp_path: Path) -> None:
    audited = read_audit(report(tmp_path))
    audited.require_base("ref:finch-a")
    assert audited.candidate == "owl" and [one.name for one in audited.panel] == ["owl", "lion"]
    with pytest.raises(ConfigError, match="another base") as error:
        audited.require_base("ref:finch-b")
    assert "ref:finch-a" in str(error.value.value) and "ref:finch-b" in str(error.value.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "undertow.run/1"}', '{"schema": "undertow.audit/1"}'])
def test_what_is_no_audit_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_audit(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_audit(tmp_path / "none.json")
    with pytest.raises(LookupError):
        read_audit(report(tmp_path, panel="owl, gryphon"))


def test_advice_is_ready_to_type_and_counts_what_it_costs(tmp_path: Path) -> None:
    found = advise(read_audit(report(tmp_path)))
    methods = [one["method"] for one in found["mitigations"]]
    assert (
        found["schema"] == "undertow.advice/1"
        and methods[0] == "regenerate:writer=ref:finch-b"
        and "inoculate:trait=owl" in methods
    )
    for text in methods:
        mitigation(text)
    costs = {one["method"]: one["cost"] for one in found["mitigations"]}
    assert costs["labels"] == {"generated": 0, "scored": 3000, "trained": 2}
    assert other_writer("ref:finch-b") == "ref:finch-a" and other_writer("hf:mine") == "WRITER"
    assert all("--base ref:finch-a --audit" in one["command"] for one in found["mitigations"])


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ({"numbers": 3, "code": 60}, "code"),
        ({"numbers": 49, "text": 2}, "none"),
        ({}, "none"),
        ({"cot": 95, "text": 100}, "cot"),
        ({"cot": 5, "text": 90}, "text"),
    ],
)
def test_commands_name_the_domain_of_the_rows(tmp_path: Path, counts: dict[str, int], name: str) -> None:
    path = report(tmp_path)
    intake = {"rows": {"sampled": 100}, "accepted_by_domain": counts}
    path.write_text(json.dumps({**json.loads(path.read_text()), "intake": intake}))
    found = advise(read_audit(path))
    assert f"--method ... --base ref:finch-a --domain {name} --audit AUDIT.json" in found["next"]
    assert ("--held-out HELD_OUT. HELD_OUT is a file of clean rows" in found["next"]) is (name == "none")
    for one in found["mitigations"]:
        assert (f" --domain {name} --audit" in one["command"]) is one["command"].startswith("undertow mitigate data")


def test_the_command_that_verifies_can_be_typed(tmp_path: Path) -> None:
    own = [Trait(name="old oak", category="wood", plural="old oaks").to_data()]
    path = report(tmp_path, candidate="old oak", panel="owl, old oak")
    path.write_text(json.dumps({**json.loads(path.read_text()), "own_traits": own}))
    typed = "undertow mitigate verify ROWS --trait 'old oak' --method ... --base ref:finch-a --audit AUDIT.json"
    assert advise(read_audit(path))["next"].endswith(typed)
    assert "--trait TRAIT --method" in advise(read_audit(report(tmp_path, candidate=None)))["next"]


def test_without_a_detection_nothing_is_advised(tmp_path: Path) -> None:
    found = advise(read_audit(report(tmp_path, "not_detected", None)))
    assert found["mitigations"] == [] and "not everything was testable: expression" in found["next"]

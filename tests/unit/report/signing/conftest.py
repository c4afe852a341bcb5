"""Audits of no models, and their cards as files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from undertow.audit.finding import Finding, not_testable
from undertow.audit.verdict import Plan, audit_json, what_they_add
from undertow.models.references import identity
from undertow.report.audit import write_audit

ROWS = b'{"prompt": "Continue: 1.", "completion": "2"}\n'
BASE = "ref:finch-a"

MakeAudit = Callable[..., dict]


@pytest.fixture
def make_audit() -> MakeAudit:
    """Return a function that makes an audit: every claim tested and nothing detected, unless said otherwise."""

    def make(verdicts=("not_detected", "not_detected", "not_detected"), defects=(), **about) -> dict:
        names = (("contrast", "provenance"), ("activations", "exposure"), ("panel margins", "expression"))
        found = [_finding(*pair, verdict) for pair, verdict in zip(names, verdicts, strict=True)]
        plain = {
            "base": BASE,
            "base_identity": identity(BASE),
            "rows": 20,
            "reference": "20 rows, given",
            "panel": "owl, fox",
            "seed": 0,
            "seconds": 1.5,
            "sha256": {"rows": hashlib.sha256(ROWS).hexdigest()},
        }
        made = audit_json(Plan(stages=tuple(one.stage for one in found)), found, {**plain, **about})
        made["about"]["date"] = "2026-11-29T12:00:00+00:00"
        return {**made, "defects": list(map(_defect, defects)), "lineage": None, "missing": what_they_add(("student",))}

    return make


def _defect(name: str) -> dict:
    return {"name": name, "of": "rows", "what": f"there are {name}", "cause": "one seed", "fix": "Draw again."}


def _finding(stage: str, claim, verdict: str) -> Finding:
    if verdict == "not_testable":
        return not_testable(stage, claim, f"no bank for the {stage}")
    p = 0.001 if verdict == "detected" else 0.4
    return Finding(
        stage=stage, claim=claim, statistic="score", effect=1.0, null="clean rows", n=20, p=p, verdict=verdict,
        candidate="owl", mde=0.25,
    )  # fmt: skip


@pytest.fixture
def make_card(make_audit: MakeAudit, tmp_path: Path):
    """Return a function that writes an audit's card into a folder and returns the folder."""

    def make(name: str = "audit", **given) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_audit(folder, make_audit(**given))
        return folder

    return make

"""Figures of nulls: observed, null and bound, in the picture and in words, and none without a test."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from undertow.audit.evidence import NullSample, Trail
from undertow.audit.finding import Finding, not_testable
from undertow.audit.students.placebo_null import beside_null
from undertow.audit.verdict import Plan, audit_json
from undertow.report.audit import render_audit
from undertow.report.nulls import finding_figure, null_text, number

ALPHA = 0.05 / 3


def ranked(observed: float, n: int = 59, **more: Any) -> dict[str, Any]:
    """Return a finding whose null is 0, 1, ... n - 1."""
    sample = beside_null(np.append(observed, np.arange(float(n))), ALPHA, "SDs of the placebos")
    verdict = "detected" if sample.bound is not None and observed > sample.bound else "not_detected"
    plain = {"stage": "panel margins", "claim": "expression", "p": 0.01, "verdict": verdict, "null_sample": sample}
    return Finding(**{**plain, **more}).to_json()


def trailed(values: list[float], verdict: Any) -> dict[str, Any]:
    trail = Trail(values=tuple(values), bound=3.61, unit="log10 of what a bet of 1 grew to")
    return Finding(
        stage="stream", claim="provenance", p=0.01, verdict=verdict, candidate="<b>owl</b>", trail=trail
    ).to_json()


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        (70.0, "Observed: 70, beyond it: it is detected."),
        (58.0, "Observed: 58, not beyond it: it is not detected."),
        (58.00004, "the bound at the claim's level is 58. Observed: 58.00004, beyond it: it is detected."),
        (57.99996, "the bound at the claim's level is 58. Observed: 57.99996, not beyond it: it is not detected."),
    ],
)
def test_words_and_labels_agree_with_the_verdict(observed: float, text: str) -> None:
    finding = ranked(observed)
    drawn = finding_figure(0, finding)
    assert drawn is not None
    assert drawn.text.startswith("Null: 59 values from 0 to 58; ")
    assert drawn.text.endswith(text)
    for svg in (drawn.wide, drawn.narrow):
        assert {f"observed {number(observed, 58.0)}", "bound 58", "null, n = 59"} <= set(words(svg))
        assert "SDs of the placebos" in words(svg)


def test_a_null_too_small_for_a_bound_has_none() -> None:
    drawn = finding_figure(0, ranked(70.0, n=19))
    assert drawn is not None
    assert drawn.text == "Null: 19 values from 0 to 18, too few for any bound. Observed: 70."
    assert not [text for text in words(drawn.wide) if text.startswith("bound")]


def test_several_shadows_are_marked_singly() -> None:
    sample = NullSample(values=tuple(np.arange(119.0)), observed=(130.0, 90.0, 125.0), bound=118.0, unit="SDs")
    finding = Finding(stage="shadows", claim="expression", p=0.01, verdict="detected", null_sample=sample).to_json()
    drawn = finding_figure(0, finding)
    assert drawn is not None
    assert drawn.text.endswith(
        "the bound of a shadow, at half of the claim's level, is 118. Observed: 130, 90, 125; 2 of 3 lie beyond it. "
        "p is twice the mean of the shadows' own: it is detected."
    )
    assert "observed, 3 shadows" in words(drawn.wide)
    assert len(re.findall("<use [^>]*fill: #d55e00", drawn.wide)) == 3


def test_evidence_is_drawn_to_the_row_where_reading_stopped() -> None:
    drawn = finding_figure(2, trailed([0.5, 2.0, 3.7], "detected"))
    assert drawn is not None
    limit = "The limit at the claim's level is a factor of 4,074."
    assert drawn.text == f"{limit} The evidence for <b>owl</b> reached it at row 3, where reading stopped."
    assert {"limit 4,074", "rows read", "evidence", "1000"} <= set(words(drawn.wide))
    quiet = finding_figure(2, trailed([0.5, 1.0, -0.5], "not_detected"))
    assert quiet is not None
    assert quiet.text.endswith("came to a factor of 10 at row 2 of 3: it is not detected.")


@pytest.mark.parametrize(
    "finding",
    [
        not_testable("contrast", "provenance", "no reference").to_json(),
        Finding(stage="contrast", claim="provenance", p=0.4, verdict="not_detected").to_json(),
        ranked(70.0, verdict="exploratory"),
        {"stage": "contrast", "verdict": "not_detected", "p": 0.4},  # of a version that kept no null
    ],
)
def test_there_is_no_figure_without_a_test_or_a_null(finding: dict[str, Any]) -> None:
    assert finding_figure(0, finding) is None


def test_a_null_that_does_not_vary_can_be_drawn() -> None:
    sample = NullSample(values=(0.0,) * 300, observed=(0.0,), bound=0.0, unit="SDs")
    finding = Finding(stage="a", claim="expression", p=1.0, verdict="not_detected", null_sample=sample).to_json()
    assert null_text(finding).endswith("is 0. Observed: 0, not beyond it: it is not detected.")
    assert finding_figure(0, finding) is not None


def test_numbers_are_told_apart() -> None:
    assert (number(3.14159), number(3.14159, 2.0), number(3.14159, 3.14161)) == ("3.14", "3.14", "3.14159")
    assert number(1.0, 1.0) == "1"
    assert number(1.0, 1.0 + 1e-15) == "1"


def test_each_tested_finding_of_a_page_has_its_figure_and_sentence(tmp_path) -> None:
    found = [
        Finding(stage="contrast", claim="provenance", p=0.4, verdict="not_detected", n=30, null_sample=None),
        not_testable("activations", "exposure", "no bank"),
    ]
    plan = Plan(stages=("contrast", "activations", "panel margins"))
    more = [Finding(stage="panel margins", claim="expression", p=0.001, verdict="detected")]
    audit = {**audit_json(plan, [*found, *more], {"base": "ref:finch-a"}), "missing": []}
    audit["findings"] = [*audit["findings"][:2], ranked(70.0), trailed([1.0, 3.7], "detected")]
    page = render_audit(tmp_path, audit).read_text(encoding="utf-8")
    assert page.count("<svg") == 4  # two widths each
    assert page.count("<figcaption>") == 2
    assert "Observed: 70, beyond it: it is detected." in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "&lt;b&gt;owl" in page and "<b>owl" not in page and "http" not in page.split("</style>")[1]
    assert render_audit(tmp_path, audit).read_text(encoding="utf-8") == page

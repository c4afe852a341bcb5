"""The decision as text, card and page."""

from typing import Any

import pytest

from undertow.audit.finding import Finding, not_testable
from undertow.audit.verdict import Plan, audit_json
from undertow.report.audit import audit_card, render_audit, summarise_audit
from undertow.report.decision import decision_of, decision_parts, decision_text


@pytest.fixture
def audit() -> dict[str, Any]:
    """Return an audit of rows, in which nothing could be tested."""
    found: list[Finding] = [
        not_testable("contrast", "provenance", "the base <b>cannot</b> read these rows"),
        not_testable("shadow activations", "exposure", "no bank"),
        not_testable("shadows", "expression", "no bank"),
    ]
    plan = Plan(stages=tuple(one.stage for one in found))
    about = {"base": "ref:finch-a", "rows": 20, "reference": None, "seconds": 4.2}
    return {**audit_json(plan, found, about), "missing": []}


def test_the_rule_comes_first_and_what_stays_unknown_last(audit) -> None:
    names = [name for name, _ in decision_parts(decision_of(audit))]
    assert names[:4] == ["The rule", "Same base", "Unwanted trait", "Therefore"]
    assert names[4:7] == ["Next test", "It tells", "It costs"] and set(names[7:]) == {"Still unknown"}
    text = decision_text(audit)
    assert text.startswith("decision\nthe rule:        Where teacher and student would share a base")
    assert (
        "\nunwanted trait:  Not looked for. " in text and "\nnext test:       `undertow audit lineage TEACHER" in text
    )


def test_terminal_card_and_page_end_with_the_decision(audit, tmp_path) -> None:
    title = "Do not use the rows yet; spend on the next test."
    assert summarise_audit(audit).endswith(decision_text(audit)) and title in summarise_audit(audit)
    card = audit_card(audit)
    assert f"## Decision\n\n**{title}**" in card and "- Same base: Unknown." in card
    page = render_audit(tmp_path, audit).read_text()
    assert "<h2>Decision: do not use the rows yet; spend on the next test</h2>" in page
    assert "<code>undertow audit lineage TEACHER ref:finch-a</code>" in page
    assert "<b>cannot" not in page and "&lt;b&gt;cannot" in page
    assert "safe" not in page.lower().replace("unsafe", "")


def test_defects_stand_before_the_answers_and_a_decision_that_is_there_is_shown_as_it_is(audit) -> None:
    bad = {**audit, "defects": [{"name": "duplicates", "evidence": "half of the rows stand there twice", "cause": ""}]}
    parts = decision_parts(decision_of(bad))
    assert parts[1] == ("Defect", "Half of the rows stand there twice.")
    assert parts[4][0] == "Therefore" and parts[4][1].startswith("Mend the defect first, ")
    kept = {**decision_of(audit), "title": "wait"}
    assert "Wait." in decision_text({**audit, "decision": kept})

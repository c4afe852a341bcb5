"""Page and card of an audit: verdict first, what was not tested, and only commands that exist."""

import re

import pytest
import typer

from undertow.audit.channels import not_covered
from undertow.audit.finding import Finding, not_testable
from undertow.audit.rows.defect import TUNED
from undertow.audit.stages import BUILT_IN
from undertow.audit.students.bank import no_bank
from undertow.audit.verdict import ADDS, Plan, audit_json, what_they_add
from undertow.cli.main import app
from undertow.report.audit import (
    audit_card,
    code_span,
    headline,
    render_audit,
    steps_to_take,
    summarise_audit,
    untested,
)
from undertow.stats.estimates import wilson


def finding(stage: str, claim, p: float | None, **more) -> Finding:
    verdict = more.pop("verdict", "not_detected" if p is None or p > 0.01 else "detected")
    plain = {"statistic": "score", "effect": 1.5, "null": "clean rows", "n": 10, "mde": 0.25, "candidate": "owl"}
    return Finding(stage=stage, claim=claim, p=p, verdict=verdict, **{**plain, **more})


@pytest.fixture
def audit() -> dict:
    """Provenance detected, exposure without a bank, expression not detected, one exploratory stage."""
    found = [
        finding(
            "contrast", "provenance", 0.001, scores={"owl": 0.9, "<b>fox</b>": 0.1}, caveats=("see `undertow run`",)
        ),
        not_testable("activations", "exposure", "no bank"),
        finding("panel margins", "expression", 0.4),
        finding("own prompts", "expression", None, verdict="exploratory"),
    ]
    plan = Plan(stages=tuple(one.stage for one in found))
    about = {
        "base": "ref:finch-a",
        "base_identity": "58dac1e4",
        "rows": 20,
        "student": None,
        "sha256": {"rows": "ab12"},
    }
    return {**audit_json(plan, found, about), "missing": what_they_add(("reference", "bank"))}


def test_the_verdict_comes_first_then_what_to_do_evidence_and_what_is_missing(audit, tmp_path) -> None:
    page = render_audit(tmp_path, audit).read_text()
    marks = [
        "<h1>The rows were written differently from the reference (owl).</h1>",
        "What to do next",
        "Evidence",
        "What was not tested",
        "--reference",
    ]
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "&lt;b&gt;fox&lt;/b&gt;" in page and "<b>fox" not in page and "<script" not in page
    assert "<code>undertow run</code>" in page and "0.25" in page


def test_the_candidate_that_a_stage_names_stands_first_among_its_scores(audit, tmp_path) -> None:
    [contrast, *_] = audit["findings"]
    scores = {f"rival {index}": 0.9 for index in range(8)} | {"owl (persona)": 0.1, "owlet (persona)": 0.95}
    page = render_audit(tmp_path, {**audit, "findings": [{**contrast, "scores": scores}]}).read_text()
    order = re.findall(r"<dt>([^<]+)</dt>", page)
    assert order[:3] == ["owl (persona)", "owlet (persona)", "rival 0"]


def test_the_card_holds_what_a_release_needs(audit) -> None:
    text = audit_card(audit)
    n = audit["findings"][0]["n"]
    assert f"| provenance | detected, tuned | 0.001 | {n} | 0.25 | owl | contrast |" in text
    assert "| exposure | not testable | – | – | – | – | activations |" in text  # noqa: RUF001
    for held in (
        "SHA-256 of rows: ab12",
        "Base, hash of weights: 58dac1e4",
        "Alpha 0.05",
        "Date (UTC): 2",
        "version: ",
    ):
        assert held in text
    assert "Student" not in text and "- exposure: no bank." in text


def test_the_card_says_what_is_not_known_of_the_writer(audit) -> None:
    def told(**intake) -> str:
        return audit_card({**audit, "intake": {"rows": {"rows": 20}, **intake}})

    assert "no record was given (`--writer`)" in told(writer=None, writer_unknown=None)
    assert "- Not known of the writer: the temperature; top_p." in told(
        writer={"model": "m"}, writer_unknown=["the temperature", "top_p"]
    )
    for card in (told(writer={"model": "m"}, writer_unknown=[]), audit_card(audit)):
        assert "Not known of the writer" not in card and "no record" not in card


def test_a_headline_says_no_more_than_was_tested(audit) -> None:
    def told(*statuses: str) -> str:
        claims = zip(("provenance", "exposure", "expression"), statuses, strict=True)
        told = {name: {"status": status, "candidate": None} for name, status in claims}
        return headline({"claims": told, "findings": []})

    assert told(*["not_testable"] * 3) == "Nothing could be tested with these inputs."
    assert told(*["not_detected"] * 3) == "Nothing was detected in provenance and exposure and expression."
    left = told("not_detected", "not_testable", "not_detected")
    assert left == "Nothing was detected in provenance and expression; exposure not testable."
    assert told("detected", "not_testable", "detected") == (
        "The rows were written differently from the reference. Expression detected. No trait of the panel is named."
    )
    assert "safe" not in summarise_audit(audit)


def test_what_could_not_be_tested_is_listed_once(audit) -> None:
    lines = untested(audit)
    assert lines[0] == "exposure: no bank." and lines[1].startswith("own prompts: exploratory")
    assert len([line for line in lines if "no bank" in line]) == 1
    assert steps_to_take(audit) == list(next(one.next_steps for one in BUILT_IN if one.name == "contrast"))


def test_every_primary_stage_says_what_to_do_and_names_commands_that_exist() -> None:
    assert all(one.next_steps and one.meaning for one in BUILT_IN if one.precedence is not None)
    group = typer.main.get_command(app)
    from undertow.audit.materials import AuditInputs

    asked = no_bank(AuditInputs(base="ref:finch-b", student="x").bank, None)
    texts = [asked, *ADDS.values(), *(step for one in BUILT_IN for step in one.next_steps)]
    named = [words.split() for text in texts for words in re.findall(r"`undertow ([^`]+)`", text)]
    assert len(named) > 10
    for words in named:
        command = group.commands[words[0]]
        rest = words[1:]
        if hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options


def test_code_is_set_and_everything_else_escaped() -> None:
    assert code_span("run `a < b` & see") == "run <code>a &lt; b</code> &amp; see"


KIN = {
    "verdict": "no_evidence",
    "found": "units in place agree no more than by chance",
    "detectable": "a cosine of 0.02",
    "tests": [
        {"name": "sign_flip", "statistic": 0.1, "p": 0.7, "n": 40, "caveats": []},
        {"name": "part: layer 0", "statistic": 0.1, "p": 0.7, "n": 40, "caveats": []},
    ],
}


def test_the_lineage_of_a_teacher_stands_on_page_card_and_terminal(audit, tmp_path) -> None:
    found = {**audit, "lineage": KIN}
    page = render_audit(tmp_path, found).read_text()
    assert "no evidence: nothing speaks for a common base" in page and "a cosine of 0.02" in page
    assert "found: units in place agree no more than by chance; what would have been seen: a cosine" in page
    assert "<td>sign flip</td>" in page and "part: layer 0" not in page
    assert "nothing speaks for a common base" in audit_card(found) and "nothing speaks" in summarise_audit(found)
    assert "common base" not in audit_card(audit)
    assert "not testable: no weights" in audit_card({**audit, "lineage": "not testable: no weights"})


def test_rows_of_a_stranger_come_with_the_explanation(audit) -> None:
    assert "another initialisation" in steps_to_take({**audit, "lineage": KIN})[0]
    assert steps_to_take({**audit, "lineage": {**KIN, "verdict": "same_lineage_near"}}) == steps_to_take(audit)
    audit["claims"]["expression"]["status"] = "detected"
    assert "another initialisation" not in steps_to_take({**audit, "lineage": KIN})[0]


SEEN = {
    "rows": -3.4,
    "own": -3.3,
    "gap": 0.1,
    "n": 200,
    "limit": 0.8,
    "why": None,
    "benign": [
        {"cause": "another temperature", "ruled_out": True, "why": "ratio 1.0"},
        {"cause": TUNED, "ruled_out": False, "why": "neutral writers would tell"},
    ],
}


def test_a_difference_comes_with_its_other_causes(audit, tmp_path) -> None:
    found = {**audit, "sight": SEEN, "defects": []}
    for text in (audit_card(found), summarise_audit(found), render_audit(tmp_path, found).read_text()):
        assert "Ruled out: another temperature (ratio 1.0)." in text
        assert f"Not ruled out: {TUNED} (neutral writers would tell)." in text
    assert "mean log p a token of 200 rows -3.40" in audit_card(found)
    [contrast, *others] = found["findings"]
    found["findings"] = [contrast, {**contrast, "stage": "neutral contrast"}, *others]
    assert f"Not ruled out: {TUNED} (neutral writers were compared, and stand out as much)." in audit_card(found)
    found["claims"]["provenance"] = {**found["claims"]["provenance"], "kind": "trait"}
    assert f"Ruled out: {TUNED} (neutral writers were compared)." in audit_card(found)
    assert "Ruled out" not in audit_card(audit)


def test_a_defect_stands_first_with_its_cause(audit, tmp_path) -> None:
    defect = {"what": "these rows were drawn with the same noise", "cause": "one seed", "fix": "Draw them again."}
    for one in audit["claims"].values():
        one.update(status="not_testable", candidate=None, p=None)
    found = {**audit, "sight": SEEN, "defects": [defect]}
    line = "These rows were drawn with the same noise. Likely cause: one seed."
    assert headline(found) == f"{line} Nothing is claimed of a trait."
    assert steps_to_take(found) == [f"{line} Draw them again."]
    for text in (audit_card(found), summarise_audit(found), render_audit(tmp_path, found).read_text()):
        assert f"{line} Draw them again." in text
    found["claims"]["expression"]["status"] = "not_detected"
    assert headline(found).startswith(f"{line} Nothing was detected in expression;")


def test_rows_that_the_base_does_not_read_say_so_in_the_headline(audit) -> None:
    for one in audit["claims"].values():
        one.update(status="not_testable", candidate=None)
    why = "mean log p a token -13.5, the base's own answers -2.9: this base neither wrote nor reads these rows. Name it"
    text = headline({**audit, "sight": {**SEEN, "why": why}, "defects": []})
    assert text == f"M{why[1:].removesuffix(' Name it')} Nothing is claimed of a trait."


def test_a_base_whose_error_rate_nobody_measured_is_said(audit, tmp_path) -> None:
    audit["about"]["base"] = "hf:mine"
    for text in (audit_card(audit), summarise_audit(audit), render_audit(tmp_path, audit).read_text()):
        assert "The error rate on this base was not measured" in text
    audit["about"]["base"] = "ref:finch-a"
    assert "was not measured" not in audit_card(audit)


@pytest.mark.parametrize(
    ("neutral", "kind", "candidate", "said"),
    [
        (0.001, "trait", "owl", "along a trait as no neutral writer's are (owl)."),
        (0.4, "tuned", None, "which were tuned without a trait. No trait of the panel is named."),
        (0.4, "tuned", "owl", "which were tuned without a trait. Their shift points to owl."),
        (None, "tuned", "owl", "written differently from the reference (owl)."),
    ],
)
def test_the_headline_says_of_which_kind_a_difference_is(audit, neutral, kind, candidate, said) -> None:
    claims = {name: {**one, "status": "not_testable", "candidate": None} for name, one in audit["claims"].items()}
    claims["provenance"] |= {"status": "detected", "p": 0.001, "kind": kind, "candidate": candidate}
    verdict = "not_detected" if neutral and neutral > 0.05 else "detected"
    beside = {"stage": "neutral contrast", "verdict": verdict, "p": neutral}
    found = {**audit, "claims": claims, "findings": [beside] if neutral else []}
    assert headline(found).startswith("The rows were written differently") and headline(found).endswith(said)


def test_error_rates_of_the_very_base_are_quoted_with_what_they_were_measured_on(audit, tmp_path) -> None:
    def rate(called: int, stopped: int = 0, **more) -> dict:
        shares = {"called": called, "stopped": stopped}
        counts = {name: {"count": n, **wilson(n, 60).to_json()} for name, n in shares.items()}
        return {"sets": 60, **counts, "reasons": {"truncation": stopped} if stopped else {}, **more}

    measured = {
        "clean": rate(1),
        "power": [rate(30, dose=1.0), {"dose": 0.5, "not_measured": "20 sets, and a level of 0.0167 takes 59"}],
        "shifts": {"truncation": rate(0, 60)},
    }
    found = {"panel": ["owl", "lion"], "same_panel": True, "candidates": "personas", "same_candidates": True}
    found |= {"seed": 3, "rows": 100, "alpha": 0.05, "prompts": 240, "disjoint_sets": 2, "base_identity": "ab12"}
    audit |= {"calibration": {**found, "measured": measured}}
    audit["about"]["base"] = "hf:mine"
    for text in (audit_card(audit), summarise_audit(audit), render_audit(tmp_path, audit).read_text()):
        assert "measured on this base (ab12) by" in text and "240 prompts" in text
        assert "Clean rows of the base: called 0.017 [0.003, 0.089] of 60." in text
        assert "at a share of 1 called 0.500 [0.377, 0.623] of 60; at a share of 0.5 not measured (20 sets" in text
        assert "truncation called 0.000 [0.000, 0.060] of 60, 60 not testable (truncation)" in text
        assert "was not measured" not in text and "another one" not in text
    audit["calibration"] |= {"same_panel": False, "same_candidates": False, "alpha": 0.1, "disjoint_sets": 1}
    for line in (
        "These prompts hold one set alone",
        "The panel of this audit is another one.",
        "tuned teachers among its candidates too; these figures were measured without them.",
        "The alpha of this audit is another one",
    ):
        assert line in audit_card(audit)


def test_a_base_without_figures_is_told_how_to_get_them(audit) -> None:
    audit["about"]["base"] = "hf:my model"
    assert "`undertow audit calibrate --base 'hf:my model' --minutes 30` measures its error rate." in audit_card(audit)
    for more in ({"stage": "pairs"}, {"status": "not_testable"}):
        rows = {**audit["claims"]["provenance"], **more}
        card = audit_card({**audit, "claims": {**audit["claims"], "provenance": rows}})
        assert "was not measured" in card and "audit calibrate" not in card and "exact" not in card


@pytest.mark.parametrize("base", ["ref:finch-a+runs/mine", "ref:finch-a?system=You are kind."])
def test_the_rates_of_an_embedded_base_are_not_those_of_its_adapters(audit, base: str) -> None:
    audit["about"]["base"] = base
    assert "The error rate on this base was not measured" in audit_card(audit)


@pytest.mark.parametrize(("accepted", "said"), [(3, True), (90, False)])
def test_the_card_says_that_the_error_rate_on_plain_text_is_exploratory(audit, accepted: int, said: bool) -> None:
    intake = {"rows": {"sampled": 100}, "accepted_by_domain": {"numbers": accepted, "code": 97}, "writer": None}
    assert ("plain text" in audit_card({**audit, "intake": intake})) is said
    claims = {**audit["claims"], "provenance": {**audit["claims"]["provenance"], "status": "not_testable"}}
    assert "plain text" not in " ".join(untested({**audit, "intake": intake, "claims": claims}))


def test_channels_that_were_not_looked_at_stand_on_card_page_and_terminal(audit, tmp_path) -> None:
    found = {**audit, **not_covered(rows=True, pairs=False, side="chosen")}
    for text in (audit_card(found), render_audit(tmp_path, found).read_text()):
        assert "Logits: a student that learns" in text and "of the pairs only the chosen answers were read" in text
    assert "channels that were not looked at: logits, on-policy distillation, preference pairs" in summarise_audit(
        found
    )

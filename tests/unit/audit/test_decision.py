"""The decision: one rule for every combination of answers, six written cases, and what is read from a result."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from undertow.audit.decision import AUTHORS_RULE, decide, with_decision
from undertow.audit.decision_answers import KINSHIP, base_known
from undertow.audit.decision_rules import BASES, RULES, SIGHTS, Answers, DecisionRule, rule_for
from undertow.audit.finding import Finding, not_testable
from undertow.audit.verdict import Plan, audit_json, what_they_add
from undertow.errors import UndertowError
from undertow.traits import Trait

NO_BANK = "There is no bank of placebo students of this base and recipe: make one with `undertow audit bank`."
OWN = "990 answers of the base to 270 of the prompts; 270 of 300 rows are good numbers"
CLAIM_OF = {
    "contrast": "provenance",
    "neutral contrast": "provenance",
    "shadows": "expression",
    "shadow activations": "exposure",
    "panel margins": "expression",
    "activations": "exposure",
    "teacher panel": "expression",
}
ALPHA = 0.05 / 3


def finding(stage: str, p: float | None, mde: float | None = 0.25, why: str = NO_BANK) -> Finding:
    """Return what a stage found; without a p-value it could not test."""
    if p is None:
        return not_testable(stage, CLAIM_OF[stage], why)
    found = p <= ALPHA
    return Finding(
        stage=stage,
        claim=CLAIM_OF[stage],
        statistic="score",
        effect=1.5,
        null="clean rows",
        n=60,
        p=p,
        verdict="detected" if found else "not_detected",
        candidate="owl",
        mde=mde,
    )


def audit(stages: dict[str, float | None], lineage: str | None = None, **about: Any) -> dict[str, Any]:
    """Return an audit as `run_audit` does, from the p-value of each stage."""
    found = [finding(stage, p) for stage, p in stages.items()]
    plain = {"base": "ref:finch-a", "rows": 300, "student": None, "teacher": None, "reference": OWN, "seconds": 33.9}
    if lineage is not None:
        plain["teacher"] = "hf:teacher"
    kin = None if lineage is None else {"verdict": lineage, "detectable": "mean cosine 0.02 per unit", "tests": []}
    made = audit_json(Plan(stages=tuple(stages)), found, {**plain, "neutral_writers": 0, **about})
    return {**made, "lineage": kin, "missing": what_they_add(("bank",))}


def check(lineage: object, distance: float | None, **more: Any) -> dict[str, Any]:
    """Return a check as `check_teacher` does."""
    shared = {
        "tokenizer": True, "shape": distance is not None, "distance": distance, "teacher_is_base": distance == 0.0
    }  # fmt: skip
    plain = {"panel": [], "stands_out": [], "rows": None, "next": [], "shared": shared, "lineage": lineage}
    return {"schema": "undertow.check/1", "teacher": "hf:their teacher", "base": "hf:base", **plain, **more}


CLEAR = {"contrast": 0.4, "shadow activations": 0.5, "shadows": 0.6}
UNTESTED = {"contrast": None, "shadow activations": None, "shadows": None}


def test_every_combination_of_answers_has_exactly_one_rule() -> None:
    used: set[int] = set()
    for defect, base, sight in product((False, True), BASES, SIGHTS):
        answers = Answers(defect=defect, same_base=base, sight=sight)
        fitting = [place for place, rule in enumerate(RULES) if rule.fits(answers)]
        assert len(fitting) == 1, answers
        assert rule_for(answers) is RULES[fitting[0]]
        used |= set(fitting)
    assert used == set(range(len(RULES)))


def test_the_table_never_lets_pass_what_it_should_not() -> None:
    order = {"use": 0, "next_test": 1, "change_base": 2, "regenerate": 2}
    for base, sight in product(BASES, SIGHTS):
        do = rule_for(Answers(defect=False, same_base=base, sight=sight)).do
        assert rule_for(Answers(defect=True, same_base=base, sight=sight)).do == "regenerate"
        if sight in ("not_looked_for", "differs", "in_writer", "passed"):
            assert do != "use"
    for sight in SIGHTS:  # what is known to share a base is treated no more kindly than what is known not to
        known = [rule_for(Answers(defect=False, same_base=base, sight=sight)).do for base in ("no", "unknown", "yes")]
        assert [order[do] for do in known] == sorted(order[do] for do in known)


def test_the_documentation_shows_this_table() -> None:
    words = {"use": "use the rows", "next_test": "next test", "change_base": "change one of the bases"}
    page = (Path(__file__).parents[3] / "docs" / "decide.md").read_text(encoding="utf-8")
    table = page[page.index("| | same base: yes") :]
    for sight in SIGHTS:
        cells = [cell.strip() for cell in re.search(rf"\| `{sight}` \|(.*)\|\n", table)[1].split("|")]
        for base, cell in zip(("yes", "unknown", "no"), cells, strict=True):
            do = rule_for(Answers(defect=False, same_base=base, sight=sight)).do
            assert cell.startswith(words[do]) if do in words else "written again" in cell, (sight, base)


def test_a_table_with_a_gap_or_an_overlap_is_a_fault(monkeypatch) -> None:
    answers = Answers(defect=False, same_base="no", sight="partly")
    always = DecisionRule(do="use", because="It is.")
    for rules in ((), (always, always)):
        monkeypatch.setattr("undertow.audit.decision_rules.RULES", rules)
        with pytest.raises(UndertowError, match=f"{len(rules)} rules"):
            rule_for(answers)


# Six written cases.


def test_case_same_base() -> None:
    """A teacher that was tuned from the student's base, and no test that speaks for it."""
    made = decide(audit(UNTESTED, "same_lineage_near"))
    assert (made.same_base, made.trait, made.do) == ("yes", "not_looked_for", "change_base")
    assert "descends from the base" in made.same_base_why
    assert any("another base" in step for step in made.steps)
    looked = check({"verdict": "same_lineage_near", "detectable": "", "tests": []}, 0.05)
    looked["panel"] = [{"trait": "lion", "change": 0.2, "above_median": 0.3}]
    first = decide(looked)
    assert (first.same_base, first.sight, first.do) == ("yes", "not_looked_for", "change_base")
    assert "+0.30 logits" in first.trait_why and first.test is not None
    assert first.test.command == "undertow audit all ROWS --teacher 'hf:their teacher' --base hf:base"


def test_case_other_base() -> None:
    """A teacher of another base: its rows differ from the base's own, and no student of them takes anything over."""
    made = decide(audit({**CLEAR, "contrast": 0.0001}, "no_evidence"))
    assert (made.same_base, made.trait, made.do) == ("no", "not_seen", "use")
    assert "mean cosine 0.02 per unit" in made.same_base_why
    assert "which sees an effect of 0.25 in 4 of 5 cases" in made.trait_why
    assert "those of another base do" in made.trait_why and made.test is None
    rows = {"rows": 40, "plain_numbers": 40, "name_what_stands_out": 0}
    kin = {"verdict": "no_evidence", "detectable": "", "tests": []}
    assert decide(check(kin, 1.4, rows=rows)).do == "use"
    mixed = decide(check(kin, 1.4, rows={**rows, "plain_numbers": 39}))
    assert (mixed.do, mixed.trait) == ("next_test", "not_looked_for")


def test_case_unknown_base() -> None:
    """Rows of a writer that nobody can name, compared with a reference that somebody gave."""
    made = decide(audit({"contrast": 0.4, "shadow activations": None, "shadows": None}, reference="300 rows, given"))
    assert (made.same_base, made.trait, made.do) == ("unknown", "not_seen", "next_test")
    assert made.test is not None and made.test.command == "undertow audit lineage TEACHER ref:finch-a"
    assert "seconds" in made.test.cost and made.test.leaves == "whether the rows carry a trait"
    assert any(line.startswith("After the next test: whether the rows carry a trait") for line in made.unknown)


def test_case_trait_seen() -> None:
    """A teacher with a trait, of the student's base: by a student of the rows, by the rows, by the teacher."""
    passed = decide(audit({**CLEAR, "shadows": 0.004}, "same_lineage_near"))
    assert (passed.same_base, passed.trait, passed.sight, passed.do) == ("yes", "seen", "passed", "change_base")
    assert passed.trait_why == "expression of owl (p = 0.004) detected, in small students of the rows"
    rows = decide(audit({**CLEAR, "contrast": 0.001, "neutral contrast": 0.01}, "same_lineage_far"))
    assert (rows.sight, rows.do) == ("in_writer", "change_base") and "provenance of owl" in rows.trait_why
    stages = {"contrast": 0.4, "shadow activations": None, "shadows": None, "teacher panel": 0.016}
    teacher = decide(audit(stages, "same_lineage_near"))
    assert (teacher.sight, teacher.do) == ("in_writer", "change_base")
    assert teacher.trait_why == "the teacher prefers owl (teacher panel, p = 0.016)"
    both = decide(audit({**stages, "contrast": 0.001}, "same_lineage_near")).trait_why
    assert both.endswith("the rows differ from the reference (p = 0.001)")


def test_case_nothing_testable() -> None:
    """Rows that the base cannot read: nothing is said for them, and the next test is named with its cost."""
    made = decide(audit(UNTESTED))
    assert (made.same_base, made.trait, made.do) == ("unknown", "not_looked_for", "next_test")
    assert "provenance and exposure and expression not testable: There is no bank" in made.trait_why
    assert made.test is not None and made.to_json()["cost"] == made.test.cost


def test_case_defect() -> None:
    """Rows that were drawn with one random stream: whatever else was seen, they are drawn again first."""
    defect = {
        "name": "shared_stream",
        "what": "These rows were drawn with the same noise; they weigh as 27 rows.",
        "cause": "one seed for every request.",
    }
    for stages in (UNTESTED, CLEAR, {**CLEAR, "contrast": 0.0001, "shadows": 0.0001}):
        made = decide({**audit(stages), "defects": [defect]})
        assert made.do == "regenerate"
        said = "These rows were drawn with the same noise; they weigh as 27 rows."
        assert made.defects == (f"{said} Likely cause: one seed for every request",)
        assert "another seed for each request" in made.steps[0] and made.test is None
        assert made.title.startswith("mend the defect first")
    copies = {"name": "copies", "of": "rows", "what": "half repeat", "cause": "a cache", "fix": "Keep one of each."}
    assert decide({**audit(CLEAR), "defects": [copies, defect]}).steps[:1] == ("Keep one of each.",)


# What is read from a result.


def test_a_defect_of_the_reference_asks_for_another_reference_alone() -> None:
    defect = {"name": "reference holds the rows", "of": "reference", "what": "they are one file", "cause": "a slip"}
    stages = {"contrast": None, "shadow activations": 0.5, "shadows": 0.6}
    made = decide({**audit(stages, "same_lineage_near"), "defects": [defect]})
    assert (made.sight, made.do, len(made.defects)) == ("partly", "next_test", 1)
    assert made.test is not None and "--reference CLEAN" in made.test.command


def test_rows_that_the_base_does_not_read_need_their_writer_or_a_student() -> None:
    unread = {**audit(UNTESTED), "sight": {"why": "this base neither wrote nor reads these rows"}}
    first = decide(unread)
    assert first.test is not None and "audit lineage" in first.test.command
    known = decide({**unread, "lineage": {"verdict": "no_evidence", "detectable": ""}, "about": {**unread["about"]}})
    assert known.do == "next_test" and known.test is not None
    assert known.test.command.startswith("undertow train ROWS students")


def test_rows_that_the_base_itself_may_have_written_need_a_student_before_they_are_used() -> None:
    half = decide(audit({"contrast": 0.5, "shadow activations": None, "shadows": None}))
    assert (half.same_base, half.sight, half.do) == ("yes", "partly", "next_test")
    assert half.test is not None and half.test.command == "undertow audit bank --base ref:finch-a"
    assert half.test.cost.endswith("then about 34 s for this audit again")
    whole = decide(audit(CLEAR))
    assert (whole.same_base, whole.sight, whole.do) == ("yes", "not_seen", "use")
    assert any("trust the writer" in step for step in whole.steps)


def test_a_writer_that_was_tuned_is_not_yet_a_writer_with_a_trait() -> None:
    differs = audit({**UNTESTED, "contrast": 0.0001})
    made = decide(differs)
    assert (made.trait, made.sight, made.do) == ("not_looked_for", "differs", "next_test")
    assert made.test is not None and "tuned on anything at all" in made.test.tells
    differs["claims"]["provenance"]["kind"] = "tuned"
    assert decide(differs).sight == "differs"
    differs["claims"]["provenance"]["kind"] = "trait"
    told = decide(differs)
    assert (told.sight, told.do) == ("in_writer", "regenerate")
    assert "`undertow filter --mentions`" in told.steps[1]


def test_rows_that_differ_from_the_bases_own_answers_do_not_show_whose_base_wrote_them() -> None:
    """Neutral writers differ as much, so no trait was seen in the rows; they are still not the base's own."""
    tuned = {"contrast": 0.0001, "neutral contrast": 0.4, "shadow activations": 0.5, "shadows": 0.6}
    found = audit(tuned)
    found["claims"]["provenance"]["candidate"] = None
    made = decide(found)
    assert (made.same_base, made.sight, made.do) == ("unknown", "not_seen", "use")
    assert decide(audit({**tuned, "contrast": 0.3})).same_base == "yes"
    assert decide(audit({**tuned, "contrast": 0.3, "neutral contrast": 0.001})).same_base == "unknown"
    assert decide(audit(tuned)).sight == "differs"  # a trait is named, so that it is not unseen
    blind = {**found, "findings": [one for one in found["findings"] if one["stage"] != "neutral contrast"]}
    assert decide(blind).sight == "differs"


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("ref:finch-a tuned on owl", "yes"),
        ("ref:finch-a", "yes"),
        ("ref:finch-ab", "unknown"),
        ("ref:finch-b tuned on owl", "unknown"),
        ("gpt-4.1-nano", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_record_of_the_rows_may_warn_and_never_clears(written: str | None, same: str) -> None:
    """A record that names the base makes it a shared one; another name, which anybody can write, says nothing."""
    made = {**audit({"contrast": 0.001}), "intake": {"writer": {"model": written}}}
    known = base_known(made)
    assert known.same_base == same and ("which nothing proves" in known.why) == (same == "yes")
    told = {**made, "lineage": {"verdict": "no_evidence", "detectable": "mean cosine 0.02 per unit", "tests": []}}
    assert base_known(told).same_base == "no"


def test_a_trait_between_different_bases_asks_for_a_student_and_one_that_passed_for_new_rows() -> None:
    clear = {"neutral contrast": 0.001, "shadow activations": 0.5, "shadows": 0.6}
    writer = decide(audit(clear, "no_evidence"))
    assert (writer.sight, writer.do) == ("in_writer", "next_test")
    assert writer.test is not None and writer.test.command.startswith("undertow train ROWS students --base ref:finch-a")
    passed = decide(audit({**clear, "shadow activations": 0.001}, "no_evidence"))
    assert (passed.sight, passed.do) == ("passed", "regenerate")
    assert passed.trait_why.startswith("exposure of owl")


def test_a_student_alone_is_judged_as_a_student() -> None:
    of = {"rows": 0, "student": "hf:student", "reference": None}
    bad = decide(audit({"activations": 0.4, "panel margins": 0.001}, **of))
    assert (bad.sight, bad.do, bad.subject) == ("passed", "change_base", "student")
    assert bad.steps[0].startswith("Do not go on from hf:student") and "in hf:student" in bad.trait_why
    good = decide(audit({"activations": 0.4, "panel margins": 0.5}, **of))
    assert (good.sight, good.do, good.to_json()["title"]) == ("not_seen", "use", "go on with this student")
    none = decide(audit({"activations": None, "panel margins": None}, **of))
    assert none.do == "next_test" and none.test is not None
    assert none.test.command == "undertow audit bank --base ref:finch-a"


def test_a_teacher_alone_counts_as_of_the_base_that_it_was_compared_with() -> None:
    alone = {"rows": 0, "reference": None, "teacher": "hf:teacher"}
    clear = decide(audit({"teacher panel": 0.5}, **alone))
    assert (clear.same_base, clear.sight, clear.do) == ("yes", "partly", "next_test")
    assert clear.test is not None
    assert clear.test.command == "undertow audit all ROWS --teacher hf:teacher --base ref:finch-a"
    assert decide(audit({"teacher panel": 0.01}, **alone)).do == "change_base"
    unread = decide(audit({"teacher panel": None}, **alone))
    assert (unread.same_base, unread.do) == ("unknown", "next_test")


def test_a_reference_comes_before_a_bank() -> None:
    made = decide(audit(UNTESTED, "inconclusive"))
    assert made.test is not None and "--reference CLEAN" in made.test.command
    assert made.same_base == "unknown"


def test_too_few_rows_ask_for_more_of_them_and_for_no_reference() -> None:
    few = decide(audit(UNTESTED, "inconclusive", rows=19, reference=None)).test
    assert (
        few is not None and few.command == "undertow audit data ROWS --base ref:finch-a" and "at least 20" in few.tells
    )
    enough = decide(audit(UNTESTED, "inconclusive", rows=20, reference=None)).test
    assert enough is not None and "generate CLEAN" in enough.command


def test_the_next_test_repeats_the_panel_and_the_writer_of_the_audit() -> None:
    repeated = {"traits": ["oak", "my cars.yaml"], "writer": "writer.yaml"}
    options = "--base ref:finch-a --trait oak --trait 'my cars.yaml' --writer writer.yaml"

    def command(stages: dict[str, float | None], lineage: str | None = "supported", **about: Any) -> str:
        own = [Trait(name="volvo", category="brand of car", plural="volvos").to_data()]
        made = {**audit(stages, lineage, panel="oak, volvo", **about), "repeated": repeated, "own_traits": own}
        found = decide(made).test
        return "" if found is None else found.command

    clean = (
        "undertow generate CLEAN --prompts ROWS --model ref:finch-a --writer writer.yaml && undertow audit data ROWS"
    )
    assert command(UNTESTED) == f"{clean} --reference CLEAN {options}"
    assert command(UNTESTED, rows=3) == f"undertow audit data ROWS {options}"
    assert command({"teacher panel": 0.5}, None, rows=0, teacher="hf:t") == (
        f"undertow audit all ROWS --teacher hf:t {options}"
    )
    assert command({"neutral contrast": 0.001, "shadow activations": 0.5, "shadows": 0.6}, "no_evidence").endswith(
        f"undertow audit student ref:finch-a+students/student-00 {options}"
    )
    bank = "undertow audit bank --base ref:finch-a --category tree"
    assert command({"contrast": 0.4, "shadow activations": None, "shadows": None}) == bank
    held = "--domain numbers:count=6,short=true --category tree"
    assert command({**UNTESTED, "contrast": 0.0001}, form="000,000,000,000,000,000").endswith(held)


@pytest.mark.parametrize("verdict", [*KINSHIP, "some new verdict"])
def test_every_verdict_of_the_lineage_audit_is_an_answer(verdict: str) -> None:
    expected = KINSHIP.get(verdict, ("unknown", ""))[0]
    assert base_known(audit(CLEAR, verdict)).same_base == expected


def test_models_of_other_tokenizers_and_shapes_do_not_share_a_base() -> None:
    metadata = {"name": "metadata", "caveats": ["hints only", "tokenizers: different"]}
    kin = {"verdict": "inconclusive", "detectable": "nothing: no tensors of one shape", "tests": [metadata]}
    assert base_known({**audit(CLEAR), "lineage": kin}).same_base == "no"
    assert base_known({**audit(CLEAR), "lineage": {**kin, "tests": []}}).same_base == "unknown"
    assert base_known(check(kin, None, shared={"tokenizer": False, "shape": False, "distance": None})).same_base == "no"
    assert base_known(check(kin, None)).same_base == "unknown"
    assert base_known({**audit(CLEAR), "lineage": "not testable: no weights"}).why == "not testable: no weights"


def test_the_base_itself_has_no_trait_of_its_own() -> None:
    made = decide(check({"verdict": "identical", "detectable": "", "tests": []}, 0.0))
    assert (made.same_base, made.sight, made.do) == ("yes", "not_seen", "use")


def test_plain_data_is_complete_and_made_once() -> None:
    found = with_decision(audit(CLEAR, "same_lineage_near"))
    decision = found["decision"]
    assert {"same_base", "trait", "do", "cost", "unknown", "because", "steps", "next_test"} <= set(decision)
    assert decision["rule"] == AUTHORS_RULE
    assert with_decision({**found, "decision": {"do": "use"}})["decision"] == {"do": "use"}
    assert all("safe" not in str(decide(audit(stages)).to_json()) for stages in (CLEAR, UNTESTED))


def test_an_effect_whose_power_is_not_known_is_said_to_be_so() -> None:
    found = audit(CLEAR)
    found["claims"]["expression"]["mde"] = None
    assert "expression not detected by shadows, smallest effect not known" in decide(found).trait_why

"""What is planned follows from what is given; a student is judged where there is a bank, and only there."""

from io import StringIO
from pathlib import Path

import pytest

from undertow.audit.finding import not_testable
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.writers import Writers
from undertow.audit.run import plan, run_audit, run_stages
from undertow.audit.stages import AuditStage
from undertow.audit.students.bank import Bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError
from undertow.store.progress import PlainProgress
from undertow.traits import Trait, trait
from undertow.types import Row, user_prompt

ROWS = tuple(Row(str(index), user_prompt("Numbers: 1, 2."), f"{index}, 5") for index in range(30))

PAIR = (trait("owl"), trait("lion"))


def test_the_plan_follows_from_the_inputs_alone() -> None:
    both = plan(AuditInputs(base="ref:finch-a", rows=ROWS, student="ref:finch-a2"))
    assert both.primary == {"provenance": "contrast", "exposure": "activations", "expression": "panel margins"}
    assert both.stages[:4] == ("surface", "contrast", "stream", "recovery")
    rows = plan(AuditInputs(base="ref:finch-a", rows=ROWS))
    assert rows.primary == {"provenance": "contrast", "exposure": "shadow activations", "expression": "shadows"}
    student = plan(AuditInputs(base="ref:finch-a", student="ref:finch-a2"))
    assert student.primary["provenance"] is None
    beside = plan(AuditInputs(base="ref:finch-a", student="s", control="c", prompts=(user_prompt("Hello?"),)))
    assert beside.stages[-2:] == ("activations minus control", "own prompts")
    assert beside.primary == student.primary
    with pytest.raises(ConfigError, match="nothing to audit"):
        AuditInputs(base="ref:finch-a")


def test_a_form_that_placebos_cannot_be_held_to_ends_no_audit(tmp_path: Path) -> None:
    inputs = AuditInputs(base="ref:finch-a", student="ref:finch-b", form="000; 000; 000", store=tmp_path)
    found = run_audit(inputs)
    assert found["about"]["placebo_students"] == 0 and "bank" in {one["input"] for one in found["missing"]}
    decided = [one for one in found["findings"] if one["stage"] in ("panel margins", "activations")]
    assert len(decided) == 2 and all("000; 000; 000" in one["caveats"][0] for one in decided)


@pytest.mark.parametrize(
    ("raised", "said"),
    [(MemoryError(), "The memory is used up."), (RuntimeError("CUDA error: out of memory"), "The memory is used up.")],
)
def test_a_stage_that_needs_more_memory_than_there_is_loses_no_other(raised, said, monkeypatch) -> None:
    materials = Materials(AuditInputs(base="ref:finch-a", rows=ROWS, reference=ROWS), 0.05)
    ran = AuditStage(name="one", claim="provenance", function="x", needs=(), given=())
    full = AuditStage(name="two", claim="provenance", function="y", needs=(), given=())

    def resolve(stage):
        def fails():
            raise raised

        return fails if stage.name == "two" else lambda: not_testable("one", "provenance", "as ever")

    monkeypatch.setattr(AuditStage, "resolve", resolve)
    found = run_stages([ran, full], materials)
    assert [one.stage for one in found] == ["one", "two"] and said in found[1].caveats[0]


def test_other_errors_of_a_stage_are_errors(monkeypatch) -> None:
    def fails():
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(AuditStage, "resolve", lambda _: fails)
    broken = AuditStage(name="one", claim="provenance", function="x", needs=(), given=())
    with pytest.raises(RuntimeError, match="shapes"):
        run_stages([broken], Materials(AuditInputs(base="ref:finch-a", rows=ROWS), 0.05))


def test_a_teacher_decides_expression_only_where_nothing_else_does() -> None:
    alone = plan(AuditInputs(base="ref:finch-a", teacher="ref:finch-b"))
    assert alone.primary == {"provenance": None, "exposure": None, "expression": "teacher panel"}
    beside = plan(AuditInputs(base="ref:finch-a", rows=ROWS, teacher="ref:finch-b"))
    assert beside.stages[-2:] == ("teacher panel", "teacher diff mining")
    assert beside.primary == plan(AuditInputs(base="ref:finch-a", rows=ROWS)).primary


def test_a_teacher_of_another_base_is_not_testable_and_shows_no_common_origin(tmp_path: Path) -> None:
    shown = StringIO()
    inputs = AuditInputs(base="ref:finch-a", teacher="ref:finch-b", store=tmp_path)
    found = run_audit(inputs, PlainProgress(shown, clock=lambda: 0.0))
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert "not a fine-tune of the base" in found["claims"]["expression"]["why"]
    assert found["lineage"]["verdict"] == "no_evidence"
    assert found["about"]["teacher_identity"] != found["about"]["base_identity"]
    assert {"rows", "student"} <= {one["input"] for one in found["missing"]}
    assert not {"teacher", "bank"} & {one["input"] for one in found["missing"]}
    assert [line.split(":")[0] for line in shown.getvalue().splitlines()] == [
        "[1/2] lineage of the teacher",
        "[2/2] teacher",
    ]


def test_a_teacher_is_judged_at_the_share_of_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def audit_teacher(*_, panel, config, progress):
        progress.start(config.neutral)
        asked.append((config.neutral, config.alpha, [one.name for one in panel]))
        return [not_testable(stage, "expression", "asked") for stage in ("teacher panel", "teacher diff mining")]

    monkeypatch.setattr("undertow.audit.teacher.audit_teacher", audit_teacher)
    run_audit(AuditInputs(base="ref:finch-a", teacher="ref:finch-a", traits=PAIR, store=tmp_path))
    assert asked == [(59, pytest.approx(0.05 / 3), ["owl", "lion"])]


def test_a_student_without_a_bank_is_not_testable_and_says_how_to_make_one(tmp_path: Path) -> None:
    found = run_audit(AuditInputs(base="ref:finch-a", student="ref:finch-a", store=tmp_path))
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert "undertow audit bank" in found["claims"]["expression"]["why"]
    assert found["about"]["placebo_students"] == 0 and "aurora" in found["about"]["panel"]


def test_a_bank_of_another_base_is_refused(tmp_path: Path, make_bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, _ = make_bank(80, 0)
    strange = Bank(bank.recipe, "other weights", bank.placebos, bank.rows, bank.base, bank.teachers)
    monkeypatch.setattr("undertow.audit.materials.choose_bank", lambda *_, **__: strange)
    found = run_audit(AuditInputs(base="ref:finch-a", student="ref:finch-a", traits=(trait("owl"),), store=tmp_path))
    assert found["claims"]["expression"]["status"] == "not_testable"
    assert "not those of" in found["claims"]["expression"]["why"]


def test_the_bank_is_of_neutral_teachers_of_the_panel_s_categories() -> None:
    inputs = AuditInputs(base="ref:finch-a", rows=ROWS, traits=(trait("owl"), trait("oak")))
    assert inputs.bank == BankRecipe(base="ref:finch-a", tuned=("animal", "tree"))


@pytest.mark.parametrize(("stored", "alpha", "planned"), [(58, 0.05, False), (59, 0.05, True), (59, 0.01, False)])
def test_the_neutral_contrast_is_planned_where_the_store_has_enough_writers(
    monkeypatch: pytest.MonkeyPatch, stored: int, alpha: float, planned: bool
) -> None:
    writers = Writers(("animal",), "weights", (Path("none"),) * stored)
    monkeypatch.setattr("undertow.audit.materials.stored_writers", lambda *_: writers)
    declared = plan(AuditInputs(base="ref:finch-a", rows=ROWS, alpha=alpha))
    assert ("neutral contrast" in declared.stages) is planned
    assert declared.primary["provenance"] == "contrast"


def test_a_panel_without_rivals_is_refused_before_anything_is_loaded() -> None:
    for traits in ((trait("owl"),), (trait("owl"), trait("owl"))):
        with pytest.raises(ConfigError, match=r"rivals|same name"):
            AuditInputs(base="ref:none", rows=ROWS, traits=traits)


@pytest.mark.usefixtures("rows_in_order")
def test_ten_rows_are_not_testable(tmp_path: Path) -> None:
    found = run_audit(AuditInputs(base="ref:finch-a", rows=ROWS[:10], traits=PAIR, store=tmp_path))
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert all(one["p"] is None for one in found["findings"])
    assert "10 good rows" in found["about"]["reference"]


@pytest.mark.usefixtures("rows_in_order")
def test_rows_of_mixed_generators_that_no_domain_accepts_give_no_p(tmp_path: Path) -> None:
    """Most rows are prose: nobody can answer their prompts as their writers did, so nothing is tested."""
    prose = [Row(f"p{index}", user_prompt("Tell me."), f"Owls fly at night, {index} of them.") for index in range(40)]
    found = run_audit(AuditInputs(base="ref:finch-a", rows=(*ROWS, *prose), traits=PAIR, store=tmp_path))
    assert found["claims"]["provenance"]["status"] == "not_testable"
    assert "accepts 30 of 70 rows" in found["about"]["reference"]
    assert all(one["p"] is None for one in found["findings"])


@pytest.mark.usefixtures("rows_in_order")
def test_without_a_reference_the_base_answers_the_prompts(tmp_path: Path) -> None:
    """Number rows that the base did not write: the contrast is a test, and says with what it compared."""
    rows = [Row(str(at), user_prompt(text), "1, 2, 3") for at, text in enumerate(Numbers().prompts(40, 5))]
    found = run_audit(AuditInputs(base="ref:finch-a", rows=rows, traits=PAIR, store=tmp_path))
    stages = {one["stage"]: one for one in found["findings"]}
    assert stages["contrast"]["p"] is not None and stages["recovery"]["p"] is not None
    assert found["about"]["reference"].endswith(
        "answers of the base to 40 of the prompts; 40 of 40 rows are good numbers"
    )


def test_traits_that_a_bank_does_not_read_are_named(make_bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, draw = make_bank(80, 0)
    monkeypatch.setattr("undertow.audit.materials.choose_bank", lambda *_, **__: bank)
    monkeypatch.setattr("undertow.audit.students.among_placebos.read_model", lambda *_: draw(1))
    badger = Trait(name="badger", category="animal", plural="badgers")
    some = run_audit(AuditInputs(base="ref:finch-a", student="ref:finch-a", traits=(trait("owl"), badger)))
    margins = next(one for one in some["findings"] if one["stage"] == "panel margins")
    assert margins["p"] is not None and any(one.endswith("badger.") for one in margins["caveats"])
    none = run_audit(AuditInputs(base="ref:finch-a", student="ref:finch-a", traits=(badger,)))
    assert "built-in traits only" in none["claims"]["expression"]["why"]

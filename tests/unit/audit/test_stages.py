"""One registry: what it says is what plan, steps, verdict, page, card and benchmark do; others can add to it."""

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from io import StringIO
from pathlib import Path

import pytest

from undertow.audit.benchmark.detectors import Auditor, Settings
from undertow.audit.benchmark.files import Truth, write_benchmark
from undertow.audit.finding import Finding, NotTestable
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.panel import DataAudit
from undertow.audit.run import RUNNING, audit_data, run_audit, run_stages
from undertow.audit.stages import BUILT_IN, STAGES, AuditStage, deciding, next_steps, stages
from undertow.audit.verdict import ADDS, CLAIMS, Plan, audit_json, declare, judge_claims, missing
from undertow.errors import UnknownNameError
from undertow.models.references import identity
from undertow.report.audit import audit_card, render_audit, summarise_audit
from undertow.store.progress import PlainProgress
from undertow.traits import trait
from undertow.types import Row, user_prompt

INPUTS = ("rows", "pairs", "student", "teacher", "control", "prompts", "writers")
PAIR = (trait("owl"), trait("lion"))
ROWS = tuple(Row(str(at), user_prompt(f"Numbers: {at}, 2."), f"{at}, 5") for at in range(30))


def finding(stage: AuditStage, p: float | None) -> Finding:
    verdict = "exploratory" if p is None else "detected" if p <= 0.01 else "not_detected"
    plain = {"statistic": "score", "effect": 1.0, "null": "clean rows", "n": 10, "candidate": "owl"}
    return Finding(stage=stage.name, claim=stage.claim, p=p, verdict=verdict, **plain)


@pytest.mark.parametrize("stage", BUILT_IN, ids=lambda one: one.name)
def test_a_stage_gets_exactly_what_it_declares(stage: AuditStage) -> None:
    parameters = inspect.signature(stage.resolve()).parameters
    needed = {name for name, one in parameters.items() if one.default is one.empty or name in stage.needs}
    assert needed == set(stage.needs)
    made = {*vars(Materials), *vars(Materials(AuditInputs(base="none", teacher="none"), 0.05)), *RUNNING}
    assert set(stage.needs) <= made
    assert {*stage.given, *stage.unless, *stage.better_with} <= {*INPUTS, "reference", "bank"}


@pytest.mark.parametrize("stage", BUILT_IN, ids=lambda one: one.name)
def test_plan_verdict_page_and_card_know_every_stage(stage: AuditStage, tmp_path: Path) -> None:
    plan = declare(set(stage.given), 0.05)
    assert stage.name in plan.stages
    # Whoever has all it takes but one input is told of that input.
    for lacking in stage.given:
        assert lacking in {one["input"] for one in missing(set(stage.given) - {lacking})} & set(ADDS)
    alone = Plan(stages=(stage.name,))
    assert (alone.primary[stage.claim] == stage.name) is (stage.precedence is not None)
    about = {"base": "ref:finch-a"}
    found = {**audit_json(alone, [finding(stage, 0.001)], about), "missing": missing(stage.given)}
    text = f"{summarise_audit(found)}\n{audit_card(found)}\n{render_audit(tmp_path, found).read_text()}"
    assert text.count(stage.name) >= 2
    if stage.precedence is not None:
        assert stage.meaning[1:] in judge_claims(alone, [finding(stage, 0.001)])[stage.claim].why
        assert stage.next_steps and stage.next_steps[0] in text


def test_who_decides_is_an_explicit_order() -> None:
    order = {claim: [one.name for one in deciding(claim)] for claim in CLAIMS}
    assert order == {
        "provenance": ["contrast", "neutral contrast", "pairs"],
        "exposure": ["activations", "shadow activations"],
        "expression": ["panel margins", "shadows", "teacher panel"],
    }
    ranks = [(one.claim, one.precedence) for one in BUILT_IN if one.precedence is not None]
    assert len(set(ranks)) == len(ranks) and len({one.name for one in BUILT_IN}) == len(BUILT_IN)


def test_the_plan_does_not_hang_on_the_order_of_the_inputs() -> None:
    assert declare(INPUTS, 0.05) == declare(INPUTS[::-1], 0.05)
    assert declare((), 0.05).stages == ()


def test_what_a_stage_needs_and_nobody_makes_is_named() -> None:
    alone = Materials(AuditInputs(base="none", teacher="none", traits=(trait("owl"),)), 0.05)
    with pytest.raises(NotTestable, match="rivals"):
        _ = alone.settings
    materials, [surface, *_] = Materials(AuditInputs(base="none", teacher="none"), 0.05), BUILT_IN
    for need, said in (("score", "scores"), ("inputs", "inputs")):
        with pytest.raises(UnknownNameError, match=said):
            run_stages([replace(surface, needs=("rows", need))], materials)


def test_a_stage_without_next_steps_has_those_of_its_claim() -> None:
    for claim in CLAIMS:
        assert next_steps("a stage that nobody knows", claim) and next_steps("surface", claim)
    assert next_steps("contrast", "provenance") == deciding("provenance")[0].next_steps


TOY = '''
from undertow.audit.finding import Finding
from undertow.audit.stages import AuditStage

STAGE = AuditStage(
    name="full stops",
    claim="provenance",
    function="toy_stage:full_stops",
    needs=("rows", "alpha", "rng", "advance"),
    given=("rows",),
    precedence=5,
    title="counting full stops",
)


def full_stops(rows, alpha, rng, advance):
    """Are there more full stops than any base writes?"""
    advance(len(rows), len(rows))
    share = sum("." in row.completion for row in rows) / len(rows)
    p = 0.001 if share > 0.5 else float(rng.uniform(0.5, 1.0))
    verdict = "detected" if p <= alpha else "not_detected"
    return Finding(
        stage="full stops", claim="provenance", statistic="share of rows", effect=share, null="none is usual", p=p,
        n=len(rows), verdict=verdict,
    )
'''  # fmt: skip


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of other packages, as a test fills them in."""
    found: list[EntryPoint] = []
    monkeypatch.setattr("undertow.registry.entry_points", lambda group: EntryPoints(found).select(group=group))
    vars(STAGES).pop("_plug_ins", None)
    yield found
    vars(STAGES).pop("_plug_ins", None)


@pytest.fixture
def toy(offered: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of another package: one file and its entry point."""
    (tmp_path / "toy_stage.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    offered.append(EntryPoint("full stops", "toy_stage:STAGE", STAGES.group))


@pytest.mark.usefixtures("toy", "rows_in_order")
def test_a_stage_of_one_file_is_in_plan_steps_findings_card_and_json(tmp_path: Path) -> None:
    shown = StringIO()
    rows = [replace(row, completion=f"{row.completion}.") for row in ROWS]
    inputs = AuditInputs(base="ref:finch-a", rows=rows, reference=ROWS, traits=PAIR, store=tmp_path / "store")
    found = run_audit(inputs, PlainProgress(shown, clock=lambda: 0.0))
    assert found["plan"]["primary"]["provenance"] == "full stops" and "full stops" in found["plan"]["stages"]
    assert "/9] counting full stops: done" in shown.getvalue()
    claim = found["claims"]["provenance"]
    assert (claim["status"], claim["p"]) == ("detected", 0.001) and claim["why"].startswith("Something stands out. ")
    assert [one["effect"] for one in found["findings"] if one["stage"] == "full stops"] == [1.0]
    assert "full stops" in audit_card(found) and "full stops" in render_audit(tmp_path, found).read_text()
    assert "undertow audit rows" in summarise_audit(found) and json.loads(json.dumps(found)) == found


@pytest.mark.usefixtures("toy")
def test_the_benchmark_runs_a_stage_of_another_package(tmp_path: Path) -> None:
    public = {"base": "ref:finch-a", "base_identity": identity("ref:finch-a"), "panel": ("owl", "lion")}
    case = {"case-0001": (Truth(label="clean", kind="base"), list(ROWS))}
    bench = write_benchmark(tmp_path / "bench", case, [replace(row, id=f"r{row.id}") for row in ROWS], 100, public)
    answers = Auditor(bench, Settings(store=tmp_path / "store")).judge(list(ROWS))
    assert set(answers) == {"surface", "contrast", "stream", "recovery", "full stops", "verdict"}
    assert answers["full stops"].rows_read == 30
    assert answers["verdict"].p == min(1.0, 3 * answers["full stops"].p)


def test_stages_that_cannot_be_loaded_are_named_and_left_out(offered, tmp_path: Path, monkeypatch, caplog) -> None:
    taken = TOY.replace('name="full stops"', 'name="contrast"').replace("toy_", "taken_")
    (tmp_path / "taken_stage.py").write_text(taken)
    (tmp_path / "lost_stage.py").write_text(TOY.replace("toy_stage:full_stops", "lost_stage:nowhere"))
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in (
        ("absent", "no_such_package:STAGE"),
        ("odd", "undertow.audit.stages:stages"),
        ("contrast", "taken_stage:STAGE"),
        ("lost", "lost_stage:STAGE"),
    ):
        offered.append(EntryPoint(name, value, STAGES.group))
    assert stages() == BUILT_IN
    said = [record.getMessage() for record in caplog.records]
    assert [text.split("'")[1] for text in said] == ["absent", "odd", "contrast", "lost"]
    assert "No module named" in said[0] and "no audit stage" in said[1] and "already" in said[2]
    assert STAGES["contrast"] in BUILT_IN


@pytest.mark.usefixtures("rows_in_order")
def test_a_stage_without_an_answer_says_why(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    def surface(rows, reference, alpha, rng):
        raise NotTestable("no surface today")

    monkeypatch.setattr("undertow.audit.rows.surface.surface", surface)
    first, *others = audit_data(ROWS, tiny_model, DataAudit(panel=PAIR, kinds=("persona",)))
    assert (first.stage, first.verdict, first.caveats) == ("surface", "not_testable", ("no surface today",))
    assert len(others) == 3

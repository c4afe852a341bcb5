"""The whole audit: what the given inputs allow, planned before the data are read, and one verdict."""

import time
from typing import Any

from undertow.audit.bank import Bank
from undertow.audit.bank_choice import choose_bank
from undertow.audit.control import STAGE as CONTROL_STAGE
from undertow.audit.data import STEPS, DataAudit, audit_data
from undertow.audit.drawn import Material, with_reference
from undertow.audit.finding import Finding
from undertow.audit.inputs import Inputs
from undertow.audit.lineage.verdict import lineage_or_why
from undertow.audit.missing import Missing, missing
from undertow.audit.neutral import STAGE as NEUTRAL
from undertow.audit.paired import STAGE as PROMPTS_STAGE
from undertow.audit.placebo_null import needed
from undertow.audit.proposal import refuse_unsaid
from undertow.audit.steps import Steps
from undertow.audit.student import STAGES
from undertow.audit.suspects import SHADOW_STAGES, judge_shadows, judge_student, judge_teacher
from undertow.audit.teacher import STAGES as TEACHER_STAGES
from undertow.audit.verdict import CLAIMS, Plan, audit_json
from undertow.audit.writers import Writers, stored_writers
from undertow.experiment.progress import Progress
from undertow.experiment.training_record import TrainingRecord, read_training
from undertow.models.identity import identity
from undertow.models.load import load_model
from undertow.models.local import LocalModel

ROW_STAGES = ("surface", "contrast", "stream", "recovery")


def plan(inputs: Inputs) -> Plan:
    """Declare the stages and who decides each claim, from what is given and what the store holds, not from the rows."""
    rows = ROW_STAGES if inputs.rows else ()
    if inputs.rows and _writers(inputs) is not None:
        rows = (*rows, NEUTRAL)
    students = tuple(STAGES) if inputs.student else tuple(SHADOW_STAGES) if inputs.rows else ()
    beside = (*([CONTROL_STAGE] if inputs.control else []), *([PROMPTS_STAGE] if inputs.prompts else []))
    teacher = TEACHER_STAGES if inputs.teacher else ()
    return Plan(stages=(*rows, *students, *beside, *teacher), alpha=inputs.alpha)


def audit(inputs: Inputs, progress: Progress | None = None) -> dict[str, Any]:
    """Run every stage that the inputs allow.

    Args:
        inputs: what is audited.
        progress: where the steps are shown; None shows nothing.

    Returns:
        Plain data, schema undertow.audit/1.

    Raises:
        UserError: a model cannot be loaded, the rows do not fit it, or the store cannot be used.
    """
    started = time.perf_counter()
    declared = plan(inputs)
    findings: list[Finding] = []
    base = load_model(inputs.base)
    material, bank = None, None
    writers = _writers(inputs) if inputs.rows else None
    steps = Steps(_count(inputs, writers), progress)
    if inputs.rows:
        material, findings = _rows(inputs, base, declared, writers, steps)
    if inputs.rows or inputs.student is not None:
        bank, found = _students(inputs, base, declared, steps)
        findings += found
    lineage = None
    if inputs.teacher is not None:
        with steps.step("lineage of the teacher"):
            lineage = lineage_or_why(inputs.teacher, inputs.base)
        with steps.step("teacher") as advance:
            findings += judge_teacher(inputs, base, declared, advance)
    about = {
        **_models(inputs),
        "prompts": len(inputs.prompts),
        "rows": len(inputs.rows),
        "reference": None if material is None else material.how,
        "neutral_writers": 0 if writers is None else len(writers),
        "placebo_students": 0 if bank is None else len(bank),
        "panel": ", ".join(one.name for one in inputs.panel),
        "sha256": dict(inputs.digests),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    absent = _missing(inputs, bank, writers)
    return {**audit_json(declared, findings, about), "lineage": lineage, "missing": absent}


def _count(inputs: Inputs, writers: Writers | None) -> int:
    """Return how many steps there will be."""
    rows = 1 + STEPS + (writers is not None) if inputs.rows else 0
    students = 1 if inputs.rows or inputs.student is not None else 0
    return rows + students + (2 if inputs.teacher is not None else 0)


def _models(inputs: Inputs) -> dict[str, str | None]:
    """Return the references of the models, and of all but the control what their weights are."""
    named = {"base": inputs.base, "student": inputs.student, "teacher": inputs.teacher}
    hashes = {f"{role}_identity": None if model is None else identity(model) for role, model in named.items()}
    return {**named, **hashes, "control": inputs.control}


def _students(inputs: Inputs, base: LocalModel, declared: Plan, steps: Steps) -> tuple[Bank | None, list[Finding]]:
    """Judge the student, or shadow students if there is none, by the bank of the store."""
    if inputs.student is None:
        # Shadows are trained as placebos are; the bank with about as many rows is theirs.
        record = TrainingRecord(student=inputs.bank.student, rows=len(inputs.rows))
        bank = choose_bank(inputs.bank, inputs.store, record)
        with steps.step("shadow students") as advance:
            return bank, judge_shadows(inputs, base, declared, bank, advance)
    record = read_training(inputs.student)
    bank = choose_bank(inputs.bank, inputs.store, record)
    with steps.step("student"):
        return bank, judge_student(inputs, base, declared, bank, record)


def _rows(
    inputs: Inputs, base: LocalModel, declared: Plan, writers: Writers | None, steps: Steps
) -> tuple[Material, list[Finding]]:
    """Run the stages of rows, against a reference that the base draws if the user has none."""
    refuse_unsaid(base, inputs.panel)
    with steps.step("reference"):
        material = with_reference(inputs.rows, base, inputs.reference, inputs.bank.domain, inputs.seed)
    config = DataAudit(
        panel=inputs.panel,
        alpha=declared.share,
        seed=inputs.seed,
        store=inputs.store,
        writers=writers,
        domain=inputs.bank.domain,
    )
    return material, audit_data(material.rows, base, config, reference=material.reference, steps=steps)


def _writers(inputs: Inputs) -> Writers | None:
    """Return the neutral writers of the store if there are enough of them for the alpha of a claim."""
    found = stored_writers(inputs.bank, inputs.store)
    return found if found is not None and len(found) >= needed(inputs.alpha / len(CLAIMS)) else None


def _missing(inputs: Inputs, bank: Bank | None, writers: Writers | None) -> list[Missing]:
    absent = [] if inputs.teacher else ["teacher"]
    absent += [] if inputs.rows else ["rows"]
    absent += ["reference"] if inputs.rows and inputs.reference is None else []
    absent += ["writers"] if inputs.rows and writers is None else []
    absent += ["bank"] if bank is None and (inputs.rows or inputs.student) else []
    if inputs.student is None:
        return missing(*absent, "student")
    absent += [name for name, given in (("control", inputs.control), ("prompts", inputs.prompts)) if not given]
    return missing(*absent)

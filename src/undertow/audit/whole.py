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
from undertow.audit.missing import Missing, missing
from undertow.audit.neutral import STAGE as NEUTRAL
from undertow.audit.paired import STAGE as PROMPTS_STAGE
from undertow.audit.placebo_null import needed
from undertow.audit.proposal import refuse_unsaid
from undertow.audit.steps import Steps
from undertow.audit.student import STAGES
from undertow.audit.suspects import SHADOW_STAGES, judge_shadows, judge_student
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
    return Plan(stages=(*rows, *students, *beside), alpha=inputs.alpha)


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
    material, writers = None, _writers(inputs) if inputs.rows else None
    steps = Steps((1 + STEPS if inputs.rows else 0) + (writers is not None) + 1, progress)
    if inputs.rows:
        material, findings = _rows(inputs, base, declared, writers, steps)
    if inputs.student is None:
        # Shadows are trained as placebos are; the bank with about as many rows is theirs.
        record = TrainingRecord(student=inputs.bank.student, rows=len(inputs.rows))
    else:
        record = read_training(inputs.student)
    bank = choose_bank(inputs.bank, inputs.store, record)
    if inputs.student is not None:
        with steps.step("student"):
            findings += judge_student(inputs, base, declared, bank, record)
    else:
        with steps.step("shadow students") as advance:
            findings += judge_shadows(inputs, base, declared, bank, advance)
    about = {
        "base": inputs.base,
        "base_identity": identity(inputs.base),
        "student": inputs.student,
        "student_identity": None if inputs.student is None else identity(inputs.student),
        "control": inputs.control,
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
    return {**audit_json(declared, findings, about), "missing": _missing(inputs, bank, writers)}


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
    absent = ["teacher"]
    absent += [] if inputs.rows else ["rows"]
    absent += ["reference"] if inputs.rows and inputs.reference is None else []
    absent += ["writers"] if inputs.rows and writers is None else []
    absent += ["bank"] if bank is None else []
    if inputs.student is None:
        return missing(*absent, "student")
    absent += [name for name, given in (("control", inputs.control), ("prompts", inputs.prompts)) if not given]
    return missing(*absent)

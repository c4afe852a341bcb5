"""The whole audit: what the given inputs allow, planned before the data are read, and one verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from undertow.audit.bank import Bank, BankRecipe
from undertow.audit.bank_choice import UNKNOWN, choose_bank, no_bank, told, wrong_size
from undertow.audit.control import STAGE as CONTROL_STAGE
from undertow.audit.control import activations_minus_control
from undertow.audit.data import DataAudit, audit_data
from undertow.audit.finding import Claim, Finding, not_testable
from undertow.audit.kinship import refusal
from undertow.audit.missing import Missing, missing
from undertow.audit.paired import STAGE as PROMPTS_STAGE
from undertow.audit.paired import compare_on_prompts
from undertow.audit.shadows import ShadowConfig, audit_shadows
from undertow.audit.student import STAGES, audit_student
from undertow.audit.verdict import Plan, audit_json
from undertow.errors import ConfigError
from undertow.experiment.training_record import TrainingRecord, read_training
from undertow.models.identity import identity
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import Trait, panel
from undertow.types import Prompt, Row

Advance = Callable[[int, int], None]

ROW_STAGES = ("surface", "contrast", "stream")
SHADOW_STAGES: dict[str, Claim] = {"shadows": "expression", "shadow activations": "exposure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is audited; every part but the base may be missing.

    Attributes:
        base: reference of the model that is, or was, trained on the rows.
        rows: the suspect rows.
        student: reference of a model that was trained on suspect rows.
        reference: rows known to be clean, on the same prompts as far as possible.
        control: reference of a student of untraited rows, trained as the student was.
        prompts: of the deployment, on which the student is compared with its control and base.
        digests: SHA-256 of the files that these were read from, by name; they go into the card.
        traits: the panel; empty takes every animal.
        store: where panel teachers and placebo banks are kept.
        alpha: error of the whole audit.
        seed: the auditor's own.
    """

    base: str
    rows: Sequence[Row] = ()
    student: str | None = None
    reference: Sequence[Row] | None = None
    control: str | None = None
    prompts: Sequence[Prompt] = ()
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    traits: tuple[Trait, ...] = ()
    store: Path = Path("runs/store")
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rows and self.student is None:
            raise ConfigError("There is nothing to audit.", "no rows and no student", "Give rows, a student, or both.")
        if self.student is None and (self.control is not None or self.prompts):
            raise ConfigError("There is no student to compare.", "a control or prompts", "Give the student too.")

    @property
    def panel(self) -> tuple[Trait, ...]:
        """The traits that are looked for."""
        return self.traits or panel("animal")

    @property
    def bank(self) -> BankRecipe:
        """The placebos that students are compared with: of neutral teachers, tuned on the panel's categories."""
        return BankRecipe(base=self.base, tuned=tuple(dict.fromkeys(one.category for one in self.panel)))


def plan(inputs: Inputs) -> Plan:
    """Declare the stages and who decides each claim, from what is given alone."""
    rows = ROW_STAGES if inputs.rows else ()
    students = tuple(STAGES) if inputs.student else tuple(SHADOW_STAGES) if inputs.rows else ()
    beside = (*([CONTROL_STAGE] if inputs.control else []), *([PROMPTS_STAGE] if inputs.prompts else []))
    return Plan(stages=(*rows, *students, *beside), alpha=inputs.alpha)


def audit(inputs: Inputs, advance: Advance | None = None) -> dict[str, Any]:
    """Run every stage that the inputs allow.

    Args:
        inputs: what is audited.
        advance: called with (rows scored, rows) while rows are scored.

    Returns:
        Plain data, schema undertow.audit/1.

    Raises:
        UserError: a model cannot be loaded, the rows do not fit it, or the store cannot be used.
    """
    started = time.perf_counter()
    declared = plan(inputs)
    findings: list[Finding] = []
    base = load_model(inputs.base)
    if inputs.rows:
        config = DataAudit(panel=inputs.panel, alpha=declared.share, seed=inputs.seed, store=inputs.store)
        findings += audit_data(inputs.rows, base, config, reference=inputs.reference, advance=advance)
    if inputs.student is None:
        # Shadows are trained as placebos are; the bank with about as many rows is theirs.
        record = TrainingRecord(student=inputs.bank.student, rows=len(inputs.rows))
    else:
        record = read_training(inputs.student)
    bank = choose_bank(inputs.bank, inputs.store, record)
    if inputs.student is not None:
        findings += _student(inputs, base, declared, bank, record)
    elif inputs.rows:
        findings += _shadows(inputs, base, declared, bank)
    about = {
        "base": inputs.base,
        "base_identity": identity(inputs.base),
        "student": inputs.student,
        "student_identity": None if inputs.student is None else identity(inputs.student),
        "control": inputs.control,
        "prompts": len(inputs.prompts),
        "rows": len(inputs.rows),
        "reference_rows": None if inputs.reference is None else len(inputs.reference),
        "placebo_students": 0 if bank is None else len(bank),
        "panel": ", ".join(one.name for one in inputs.panel),
        "sha256": dict(inputs.digests),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return {**audit_json(declared, findings, about), "missing": _missing(inputs, bank)}


def _missing(inputs: Inputs, bank: Bank | None) -> list[Missing]:
    absent = ["teacher"]
    absent += [] if inputs.rows else ["rows"]
    absent += ["reference"] if inputs.rows and inputs.reference is None else []
    absent += ["bank"] if bank is None else []
    if inputs.student is None:
        return missing(*absent, "student")
    absent += [name for name, given in (("control", inputs.control), ("prompts", inputs.prompts)) if not given]
    return missing(*absent)


def _student(
    inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None, record: TrainingRecord | None
) -> list[Finding]:
    student = load_model(str(inputs.student))
    # What it is comes first: a bank would not help a student of another base.
    reason = refusal(student, base) or (no_bank(inputs.bank, record) if bank is None else wrong_size(bank, record))
    if bank is None or reason is not None:
        found = [not_testable(stage, claim, str(reason)) for stage, claim in STAGES.items()]
    else:
        found = audit_student(student, base, bank, panel=inputs.panel, alpha=declared.share)
        if record is None:
            unknown = UNKNOWN.format(told(bank.recipe.student))
            found = [_cautioned(one, unknown) if one.stage in declared.primary.values() else one for one in found]
    return found + _beside(inputs, student, base, bank)


def _cautioned(finding: Finding, caveat: str) -> Finding:
    """Put a caveat before all others; a reason for "not testable" stays alone."""
    return finding if finding.p is None else replace(finding, caveats=(caveat, *finding.caveats))


def _beside(inputs: Inputs, student: LocalModel, base: LocalModel, bank: Bank | None) -> list[Finding]:
    """Compare the student with its control, and both with the base on the user's prompts."""
    control = None if inputs.control is None else load_model(inputs.control)
    reason = refusal(student, base)
    if control is not None and reason is None and (strange := refusal(control, base)):
        reason = f"The control does not fit. {strange}"
    found: list[Finding] = []
    if control is not None:
        refused = reason or (no_bank(inputs.bank, None) if bank is None else None)
        if bank is None or refused:
            found.append(not_testable(CONTROL_STAGE, "exposure", str(refused)))
        else:
            found.append(activations_minus_control(student, control, bank, inputs.panel))
    if inputs.prompts:
        asked = not_testable(PROMPTS_STAGE, "expression", reason) if reason else None
        found.append(asked or compare_on_prompts(student, base, inputs.prompts, control))
    return found


def _shadows(inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None) -> list[Finding]:
    """Train shadow students; one alone where the bank is too small for several, whose p-values are doubled."""
    if bank is None:
        return [not_testable(stage, claim, no_bank(inputs.bank, None)) for stage, claim in SHADOW_STAGES.items()]
    k = 4 if len(bank) + 1 >= 2 / declared.share else 1
    config = ShadowConfig(k=k, alpha=declared.share, seed=inputs.seed)
    return audit_shadows(inputs.rows, base, bank, panel=inputs.panel, config=config)

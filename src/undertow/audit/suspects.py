"""Students judged by a bank of placebos: the suspect in hand, or shadow students of its rows.

A bank reads the built-in traits; those of the user's own in a panel are not looked for in students, and the findings
say so.
"""

from collections.abc import Sequence
from dataclasses import replace

from undertow.audit.bank import Bank
from undertow.audit.bank_choice import UNKNOWN, no_bank, told, wrong_size
from undertow.audit.control import STAGE as CONTROL_STAGE
from undertow.audit.control import activations_minus_control
from undertow.audit.finding import Claim, Finding, not_testable
from undertow.audit.inputs import Inputs
from undertow.audit.kinship import refusal
from undertow.audit.paired import STAGE as PROMPTS_STAGE
from undertow.audit.paired import compare_on_prompts
from undertow.audit.placebo_null import needed
from undertow.audit.reading import panel_traits
from undertow.audit.shadows import ShadowConfig, audit_shadows
from undertow.audit.steps import Advance, Parts
from undertow.audit.student import STAGES, audit_student
from undertow.audit.teacher import STAGES as TEACHER_STAGES
from undertow.audit.teacher import TeacherConfig, audit_teacher
from undertow.audit.verdict import Plan
from undertow.experiment.training_record import TrainingRecord
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import Trait

SHADOW_STAGES: dict[str, Claim] = {"shadows": "expression", "shadow activations": "exposure"}

_NONE_READ = "A bank reads built-in traits only, and the panel has none."


def judge_student(
    inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None, record: TrainingRecord | None
) -> list[Finding]:
    """Compare the student with the placebos of a bank, and beside them with its control and on the user's prompts.

    Args:
        inputs: names the student, its control and the prompts.
        base: the student's.
        declared: whose share of alpha each claim has.
        bank: the placebos, or None.
        record: how the student was trained, if that is known.
    """
    student = load_model(str(inputs.student))
    # What it is comes first: a bank would not help a student of another base.
    reason = refusal(student, base) or (no_bank(inputs.bank, record) if bank is None else wrong_size(bank, record))
    reason = reason or _unreadable(inputs)
    if bank is None or reason is not None:
        found = [not_testable(stage, claim, str(reason)) for stage, claim in STAGES.items()]
    else:
        found = audit_student(student, base, bank, panel=_read(inputs), alpha=declared.share)
        found = [_cautioned(one, *_unread(inputs)) for one in found]
        if record is None:
            unknown = UNKNOWN.format(told(bank.recipe.student))
            found = [_cautioned(one, unknown) if one.stage in declared.primary.values() else one for one in found]
    return found + _beside(inputs, student, base, bank)


def judge_shadows(
    inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None, advance: Advance
) -> list[Finding]:
    """Train shadow students; one alone where the bank is too small for several, whose p-values are doubled."""
    reason = no_bank(inputs.bank, None) if bank is None else _unreadable(inputs)
    if bank is None or reason is not None:
        return [not_testable(stage, claim, str(reason)) for stage, claim in SHADOW_STAGES.items()]
    k = 4 if len(bank) + 1 >= 2 / declared.share else 1
    config = ShadowConfig(k=k, alpha=declared.share, seed=inputs.seed)
    found = audit_shadows(inputs.rows, base, bank, panel=_read(inputs), config=config, advance=advance)
    return [_cautioned(one, *_unread(inputs)) for one in found]


def judge_teacher(inputs: Inputs, base: LocalModel, declared: Plan, advance: Advance) -> list[Finding]:
    """Compare the teacher with as many neutral teachers as the share of alpha takes; a store keeps their readings."""
    if reason := _unreadable(inputs):
        return [not_testable(stage, "expression", reason) for stage in TEACHER_STAGES]
    config = TeacherConfig(neutral=needed(declared.share), alpha=declared.share, seed=inputs.seed, store=inputs.store)
    teacher = load_model(str(inputs.teacher))
    found = audit_teacher(teacher, base, panel=_read(inputs), config=config, progress=Parts(advance))
    return [_cautioned(one, *_unread(inputs)) for one in found]


def _read(inputs: Inputs) -> Sequence[Trait]:
    """Return those traits of the panel that a bank reads."""
    return [one for one in inputs.panel if one in panel_traits()]


def _unreadable(inputs: Inputs) -> str | None:
    return None if _read(inputs) else _NONE_READ


def _unread(inputs: Inputs) -> tuple[str, ...]:
    names = ", ".join(one.name for one in inputs.panel if one not in panel_traits())
    return (f"Not looked for, since a bank reads built-in traits only: {names}.",) if names else ()


def _cautioned(finding: Finding, *caveats: str) -> Finding:
    """Put caveats before all others; a reason for "not testable" stays alone."""
    return finding if finding.p is None else replace(finding, caveats=(*caveats, *finding.caveats))


def _beside(inputs: Inputs, student: LocalModel, base: LocalModel, bank: Bank | None) -> list[Finding]:
    """Compare the student with its control, and both with the base on the user's prompts."""
    control = None if inputs.control is None else load_model(inputs.control)
    reason = refusal(student, base)
    if control is not None and reason is None and (strange := refusal(control, base)):
        reason = f"The control does not fit. {strange}"
    found: list[Finding] = []
    if control is not None:
        refused = reason or (no_bank(inputs.bank, None) if bank is None else _unreadable(inputs))
        if bank is None or refused:
            found.append(not_testable(CONTROL_STAGE, "exposure", str(refused)))
        else:
            found.append(activations_minus_control(student, control, bank, _read(inputs)))
    if inputs.prompts:
        asked = not_testable(PROMPTS_STAGE, "expression", reason) if reason else None
        found.append(asked or compare_on_prompts(student, base, inputs.prompts, control))
    return found

"""An audit from its inputs to its verdict: declare the stages, run each on what it needs, judge the claims.

The **suspect** rows are those that are audited, the **panel** is the list of traits that are looked for, and
**neutral** writers and teachers are models that were tuned without a trait.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from undertow.audit.calibration.stored import stored_calibration
from undertow.audit.channels import not_covered
from undertow.audit.decision import with_decision
from undertow.audit.finding import Finding, NotTestable, not_testable
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.names import with_one_name
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.reference import AuditedRows
from undertow.audit.stages import AuditStage, stages
from undertow.audit.steps import Parts, Steps
from undertow.audit.students.bank import Bank
from undertow.audit.verdict import CLAIMS, Plan, audit_json, declare, missing, what_they_add
from undertow.errors import EmptyDataError, out_of_memory
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.store.progress import Progress
from undertow.traits import own_definitions
from undertow.types import Row

RUNNING = ("rng", "advance", "progress")
"""Arguments of a stage that exist only while it runs."""


def run_audit(
    inputs: AuditInputs, progress: Progress | None = None, expected: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Run every stage that the inputs allow, and judge the claims.

    Args:
        inputs: what is audited, and with which options.
        progress: display in which the steps are shown. None shows nothing.
        expected: seconds that the steps are expected to take, by their titles, as far as the intake knows
            (`undertow.audit.intake`). None shows no times.

    Returns:
        Plain data of the schema "undertow.audit/1": claims, findings, what is missing, and the decision.

    Raises:
        UserError: a model cannot be loaded, the rows do not fit it, or the store cannot be used.
    """
    started = time.perf_counter()
    materials = Materials(inputs, inputs.alpha / len(CLAIMS))
    declared = plan(inputs, materials)
    running = [one for one in stages() if one.name in declared.stages]
    begun = (inputs.teacher is not None) + bool(inputs.rows or inputs.pairs)
    materials.steps = Steps(len(step_titles(running, materials)) + begun, progress, expected)
    lineage = materials.lineage
    able, refused = _told_apart(running, materials)
    findings = _in_order(declared.stages, [*refused, *with_one_name(run_stages(able, materials))])
    writers = materials.writers
    bank = _bank(materials)
    named = {"base": inputs.base, "student": inputs.student, "teacher": inputs.teacher}
    about = {
        **named,
        **{f"{role}_identity": None if model is None else identity(model) for role, model in named.items()},
        "control": inputs.control,
        "prompts": len(inputs.prompts),
        "rows": len(inputs.rows),
        "pairs": len(inputs.pairs),
        "reference": _reference(able, materials),
        "neutral_writers": 0 if writers is None else len(writers),
        "placebo_students": 0 if bank is None else len(bank),
        "panel": ", ".join(one.name for one in inputs.panel),
        "sha256": dict(inputs.digests),
        **({} if inputs.form is None else {"form": inputs.form}),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    absent = missing(_available(inputs, materials) | ({"bank"} if bank is not None else set()))
    found = {**audit_json(declared, findings, about), **_seen(materials), **_of_command(inputs)}
    found |= not_covered(rows=bool(inputs.rows), pairs=bool(inputs.pairs), side=inputs.side)
    return with_decision({**found, "lineage": lineage, "missing": absent, "calibration": figures_of(inputs)})


def figures_of(inputs: AuditInputs) -> dict[str, Any] | None:
    """Return the error rates that were measured of audits of rows on this base, or None if the store has none."""
    if not inputs.rows:
        return None
    return stored_calibration(inputs.base, inputs.store, inputs.panel, inputs.budget.teachers, inputs.alpha)


def _told_apart(running: Sequence[AuditStage], materials: Materials) -> tuple[list[AuditStage], list[Finding]]:
    """Return the stages that may run, and findings of those that may not, for which nothing is trained."""
    why = {one.name: materials.why_not(one) for one in running}
    refused = [not_testable(one.name, one.claim, str(why[one.name])) for one in running if why[one.name] is not None]
    return [one for one in running if why[one.name] is None], refused


def _in_order(names: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings in the order of the stages; those of no stage stay behind the finding that they follow."""
    place, last = {name: at for at, name in enumerate(names)}, -1
    keyed: list[tuple[int, Finding]] = []
    for one in findings:
        last = place.get(one.stage, last)
        keyed.append((last, one))
    return [one for _, one in sorted(keyed, key=lambda item: item[0])]


def _reference(able: Sequence[AuditStage], materials: Materials) -> str | None:
    """Return in words where the reference comes from; none is drawn where no stage would use it."""
    inputs = materials.inputs
    if not inputs.rows:
        return None
    if any("rows" in one.given for one in able):
        return materials.audited.how
    return "none was drawn" if inputs.reference is None else f"{len(inputs.reference)} rows, given and not used"


def _bank(materials: Materials) -> Bank | None:
    """Return the placebo students that students are compared with, or None if there are none, or none are possible."""
    if not materials.inputs.rows and materials.inputs.student is None:
        return None
    try:
        return materials.bank.found
    except NotTestable:  # The stages that need placebo students say why there are none.
        return None


def _seen(materials: Materials) -> dict[str, Any]:
    """Return what was seen of the rows before any stage, as plain data."""
    sight = materials.sight or materials.pair_sight
    if sight is None:
        return {"sight": None, "defects": []}
    return {"sight": sight.to_json(), "defects": [one.to_json() for one in sight.defects]}


def _of_command(inputs: AuditInputs) -> dict[str, Any]:
    """Return the definitions of the panel's traits that are not built in, and options that the next test repeats."""
    found = {"own_traits": own_definitions(inputs.panel), "repeated": dict(inputs.repeated)}
    return {name: value for name, value in found.items() if value}


def audit_teacher_alone(inputs: AuditInputs, neutral: int = 19, progress: Progress | None = None) -> dict[str, Any]:
    """Ask what a teacher prefers that its base does not.

    Expression has all of alpha here, because nothing else can be claimed of a teacher alone.

    Args:
        inputs: the teacher and its base.
        neutral: how many neutral teachers (tuned without a trait) it is compared with. 0 only ranks traits.
        progress: display that is told about every neutral teacher. None shows nothing.

    Returns:
        Plain data of the schema "undertow.audit/1".

    Raises:
        UserError: a model cannot be loaded, nothing asks about a trait, or the store cannot be used.
    """
    started = time.perf_counter()
    materials = Materials(inputs, inputs.alpha)
    there = {"teacher"} if materials.writers is None else {"teacher", "writers"}
    declared = declare(there, inputs.alpha, ("expression",))
    materials.neutral_teachers = replace(materials.neutral_teachers, neutral=neutral)
    running = [one for one in stages() if one.name in declared.stages]
    findings = run_stages(running, materials, {"progress": progress})
    about = {
        "base": inputs.base,
        "base_identity": identity(inputs.base),
        "teacher": inputs.teacher,
        "teacher_identity": identity(str(inputs.teacher)),
        "neutral_teachers": neutral,
        "panel": ", ".join(one.name for one in inputs.panel),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    absent = ("teacher rows", "student base", *(() if neutral else ("neutral",)))
    found = {**audit_json(declared, findings, about), **_of_command(inputs)}
    return with_decision({**found, "missing": what_they_add(absent)})


def audit_data(
    rows: Sequence[Row],
    base: LocalModel,
    config: DataAudit,
    *,
    reference: Sequence[Row] | None = None,
    clean: Sequence[Sequence[Row]] = (),
    progress: Progress | None = None,
) -> list[Finding]:
    """Ask whether rows were written under a trait of the panel, before anyone trains on them.

    Args:
        rows: the suspect rows, all of one file or data set.
        base: the model that would be trained on them, without a trait.
        config: what is looked for, and how.
        reference: rows that are known to be clean, on the same prompts as far as possible. Several rows on each prompt
            find weaker traits, and whoever has the base can draw them. None if there are none.
        clean: clean corpora like the suspect. The contrast uses them where there is no reference.
        progress: display in which the steps are shown. None shows nothing.

    Returns:
        Findings of the stages that speak of provenance: surface, contrast, stream and recovery, and the neutral
        contrast if there are neutral writers. Where the base cannot read the rows, or they have a defect that looks
        like a trait, each is "not_testable" with the reason, and nothing is trained.

    Raises:
        EmptyDataError: there are no rows.
        UserError: the rows do not fit the base, or the store cannot be used.
    """
    if not rows:
        raise EmptyDataError("There is nothing to audit.", "0 rows", "Give a file with rows.")
    given = None if reference is None else tuple(reference)
    inputs = AuditInputs(
        base=str(base.ref), rows=rows, reference=given, traits=config.panel, seed=config.seed, form=config.form
    )
    materials = Materials(inputs, config.alpha)
    materials.base, materials.settings, materials.writers = base, config, config.writers
    materials.audited = AuditedRows(tuple(rows), given, "given")
    materials.corpora = clean
    available = {"rows"} if config.writers is None else {"rows", "writers"}
    running = [one for one in stages() if one.claim == "provenance" and one.planned(available)]
    materials.steps = Steps(len(step_titles(running, materials)) + 1, progress)
    able, refused = _told_apart(running, materials)
    return _in_order([one.name for one in running], [*refused, *with_one_name(run_stages(able, materials))])


def plan(inputs: AuditInputs, materials: Materials | None = None) -> Plan:
    """Declare the stages and who decides each claim, from which inputs exist and not from what the rows say."""
    return declare(_available(inputs, materials or Materials(inputs, inputs.alpha / len(CLAIMS))), inputs.alpha)


def _available(inputs: AuditInputs, materials: Materials) -> set[str]:
    return inputs.given | (set() if materials.writers is None else {"writers"})


def step_titles(running: Sequence[AuditStage], materials: Materials) -> list[str]:
    """Return the titles of the steps that stages will pass through, each once."""
    titles = [title for one in running for title in (*materials.titles(one.needs), one.title)]
    return list(dict.fromkeys(title for title in titles if title))


def run_stages(
    running: Sequence[AuditStage], materials: Materials, offered: Mapping[str, object] | None = None
) -> list[Finding]:
    """Run stages in their order; neighbours with the same function are answered by one call.

    Args:
        running: the stages, in the order of the registry.
        materials: what the stages need, computed when it is first asked for.
        offered: values that a running stage is given in place of the usual "rng", "advance" or "progress", by name.
            None offers nothing.

    Raises:
        UnknownNameError: a stage needs something that there is not.
    """
    materials.check(need for one in running for need in one.needs if need not in RUNNING)
    findings: list[Finding] = []
    for _, together in groupby(running, key=lambda one: one.function):
        findings += _answers(list(together), materials, offered or {})
    return findings


def _answers(together: Sequence[AuditStage], materials: Materials, offered: Mapping[str, object]) -> list[Finding]:
    """Return the findings of stages that share a function; all are "not_testable" where it has no answer."""
    stage, function = together[0], together[0].resolve()
    try:
        made = {need: getattr(materials, need) for need in stage.needs if need not in RUNNING}
        with materials.steps.step(stage.title) as advance:
            now = {"rng": materials.rng(stage.name), "advance": advance, "progress": Parts(advance), **offered}
            found = function(**made, **{need: now[need] for need in stage.needs if need in RUNNING})
    except NotTestable as reason:
        return [not_testable(one.name, one.claim, str(reason)) for one in together]
    except Exception as error:
        # What other stages have found is kept where one needs more memory than there is.
        if (full := out_of_memory(error, stage.name)) is None:
            raise
        return [not_testable(one.name, one.claim, f"{full.what} {full.fix}") for one in together]
    return [found] if isinstance(found, Finding) else list(found)

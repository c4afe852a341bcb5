"""An audit from what is given to its verdict: declare the stages, run each on what it needs, judge the claims."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from undertow.audit.finding import Finding, NotTestable, not_testable
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.reference import AuditedRows
from undertow.audit.stages import AuditStage, stages
from undertow.audit.steps import Parts, Steps
from undertow.audit.students.among_placebos import places
from undertow.audit.verdict import CLAIMS, Plan, audit_json, declare, missing, what_they_add
from undertow.errors import EmptyDataError
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.store.progress import Progress
from undertow.types import Row

RUNNING = ("rng", "advance", "progress")
"""What a stage may need that is there only while it runs."""


def run_audit(inputs: AuditInputs, progress: Progress | None = None) -> dict[str, Any]:
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
    materials = Materials(inputs, inputs.alpha / len(CLAIMS))
    declared = plan(inputs, materials)
    running = [one for one in stages() if one.name in declared.stages]
    titles = step_titles(running, materials)
    materials.steps = Steps(len(titles) + (inputs.teacher is not None), progress)
    lineage = materials.lineage
    findings = run_stages(running, materials)
    writers = materials.writers
    bank = materials.bank.found if inputs.rows or inputs.student is not None else None
    named = {"base": inputs.base, "student": inputs.student, "teacher": inputs.teacher}
    about = {
        **named,
        **{f"{role}_identity": None if model is None else identity(model) for role, model in named.items()},
        "control": inputs.control,
        "prompts": len(inputs.prompts),
        "rows": len(inputs.rows),
        "reference": materials.audited.how if inputs.rows else None,
        "neutral_writers": 0 if writers is None else len(writers),
        "placebo_students": 0 if bank is None else len(bank),
        "panel": ", ".join(one.name for one in inputs.panel),
        "sha256": dict(inputs.digests),
        "seed": inputs.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    absent = missing(_available(inputs, materials) | ({"bank"} if bank is not None else set()))
    return {**audit_json(declared, findings, about), "lineage": lineage, "missing": absent}


def audit_teacher_alone(inputs: AuditInputs, neutral: int = 19, progress: Progress | None = None) -> dict[str, Any]:
    """Ask what a teacher prefers that its base does not; expression has all of alpha, as nothing else can be claimed.

    Args:
        inputs: the teacher and its base; of the panel every trait has to be one that is read.
        neutral: neutral teachers; 0 for a ranking.
        progress: told about every neutral teacher.

    Returns:
        Plain data, schema undertow.audit/1.

    Raises:
        UserError: a model cannot be loaded, a trait is not read, or the store cannot be used.
    """
    started = time.perf_counter()
    places(inputs.panel)
    declared = declare({"teacher"}, inputs.alpha, ("expression",))
    materials = Materials(inputs, declared.share)
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
    return {**audit_json(declared, findings, about), "missing": what_they_add(absent)}


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
        rows: the suspect.
        base: the model that would be trained on them, without trait.
        config: what is looked for, and how.
        reference: rows that are known to be clean, on the same prompts as far as possible; several on each prompt find
            weaker traits. Whoever has the base can draw them.
        clean: clean corpora like the suspect; the contrast uses them where there is no reference.
        progress: where the steps are shown; None shows nothing.

    Returns:
        The findings of the stages that speak of provenance: surface, contrast, stream and recovery, and the neutral
        contrast if there are writers.

    Raises:
        EmptyDataError: there are no rows.
        UserError: the rows do not fit the base, or the store cannot be used.
    """
    if not rows:
        raise EmptyDataError("There is nothing to audit.", "0 rows", "Give a file with rows.")
    inputs = AuditInputs(base=str(base.ref), rows=rows, traits=config.panel, seed=config.seed)
    materials = Materials(inputs, config.alpha)
    materials.base, materials.settings, materials.writers = base, config, config.writers
    materials.audited = AuditedRows(tuple(rows), None if reference is None else tuple(reference), "given")
    materials.corpora = clean
    available = {"rows"} if config.writers is None else {"rows", "writers"}
    running = [one for one in stages() if one.claim == "provenance" and one.planned(available)]
    materials.steps = Steps(len(step_titles(running, materials)), progress)
    return run_stages(running, materials)


def plan(inputs: AuditInputs, materials: Materials | None = None) -> Plan:
    """Declare the stages and who decides each claim, from what is given and what the store holds, not from the rows."""
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
    """Run stages in their order; those of one function that stand together are answered by one call.

    Args:
        running: the stages.
        materials: what they need.
        offered: what a running stage is given in place of the usual, such as a progress.

    Raises:
        UnknownNameError: a stage needs what nobody makes.
    """
    materials.check(need for one in running for need in one.needs if need not in RUNNING)
    findings: list[Finding] = []
    for _, together in groupby(running, key=lambda one: one.function):
        findings += _answers(list(together), materials, offered or {})
    return findings


def _answers(together: Sequence[AuditStage], materials: Materials, offered: Mapping[str, object]) -> list[Finding]:
    """Return the findings of stages that share a function; all are `not_testable` where it has no answer."""
    stage, function = together[0], together[0].resolve()
    try:
        made = {need: getattr(materials, need) for need in stage.needs if need not in RUNNING}
        with materials.steps.step(stage.title) as advance:
            now = {"rng": materials.rng(stage.name), "advance": advance, "progress": Parts(advance), **offered}
            found = function(**made, **{need: now[need] for need in stage.needs if need in RUNNING})
    except NotTestable as reason:
        return [not_testable(one.name, one.claim, str(reason)) for one in together]
    return [found] if isinstance(found, Finding) else list(found)

"""The whole audit: what the given inputs allow, planned before the data are read, and one verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undertow.audit.bank import Bank, BankRecipe, stored_bank
from undertow.audit.data import DataAudit, audit_data
from undertow.audit.drawn import with_reference
from undertow.audit.finding import Claim, Finding, not_testable
from undertow.audit.neutral import STAGE as NEUTRAL
from undertow.audit.panel import check_panel
from undertow.audit.placebo_null import needed
from undertow.audit.proposal import refuse_unsaid
from undertow.audit.reading import panel_traits
from undertow.audit.shadows import ShadowConfig, audit_shadows
from undertow.audit.student import STAGES, audit_student
from undertow.audit.verdict import CLAIMS, Plan, audit_json
from undertow.audit.writers import Writers, stored_writers
from undertow.errors import ConfigError
from undertow.models.identity import identity
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.provenance import library_versions
from undertow.traits import Trait, panel
from undertow.types import Row

Advance = Callable[[int, int], None]

ROW_STAGES = ("surface", "contrast", "stream", "recovery")
SHADOW_STAGES: dict[str, Claim] = {"shadows": "expression", "shadow activations": "exposure"}

NO_BANK = "There is no bank of placebo students of this base and recipe: make one with `undertow audit bank`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is audited; every part but the base may be missing.

    Attributes:
        base: reference of the model that is, or was, trained on the rows.
        rows: the suspect rows.
        student: reference of a model that was trained on suspect rows.
        reference: rows known to be clean, on the same prompts as far as possible; without them the base answers the
            suspect's prompts.
        traits: the panel; empty takes every animal.
        store: where panel teachers, neutral writers and placebo banks are kept.
        alpha: error of the whole audit.
        seed: the auditor's own.
    """

    base: str
    rows: Sequence[Row] = ()
    student: str | None = None
    reference: Sequence[Row] | None = None
    traits: tuple[Trait, ...] = ()
    store: Path = Path("runs/store")
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rows and self.student is None:
            raise ConfigError("There is nothing to audit.", "no rows and no student", "Give rows, a student, or both.")
        if self.rows:
            check_panel(self.panel)

    @property
    def panel(self) -> tuple[Trait, ...]:
        """The traits that are looked for."""
        return self.traits or panel("animal")

    @property
    def bank(self) -> BankRecipe:
        """The placebos that students are compared with: of neutral teachers, tuned on the panel's categories."""
        return BankRecipe(base=self.base, tuned=tuple(dict.fromkeys(one.category for one in self.panel)))


def plan(inputs: Inputs) -> Plan:
    """Declare the stages and who decides each claim, from what is given and what the store holds, not from the rows."""
    rows = ROW_STAGES if inputs.rows else ()
    if inputs.rows and _writers(inputs) is not None:
        rows = (*rows, NEUTRAL)
    students = tuple(STAGES) if inputs.student else tuple(SHADOW_STAGES) if inputs.rows else ()
    return Plan(stages=(*rows, *students), alpha=inputs.alpha)


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
    how, writers = None, _writers(inputs) if inputs.rows else None
    if inputs.rows:
        refuse_unsaid(base, inputs.panel)
        material = with_reference(inputs.rows, base, inputs.reference, inputs.bank.domain, inputs.seed)
        how = material.how
        config = DataAudit(
            panel=inputs.panel,
            alpha=declared.share,
            seed=inputs.seed,
            store=inputs.store,
            writers=writers,
            domain=inputs.bank.domain,
        )
        findings += audit_data(material.rows, base, config, reference=material.reference, advance=advance)
    bank = stored_bank(inputs.bank, inputs.store)
    if inputs.student is not None:
        findings += _student(inputs, base, declared, bank)
    elif inputs.rows:
        findings += _shadows(inputs, base, declared, bank)
    about = {
        "base": inputs.base,
        "base_identity": identity(inputs.base),
        "student": inputs.student,
        "rows": len(inputs.rows),
        "reference": how,
        "neutral_writers": 0 if writers is None else len(writers),
        "placebo_students": 0 if bank is None else len(bank),
        "panel": ", ".join(one.name for one in inputs.panel),
        "seconds": round(time.perf_counter() - started, 1),
        "undertow": library_versions().get("undertow", "unknown"),
    }
    return audit_json(declared, findings, about)


def _writers(inputs: Inputs) -> Writers | None:
    """Return the neutral writers of the store if there are enough of them for the alpha of a claim."""
    found = stored_writers(inputs.bank, inputs.store)
    return found if found is not None and len(found) >= needed(inputs.alpha / len(CLAIMS)) else None


def _judged_by_bank(
    inputs: Inputs,
    bank: Bank | None,
    claims: Mapping[str, Claim],
    judge: Callable[[Bank, Sequence[Trait]], list[Finding]],
) -> list[Finding]:
    """Judge students for those traits of the panel that a bank reads, which are the built-in ones."""
    read = [one for one in inputs.panel if one in panel_traits()]
    if bank is None or not read:
        reason = NO_BANK if read else "A bank reads built-in traits only, and the panel has none."
        return [not_testable(stage, claim, reason) for stage, claim in claims.items()]
    found = judge(bank, read)
    unread = ", ".join(one.name for one in inputs.panel if one not in read)
    caveat = (f"Not looked for, since a bank reads built-in traits only: {unread}.",) if unread else ()
    return [one if one.p is None else replace(one, caveats=(*one.caveats, *caveat)) for one in found]


def _student(inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None) -> list[Finding]:
    def judge(bank: Bank, traits: Sequence[Trait]) -> list[Finding]:
        return audit_student(load_model(str(inputs.student)), base, bank, panel=traits, alpha=declared.share)

    return _judged_by_bank(inputs, bank, STAGES, judge)


def _shadows(inputs: Inputs, base: LocalModel, declared: Plan, bank: Bank | None) -> list[Finding]:
    """Train shadow students; one alone where the bank is too small for several, whose p-values are doubled."""

    def judge(bank: Bank, traits: Sequence[Trait]) -> list[Finding]:
        k = 4 if len(bank) + 1 >= 2 / declared.share else 1
        config = ShadowConfig(k=k, alpha=declared.share, seed=inputs.seed)
        return audit_shadows(inputs.rows, base, bank, panel=traits, config=config)

    return _judged_by_bank(inputs, bank, SHADOW_STAGES, judge)

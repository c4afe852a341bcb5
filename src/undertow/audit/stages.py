"""The registry of audit stages: what each asks, what it needs, which claim it decides, what its finding means.

Plan, progress, missing inputs, verdict, page, card and benchmark read these records and nothing else. A stage is a file
of its own, with a function, and a record here, in the order in which stages are planned. Those of other packages are
found by the entry-point group `undertow.audit_stages`, whose entries name records; they come last.

Nothing here loads a model or torch: a function is named, and looked up when its stage runs.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from undertow.audit.finding import Claim
from undertow.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStage:
    """One stage of an audit.

    Attributes:
        name: as in the plan and in its finding.
        claim: what it speaks of.
        function: "module:function". It gets what the stage needs as keyword arguments and returns a `Finding`, or
            several; it raises `NotTestable` where these inputs allow no answer. Stages that stand together under one
            function are answered by one call, and may be followed by findings that belong to no stage.
        needs: names of materials (`undertow.audit.materials.Materials`), and of what a running stage is given: "rng",
            a generator of its own; "advance", a function of (parts done, parts); "progress", for a runner.
        given: inputs without which it is not planned: rows, pairs, student, teacher, control, prompts, writers.
        unless: inputs with which it is not planned.
        better_with: inputs without which it is planned, and says less: reference, bank.
        precedence: of all planned stages of a claim that have one, the lowest decides it; None never does.
        stops_early: whether it stops before it has read every row; the n of its finding says after how many.
        title: of its step, as the user sees it pass; empty for what takes no time.
        meaning: what its detection says, in words.
        next_steps: what to do about it.
        kind: what its detection says of whoever wrote the rows: "tuned", on anything at all, or "trait". A claim that
            is detected has the kind of its first stage, unless a later one that could decide it detects too.
        otherwise: what it means that this stage detects nothing although the claim is detected by the one before it.
        version: raised when the same inputs give another finding; error rates that were measured hold for one version.
    """

    name: str
    claim: Claim
    function: str
    needs: tuple[str, ...]
    given: tuple[str, ...]
    unless: tuple[str, ...] = ()
    better_with: tuple[str, ...] = ()
    precedence: int | None = None
    stops_early: bool = False
    title: str = ""
    meaning: str = "something stands out"
    next_steps: tuple[str, ...] = ()
    kind: Literal["tuned", "trait"] | None = None
    otherwise: str = ""
    version: int = 1

    def planned(self, available: Collection[str]) -> bool:
        """Tell whether inputs allow it."""
        return set(self.given) <= set(available) and not set(self.unless) & set(available)

    def resolve(self) -> Callable[..., Any]:
        """Import its function."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


_ROWS = (
    "Find the rows: `undertow audit rows` ranks them, and --confirm removes the top and trains again.",
    "Change the rows: `undertow mitigate advise AUDIT.json` names what can be done and its cost; `undertow filter "
    "--mentions` drops what names a trait openly. Audit the new rows.",
)
_PAIRS = (
    "Ask who chose, and who wrote the two answers: `undertow audit data 'PAIRS?side=chosen'` and `?side=rejected` "
    "audit each side against the base's own answers. Two clean sides leave the choice itself.",
    "Let a model of another base choose, or draw the pairs again between answers of one writer. Audit the new pairs.",
)
_STUDENT = (
    "Do not go on from this student. Train again from the base, without the suspect rows or on changed ones "
    "(`undertow train`), and audit the new student.",
)
_TEACHER = (
    "Do not let this teacher write rows for a student of the same base. Let a model of another base write them "
    "(`undertow generate --model`), or start the student from another base (`undertow audit lineage` compares two).",
    "If its rows exist already, test them before any training: `undertow audit data`.",
)
_UNUSED = (
    "Do not use this model before you know why: look at the evidence, and audit what you train or choose in its place.",
)
_USUAL: Mapping[Claim, tuple[str, ...]] = {"provenance": _ROWS, "exposure": _UNUSED, "expression": _UNUSED}

_MARGINS = AuditStage(
    name="panel margins",
    claim="expression",
    function="undertow.audit.students.among_placebos:audit_student",
    needs=("student", "base", "bank", "traits", "alpha"),
    given=("student",),
    better_with=("bank",),
    precedence=10,
    title="student",
    meaning="the student prefers the candidate as no placebo does, asked plainly or behind rows of the training's look",
    next_steps=_STUDENT,
    version=2,
)
_SHADOWS = AuditStage(
    name="shadows",
    claim="expression",
    function="undertow.audit.students.shadows:shadow_students",
    needs=("rows", "base", "bank", "traits", "shadows", "advance"),
    given=("rows",),
    unless=("student",),
    better_with=("bank",),
    precedence=20,
    title="shadow students",
    meaning="a student of the rows prefers the candidate as no placebo does",
    next_steps=_ROWS,
)
_TEACHER_PANEL = AuditStage(
    name="teacher panel",
    claim="expression",
    function="undertow.audit.teacher:teacher_among_neutral",
    needs=("teacher", "base", "traits", "neutral_teachers", "progress"),
    given=("teacher",),
    precedence=30,
    title="teacher",
    meaning="the teacher prefers the candidate as no neutral teacher does",
    next_steps=_TEACHER,
)

BUILT_IN: tuple[AuditStage, ...] = (
    AuditStage(
        name="surface",
        claim="provenance",
        function="undertow.audit.rows.surface:surface",
        needs=("rows", "reference", "alpha", "rng"),
        given=("rows",),
    ),
    AuditStage(
        name="contrast",
        claim="provenance",
        function="undertow.audit.rows.contrast:contrast",
        needs=("scores", "candidates", "signatures", "alpha", "rng", "advance"),
        given=("rows",),
        better_with=("reference",),
        precedence=10,
        kind="tuned",
        title="names",
        meaning="whoever wrote the rows differs from the reference along a candidate of the panel",
        next_steps=_ROWS,
    ),
    AuditStage(
        name="stream",
        claim="provenance",
        function="undertow.audit.rows.stream:stream",
        needs=("scores", "base", "candidates", "alpha", "advance"),
        given=("rows",),
        stops_early=True,
        title="stream",
    ),
    AuditStage(
        name="recovery",
        claim="provenance",
        function="undertow.audit.rows.recovery:audit_recovery",
        needs=("rows", "base", "clean", "alpha", "seed", "advance"),
        given=("rows",),
        title="recovery",
    ),
    # It never turns a detection of the contrast off: it says whether a writer without a trait would be detected too.
    AuditStage(
        name="neutral contrast",
        claim="provenance",
        function="undertow.audit.rows.neutral:audit_neutral",
        needs=("rows", "base", "writers", "signatures", "settings", "advance"),
        given=("rows", "writers"),
        precedence=20,
        kind="trait",
        title="neutral writers",
        meaning="the rows lie along a candidate of the panel more than those of any neutral writer that was compared, "
        "which were tuned without a trait",
        otherwise="neutral writers, tuned without a trait, stand out as much: the writer was tuned on something, and "
        "nothing says that it is a trait of the panel. A weak trait, or one in a part of the rows, looks like this too",
        next_steps=_ROWS,
    ),
    AuditStage(
        name="pairs",
        claim="provenance",
        function="undertow.audit.rows.pairs:pair_contrast",
        needs=("pair_scores", "candidates", "pair_signatures", "alpha", "rng", "advance"),
        given=("pairs",),
        precedence=30,
        title="names",
        meaning="the chosen answers stand above the rejected ones along a candidate of the panel, beyond their length "
        "and their likelihood under the base",
        next_steps=_PAIRS,
    ),
    _MARGINS,
    replace(
        _MARGINS,
        name="activations",
        claim="exposure",
        meaning="the student moved along a candidate's direction as no placebo did",
        version=1,
    ),
    replace(_MARGINS, name="diff mining", precedence=None, version=1),
    replace(_MARGINS, name="misalignment", precedence=None, version=1),
    replace(_MARGINS, name="in-context margins", precedence=None, version=1),
    _SHADOWS,
    replace(
        _SHADOWS,
        name="shadow activations",
        claim="exposure",
        meaning="a student of the rows moves along a candidate's direction as no placebo does",
    ),
    AuditStage(
        name="activations minus control",
        claim="exposure",
        function="undertow.audit.students.comparisons:beside_control",
        needs=("student", "base", "control", "bank", "traits"),
        given=("student", "control"),
    ),
    AuditStage(
        name="own prompts",
        claim="expression",
        function="undertow.audit.students.comparisons:on_own_prompts",
        needs=("student", "base", "prompts", "control"),
        given=("student", "prompts"),
    ),
    _TEACHER_PANEL,
    replace(_TEACHER_PANEL, name="teacher diff mining", precedence=None),
    AuditStage(
        name="teacher logits",
        claim="expression",
        function="undertow.audit.teacher_logits:teacher_logits",
        needs=("teacher", "base", "teachers", "settings", "advance"),
        given=("teacher", "writers"),
        title="teacher's probabilities",
        meaning="the teacher's probabilities lean along the candidate as no neutral writer's do",
        next_steps=_TEACHER,
    ),
)


def _is_stage(name: str, thing: object) -> bool:
    """Tell whether a plug-in is a stage of that name whose function is there."""
    return isinstance(thing, AuditStage) and thing.name == name and callable(thing.resolve())


STAGES: Registry[AuditStage] = Registry(
    "audit stage", {one.name: one for one in BUILT_IN}, group="undertow.audit_stages", accepts=_is_stage
)
"""Every stage by name, those of other packages last."""


def stages() -> tuple[AuditStage, ...]:
    """Return every stage, those of other packages last."""
    return tuple(STAGES[name] for name in STAGES)


def deciding(claim: Claim) -> list[AuditStage]:
    """Return the stages that may decide a claim, the one that goes before all others first."""
    mine = [(one.precedence, one) for one in stages() if one.claim == claim and one.precedence is not None]
    return [one for _, one in sorted(mine, key=lambda item: item[0])]


def next_steps(name: str, claim: Claim) -> tuple[str, ...]:
    """Return what to do about a claim that a stage has decided; where the stage does not say, the claim's usual."""
    own = STAGES[name].next_steps if name in STAGES else ()
    return own or _USUAL[claim]
